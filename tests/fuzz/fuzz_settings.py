"""Settings files, as YAML and as settings.

Allowed outcomes, for any bytes:
- ConfigError with at least one issue, each with a place and a sentence;
- a mapping whose keys are text and whose values are YAML 1.2 core words, lists and mappings of them, and what the
  gateway makes of it: a configuration, or ConfigError.
"""

import math
import tempfile
from pathlib import Path

from gateway.config import load_config
from sallyport.net.yaml_file import read_yaml
from sallyport.settings import ConfigError
from tests.support.fuzzing import run

SEEDS = (
    b"listen: {proxy: 127.0.0.1:3128, admin: off}\ntokens: {public_key: keys/a.pem}\nnetwork: {allow: [10.0.0.0/8]}\n",
    b"credentials:\n  con_1: {env: NAME}\n  con_1/api_key/slot: {file: a}\ntimeouts: {head: 1.5s}\nlimits: {x: 1KiB}",
    b"a: &x {k: 1s}\nb: {<<: *x, l: ~}\nc: [true, 010, -1.5, '8', !!int 7, !!bool x]\n",
    b"a: !!map x\nb: !!timestamp 2001-01-01\nc: !!binary aa==\nd: !!set {a}\ne: !<tag:yaml.org,2002:null> x\n",
    b"upstream: {connect_to: {'a.test:443': '127.0.0.1:8443'}, proxy: http://proxy.test:3128}\n",
    b"---\n[[[[{{{{? [a]\n: |\n  x\n...\n",
)
FOLDER = Path(tempfile.gettempdir())


def check(data: bytes) -> None:
    """Check one input."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            document = read_yaml(Path(file.name))
        except ConfigError as error:
            check_issues(error)
            return
    check_value(document)
    try:
        load_config(document, {}, FOLDER)
    except ConfigError as error:
        check_issues(error)


def check_issues(error: ConfigError) -> None:
    """There is at least one, and each says where and what."""
    assert error.issues
    assert all(issue.message for issue in error.issues)


def check_value(value: object) -> None:
    """It is made of words, lists and mappings alone."""
    if isinstance(value, dict):
        for name, member in value.items():
            assert type(name) is str
            check_value(member)
    elif isinstance(value, list):
        for item in value:
            check_value(item)
    else:
        assert value is None or type(value) in (str, int, bool, float)
        assert not isinstance(value, float) or math.isfinite(value)


if __name__ == "__main__":
    run(check, SEEDS)
