"""The fuzz targets themselves: that they run, that their seeds are good, that a planted defect is found."""

import pathlib
import subprocess
import sys
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.wire.http1.codec import parse_request
from tests.fuzz import (
    fuzz_bodies,
    fuzz_client_hello,
    fuzz_heads,
    fuzz_plans,
    fuzz_setup,
    fuzz_tokens,
    fuzz_tunnel_frames,
)
from tests.support.fuzzing import MISSING

FOLDER = pathlib.Path(__file__).parent
TARGETS = (fuzz_bodies, fuzz_client_hello, fuzz_heads, fuzz_plans, fuzz_setup, fuzz_tokens, fuzz_tunnel_frames)
EACH_TARGET = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__.rpartition(".")[2])


def test_no_target_is_left_out() -> None:
    assert [pathlib.Path(target.__file__ or "") for target in TARGETS] == sorted(FOLDER.glob("fuzz_*.py"))


@EACH_TARGET
def test_seeds_and_what_is_near_them_have_an_allowed_outcome(target: ModuleType) -> None:
    for seed in target.SEEDS:
        target.check(seed)
        target.check(seed[:-1])
        target.check(seed[: len(seed) // 2] + b"\xff" + seed[len(seed) // 2 + 1 :])


@EACH_TARGET
@given(data=st.binary(max_size=64))
def test_any_bytes_have_an_allowed_outcome(target: ModuleType, data: bytes) -> None:
    target.check(data)


@EACH_TARGET
def test_each_target_lists_its_outcomes(target: ModuleType) -> None:
    assert "Allowed outcomes" in (target.__doc__ or "")


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
