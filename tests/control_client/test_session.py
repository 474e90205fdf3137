"""One request to the control plane, and every way it can go wrong."""

from pathlib import Path

import pytest

from control_client.errors import (
    ANSWER_TOO_LARGE,
    TIMEOUT,
    UNAUTHORIZED,
    UNEXPECTED_ANSWER,
    UNREACHABLE,
    ControlError,
)
from control_client.session import Answer, ControlSession
from tests.support.control_sessions import control_session
from tests.support.fake_control import SERVICE_TOKEN, answer, break_off, hang, hang_up, refusal
from tests.support.fake_control import Answer as Wrong

PATH = "/internal/sandboxes/sbx_1/plan"
CANARY = "canary-in-an-answer"


async def ask(session: ControlSession) -> Answer:
    return await session.ask("plan", "GET", PATH, most_bytes=1000)


async def test_a_good_answer(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, counts):
        fake.misbehave(PATH, answer(200, b"body", ETag='"v"'))
        assert (await ask(session))[:3] == Answer(200, b"body", '"v"')[:3]
        assert counts == [("plan", "ok")]
        assert SERVICE_TOKEN not in repr(session)


async def test_what_is_held_already_is_not_sent_again(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, counts):
        fake.misbehave(PATH, answer(304, ETag='"v"', X_Revision="7"))
        found = await session.ask("plan", "GET", PATH, most_bytes=1000, etag='"v"')
        assert (found.status, found.body, found.etag, found.headers["X-Revision"]) == (304, b"", '"v"', "7")
        assert counts == [("plan", "ok")]


@pytest.mark.parametrize(
    ("wrong", "code", "temporary"),
    [
        (hang_up, UNREACHABLE, True),
        (break_off, UNREACHABLE, True),
        (answer(302, Location="/"), UNEXPECTED_ANSWER, True),
        (answer(307, Location="https://example.com/"), UNEXPECTED_ANSWER, True),
        (answer(304), UNEXPECTED_ANSWER, True),
        (answer(200, b"x" * 1001), ANSWER_TOO_LARGE, True),
        (answer(200, b"x", Content_Encoding="gzip"), UNEXPECTED_ANSWER, True),
        (answer(404, b"<h1>nginx</h1>"), UNEXPECTED_ANSWER, True),
        (answer(404, b'{"code": "NOT A WORD"}'), UNEXPECTED_ANSWER, True),
        (answer(500), UNEXPECTED_ANSWER, True),
        (answer(500, b"[" * 60_000), UNEXPECTED_ANSWER, True),
        (refusal(404, "plan_not_found"), "plan_not_found", False),
        (refusal(409, "plan_conflict"), "plan_conflict", False),
        (refusal(429, "rate_limited"), "rate_limited", True),
        (refusal(503, "database_unavailable"), "database_unavailable", True),
    ],
)
async def test_c11_every_other_answer_is_an_error(tmp_path: Path, wrong: Wrong, code: str, temporary: bool) -> None:
    async with control_session(tmp_path) as (fake, session, counts):
        fake.misbehave(PATH, wrong, wrong)
        with pytest.raises(ControlError) as caught:
            await ask(session)
        assert (caught.value.code, caught.value.temporary) == (code, temporary)
        assert counts == [("plan", "temporary" if temporary else "permanent")]
        # The client library itself sends a GET again that nothing was answered to.
        assert fake.count(PATH) == (2 if wrong is hang_up else 1)


async def test_c11_an_answer_that_does_not_come(tmp_path: Path) -> None:
    async with control_session(tmp_path, request_seconds=0.05) as (fake, session, _):
        fake.misbehave(PATH, hang)
        with pytest.raises(ControlError) as caught:
            await ask(session)
        assert (caught.value.code, caught.value.temporary) == (TIMEOUT, True)


async def test_nobody_there(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        await fake.stop()
        with pytest.raises(ControlError) as caught:
            await ask(session)
        assert caught.value.code == UNREACHABLE


async def test_nothing_of_an_answer_is_in_an_error(tmp_path: Path) -> None:
    wrongs = [
        answer(200, CANARY.encode() * 100),
        answer(500, CANARY.encode()),
        answer(400, f'{{"code": "{CANARY.upper()}"}}'.encode()),
        answer(200, b"x", **{"X-Long": CANARY * 1000}),
    ]
    async with control_session(tmp_path) as (fake, session, _):
        fake.misbehave(PATH, *wrongs)
        for _ in wrongs:
            with pytest.raises(ControlError) as caught:
                await ask(session)
            assert "canary" not in repr(caught.value).lower()


@pytest.mark.parametrize(("value", "seconds"), [("7", 7), ("0", 0), ("999999", 3600), ("-1", 0), ("soon", 0)])
async def test_retry_after_is_honoured_within_reason(tmp_path: Path, value: str, seconds: int) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        fake.misbehave(PATH, refusal(503, "database_unavailable", Retry_After=value))
        with pytest.raises(ControlError) as caught:
            await ask(session)
        assert caught.value.retry_after_seconds == seconds


async def test_a_rotated_token_is_read_after_a_401(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, counts):
        fake.plans["sbx_1"] = b"plan"
        assert (await ask(session)).body == b"plan"
        fake.tokens = {"rotated"}
        with pytest.raises(ControlError) as caught:
            await ask(session)
        assert (caught.value.code, caught.value.status, caught.value.temporary) == (UNAUTHORIZED, 401, True)
        assert fake.count(PATH) == 2  # nothing is sent again with the same token
        (tmp_path / "service.token").write_text("rotated")
        assert (await ask(session)).body == b"plan"
        assert counts[-1] == ("plan", "ok")


async def test_a_token_replaced_while_it_is_refused_is_used_at_once(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        fake.plans["sbx_1"] = b"plan"

        async def refuse_and_rotate(_: object) -> object:
            fake.tokens = {"rotated"}
            (tmp_path / "service.token").write_text("rotated")
            return await refusal(401, "unauthorized")(None)  # type: ignore[arg-type]  # it looks at no request

        fake.misbehave(PATH, refuse_and_rotate)  # type: ignore[arg-type]  # as above
        assert (await ask(session)).body == b"plan"
        assert fake.count(PATH) == 2


async def test_a_public_document_is_asked_for_without_a_token(tmp_path: Path) -> None:
    async with control_session(tmp_path) as (fake, session, _):
        (tmp_path / "service.token").unlink()
        fake.tokens = set()
        path = "/.well-known/jwks.json"
        assert (await session.ask("keys", "GET", path, most_bytes=10_000, is_public=True)).status == 200
        fake.misbehave(path, refusal(401, "unauthorized"))
        with pytest.raises(ControlError) as caught:
            await session.ask("keys", "GET", path, most_bytes=10_000, is_public=True)
        assert caught.value.temporary


async def test_proxies_of_the_environment_are_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T3."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with control_session(tmp_path) as (fake, session, _):
        fake.plans["sbx_1"] = b"plan"
        assert (await ask(session)).body == b"plan"
