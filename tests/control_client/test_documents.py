"""Documents over real HTTP: what is asked, what comes back, and how a failure reads."""

import json
from collections.abc import Iterator

import pytest

from control_client import documents
from control_client.documents import DocumentError, DocumentSession
from tests.support.scripted_http import ScriptedHttp, scripted_http


@pytest.fixture
def far() -> Iterator[ScriptedHttp]:
    with scripted_http() as far:
        yield far


def test_a_document_is_asked_for_with_the_token(far: ScriptedHttp) -> None:
    far.answer("/x", {"a": 1})
    assert DocumentSession(far.url, "t").post("/x", {"b": 2}) == {"a": 1}
    assert far.asked == [("POST", "/x", "Bearer t", b'{"b": 2}')]


def test_a_problem_is_told_with_its_code_and_every_issue(far: ScriptedHttp) -> None:
    issues = [{"pointer": "/a", "message": "wrong"}, {"pointer": "", "message": "bad"}]
    far.answer("/x", {"code": "invalid_plan", "detail": "2 issues", "issues": issues}, 422)
    with pytest.raises(DocumentError) as caught:
        DocumentSession(far.url).get("/x")
    assert (caught.value.status, caught.value.code) == (422, "invalid_plan")
    assert "2 issues\n  /a: wrong\n  (document): bad" in str(caught.value)


def test_a_worker_s_error_is_told(far: ScriptedHttp) -> None:
    far.answer("/x", {"error": {"category": "InvalidState", "message": "it runs"}}, 409)
    with pytest.raises(DocumentError, match="409 to GET /x: it runs") as caught:
        DocumentSession(far.url).get("/x")
    assert caught.value.code == "InvalidState"


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_an_answer_that_is_no_object(far: ScriptedHttp, body: bytes) -> None:
    far.body = body
    with pytest.raises(DocumentError, match="not a JSON object"):
        DocumentSession(far.url).get("/x")


@pytest.mark.parametrize(
    "body", [b"", b"oops", b"[1]", b"[" * 100_000, json.dumps({"issues": [3, {"message": "m"}]}).encode()]
)
def test_a_failure_in_any_shape_is_a_document_error(far: ScriptedHttp, body: bytes) -> None:
    far.status, far.body = 500, body
    with pytest.raises(DocumentError, match="answers 500"):
        DocumentSession(far.url).get("/x")


def test_an_answer_without_end_is_cut(far: ScriptedHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_ANSWER_BYTES", 10)
    far.body = b"x" * 11
    with pytest.raises(DocumentError, match="more than 10 bytes"):
        DocumentSession(far.url).get("/x")


def test_nobody_there() -> None:
    with pytest.raises(DocumentError, match="refused") as caught:
        DocumentSession("http://127.0.0.1:1").get("/x")
    assert caught.value.status is None


@pytest.mark.parametrize("address", ["127.0.0.1:7500", "ftp://x", "http://"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        DocumentSession(address)


def test_it_can_be_printed() -> None:
    assert repr(DocumentSession("https://h:1", "canary")) == "<DocumentSession https://h:1>"


@pytest.mark.parametrize("url", ["http://control.test:7500", "http://10.1.2.3", "http://[fd00::1]:1"])
def test_no_token_goes_off_loopback_in_cleartext(url: str) -> None:
    with pytest.raises(ValueError, match="cleartext off loopback"):
        DocumentSession(url, "token")
    DocumentSession(url)
    DocumentSession(url.replace("http", "https"), "token")
