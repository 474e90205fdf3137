"""The fuzz targets themselves: that they run, that their seeds are good, that a planted defect is found."""

import importlib
import pathlib
import subprocess
import sys
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.wire.http1.codec import parse_request
from tests.fuzz import fuzz_heads, fuzz_tokens
from tests.support.fuzzing import MISSING

FOLDER = pathlib.Path(__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("fuzz_*.py"))


def target(name: str) -> ModuleType:
    return importlib.import_module(f"tests.fuzz.{name}")


def test_there_is_a_target_for_each_parser() -> None:
    assert NAMES == ["fuzz_bodies", "fuzz_client_hello", "fuzz_heads", "fuzz_plans", "fuzz_tokens"]


@pytest.mark.parametrize("name", NAMES)
def test_seeds_and_what_is_near_them_have_an_allowed_outcome(name: str) -> None:
    module = target(name)
    for seed in module.SEEDS:
        module.check(seed)
        module.check(seed[:-1])
        module.check(seed[: len(seed) // 2] + b"\xff" + seed[len(seed) // 2 + 1 :])


@pytest.mark.parametrize("name", NAMES)
@given(data=st.binary(max_size=64))
def test_any_bytes_have_an_allowed_outcome(name: str, data: bytes) -> None:
    target(name).check(data)


@pytest.mark.parametrize("name", NAMES)
def test_each_target_lists_its_outcomes(name: str) -> None:
    assert "Allowed outcomes" in (target(name).__doc__ or "")


def test_a_planted_defect_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = parse_request
    monkeypatch.setattr(fuzz_heads, "parse_request", lambda data: real(data.replace(b" :", b":")))
    with pytest.raises(AssertionError, match="only we accept this"):
        fuzz_heads.check(b"\x00GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 5")


def test_the_good_token_is_believed() -> None:
    assert fuzz_tokens.VERIFIER.verify(fuzz_tokens.GOOD, fuzz_tokens.NOW).sandbox_id == "sbx_one"


def test_a_target_says_how_to_get_atheris() -> None:
    script = FOLDER / "fuzz_bodies.py"
    hide = f"import sys, runpy; sys.modules['atheris'] = None; runpy.run_path({str(script)!r}, run_name='__main__')"
    root = FOLDER.parent.parent
    done = subprocess.run([sys.executable, "-c", hide], cwd=root, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.strip() == MISSING
