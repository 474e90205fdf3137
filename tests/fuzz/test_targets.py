"""The fuzz targets themselves: that they run, that their seeds are good, that a planted defect is found."""

import json
import pathlib
import subprocess
import sys
import zlib
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.definitions.contract import HmacSignature
from control_plane.definitions.generic_http import checks
from control_plane.webhooks import verification
from control_plane.webhooks.signing import hmac_sha256
from gateway.core import authority, content_coding, frame_scrub
from sallyport.wire.http1 import body
from sallyport.wire.http1.codec import parse_request, parse_response
from tests.fuzz import (
    fuzz_bodies,
    fuzz_certificates,
    fuzz_client_hello,
    fuzz_control_answers,
    fuzz_control_messages,
    fuzz_declarations,
    fuzz_destinations,
    fuzz_dns,
    fuzz_feed,
    fuzz_gzip,
    fuzz_heads,
    fuzz_json_rpc,
    fuzz_manifests,
    fuzz_plans,
    fuzz_proxy_answers,
    fuzz_server_frames,
    fuzz_settings,
    fuzz_setup,
    fuzz_tokens,
    fuzz_tunnel_frames,
    fuzz_upgrades,
    fuzz_webhooks,
)
from tests.support.fuzzing import MISSING
from tests.support.webhook_signatures import STANDARD_SIGNING, signed

FOLDER = pathlib.Path(__file__).parent
TARGETS = (
    fuzz_bodies,
    fuzz_certificates,
    fuzz_client_hello,
    fuzz_control_answers,
    fuzz_control_messages,
    fuzz_declarations,
    fuzz_destinations,
    fuzz_dns,
    fuzz_feed,
    fuzz_gzip,
    fuzz_heads,
    fuzz_json_rpc,
    fuzz_manifests,
    fuzz_plans,
    fuzz_proxy_answers,
    fuzz_server_frames,
    fuzz_settings,
    fuzz_setup,
    fuzz_tokens,
    fuzz_tunnel_frames,
    fuzz_upgrades,
    fuzz_webhooks,
)
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


def test_a_planted_defect_in_answers_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = parse_response
    monkeypatch.setattr(fuzz_heads, "parse_response", lambda data: real(data.replace(b" :", b":")))
    with pytest.raises(AssertionError, match="only we accept this"):
        fuzz_heads.check(b"\x01HTTP/1.1 200 OK\r\nContent-Length : 5")


def test_a_planted_defect_in_chunks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "_chunk_size", lambda line: int(line, 16))
    with pytest.raises(AssertionError, match="only we accept this"):
        fuzz_bodies.check(b"\x00+5\r\nhello\r\n0\r\n\r\n")


def test_a_planted_defect_in_paths_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_destinations, "canonical_path", lambda path: path.decode("latin-1"))
    with pytest.raises(AssertionError):
        fuzz_destinations.check(b"/v1/../x")


def test_a_planted_defect_in_what_is_remembered_of_a_host_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authority, "_UNREAD", b"a.example")
    with pytest.raises(AssertionError):
        fuzz_destinations.check(b"http://a.example/\na.example\nhttp://b.example/")


def test_a_planted_defect_in_gzip_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_coding, "_GZIP_WINDOW", 32 + zlib.MAX_WBITS)
    with pytest.raises(AssertionError):
        fuzz_gzip.check(b"\x00" + zlib.compress(b"deflate"))


def test_a_planted_defect_in_frames_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_scrub, "MAX_WAITING_HEADS", 1)
    with pytest.raises(AssertionError):
        fuzz_server_frames.check(fuzz_server_frames.SEEDS[1])


def test_a_planted_defect_in_manifests_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_in_host", lambda source, variable, template: True)
    manifest = json.loads(fuzz_manifests.SEEDS[2])
    manifest["routes"][0]["hosts"] = ["{binding.host}"]
    with pytest.raises(AssertionError, match="a member chose"):
        fuzz_manifests.check(json.dumps(manifest).encode())


def test_a_planted_defect_in_signatures_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "hmac_sha256", lambda secret, message: hmac_sha256(secret, message[:20]))
    defect = HmacSignature(header="x-signature", prefix="sha256=")
    body = fuzz_webhooks.BODY[:20] + b"another end"
    fields = signed(defect, fuzz_webhooks.BODY[:20], fuzz_webhooks.NOW, STANDARD_SIGNING)
    with pytest.raises(AssertionError):
        fuzz_webhooks.check(fuzz_webhooks.input_of(fields, body))


def test_the_good_token_is_believed() -> None:
    assert fuzz_tokens.VERIFIER.verify(fuzz_tokens.GOOD, fuzz_tokens.NOW).sandbox_id == "sbx_one"


def test_a_target_says_how_to_get_atheris() -> None:
    script = FOLDER / "fuzz_bodies.py"
    hide = f"import sys, runpy; sys.modules['atheris'] = None; runpy.run_path({str(script)!r}, run_name='__main__')"
    root = FOLDER.parent.parent
    done = subprocess.run([sys.executable, "-c", hide], cwd=root, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.strip() == MISSING
