import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from sallyport.trust_env import NAMES
from tests.support.command import Outcome, call, command, spawn, write_plan

SECRET = "sk-real-canary-of-the-test"
# Says everything a sandbox process sees, and whether it can take the CA for a root.
SHOW = """
import json, os, ssl, sys
parent = f"/proc/{os.getppid()}/environ"
try:
    parent_environ = open(parent, "rb").read().decode("latin-1")
except OSError:
    parent_environ = ""
roots = len(ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"]).get_ca_certs())
alone = len(ssl.create_default_context(cafile=os.environ["NODE_EXTRA_CA_CERTS"]).get_ca_certs())
files = {name: os.path.exists(os.environ[name]) for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")}
json.dump({"env": dict(os.environ), "roots": roots, "alone": alone, "files": files, "uid": os.getuid(),
           "parent": parent_environ}, sys.stdout)
sys.exit(7)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    write_plan(path / "plan.json")
    (path / "gateway.yaml").write_text("credentials: {con_one: {env: REAL_KEY}}\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def surroundings() -> dict[str, str]:
    more = {"REAL_KEY": SECRET, "SSL_CERT_DIR": "/etc/ssl/certs", "SALLYPORT_SCRUB_ENABLED": "true", "MINE": "kept"}
    return {"PATH": os.environ["PATH"], "HOME": "/", **more}


@pytest.fixture(scope="module")
def shown(folder: Path, surroundings: dict[str, str]) -> Outcome:
    options = ["--config", "gateway.yaml", "--plan", "plan.json"]
    return spawn("run", *options, "--", sys.executable, "-c", SHOW, env=surroundings, cwd=folder)


def test_the_status_is_the_commands(shown: Outcome) -> None:
    assert shown.status == 7
    assert shown.err == ""


def test_every_variable_is_set_and_those_to_remove_are_not(shown: Outcome) -> None:
    environment = shown.json()["env"]
    assert set(environment) >= NAMES
    assert "SSL_CERT_DIR" not in environment
    assert environment["HTTPS_PROXY"].startswith("http://x:")
    assert environment["MINE"] == "kept"


def test_the_command_never_sees_the_credential(shown: Outcome) -> None:
    environment = shown.json()["env"]
    assert "REAL_KEY" not in environment
    assert not [name for name in environment if name.startswith("SALLYPORT_")]
    assert SECRET not in json.dumps(environment)


def test_nor_by_looking_at_its_parent(shown: Outcome) -> None:
    if shown.json()["uid"] == 0:
        pytest.skip("root may read every process")
    assert SECRET not in shown.json()["parent"]


def test_the_bundle_holds_the_ca_and_the_roots(shown: Outcome) -> None:
    seen = shown.json()
    assert seen["files"] == {"SSL_CERT_FILE": True, "NODE_EXTRA_CA_CERTS": True}
    assert seen["alone"] == 1
    assert seen["roots"] > seen["alone"] or not ssl.create_default_context().get_ca_certs()


def test_nothing_is_left_behind(shown: Outcome) -> None:
    environment = shown.json()["env"]
    assert not Path(environment["SSL_CERT_FILE"]).parent.parent.exists()


def test_a_signal_ends_the_command_and_leaves_nothing(folder: Path, surroundings: dict[str, str]) -> None:
    line = command("run", "--plan", "plan.json", "--", "sh", "-c", 'echo "$SSL_CERT_FILE"; exec sleep 60')
    process = subprocess.Popen(
        line, env=surroundings, cwd=folder, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    bundle = Path(process.stdout.readline().strip())
    assert bundle.is_file()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM
    process.stdout.close()
    assert not bundle.parent.parent.exists()


def test_a_running_gateway_is_used_and_an_old_node_led_through_it(folder: Path, surroundings: dict[str, str]) -> None:
    """Inside a first `run` stands a gateway; a second `run` gets its address and a token, and asks by Node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("not here: node")
    ask = "fetch('https://elsewhere.example/').then(r => console.log(r.status), e => console.log(String(e.cause)))"
    inner = subprocess.list2cmdline(command("run", "--proxy", "URL", "--token-file", "TOKEN", "--", node, "-e", "ASK"))
    script = inner.replace("URL", '"$1"').replace("TOKEN", '"$2"').replace("ASK", '"$3"')
    split = 'rest="${HTTPS_PROXY#http://x:}"; echo "${rest%@*}" > token; set -- "http://${rest#*@}" token "$1"; '
    options = ["--plan", "plan.json"]
    outcome = spawn("run", *options, "--", "sh", "-c", split + script, "sh", ask, env=surroundings, cwd=folder)
    assert "denied_by_plan" in outcome.out or "403" in outcome.out, outcome


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--token-file", "t"], "--proxy"),
        (["--proxy", "http://h:1"], "--token-file"),
        (["--proxy", "http://h:1", "--token-file", "t", "--plan", "p"], "--plan"),
    ],
)
def test_options_that_do_not_go_together(capsys: pytest.CaptureFixture[str], options: list[str], told: str) -> None:
    outcome = call(capsys, "run", *options, "--", "true")
    assert outcome.status == 2
    assert told in outcome.err


def test_a_failure_to_start_as_json(folder: Path, surroundings: dict[str, str]) -> None:
    outcome = spawn("run", "--json", "--config", "none.yaml", "--", "true", env=surroundings, cwd=folder)
    assert outcome.status == 3
    assert "none.yaml cannot be read" in outcome.json()["error"]["message"]
