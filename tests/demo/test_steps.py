"""The demonstration's checks find what they are there for: a step that should fail does."""

from pathlib import Path

import pytest

from demo.certificates import OriginFiles
from demo.config import Prepared
from demo.ledger import Ledger, Presence, Received
from demo.origins import HOSTS, Origins
from demo.steps import Outcome, Step, all_steps
from demo.tap import Crossed

PREPARED = Prepared(
    sallyport=Path("sallyport"), curl="curl", git="git", python=Path("python"), node=Path("node"), search_path=""
)
NOTHING = Crossed(messages=0, size=0)
FILES = OriginFiles(ca_file=Path("ca"), certificate_file=Path("leaf"), key_file=Path("key"))
ORIGINS = Origins(port=1, hosts=HOSTS, files=FILES, ledger=Ledger(), repositories=Path("repositories"))


def step(title: str) -> Step:
    (found,) = [each for each in all_steps(PREPARED, ORIGINS) if each.title == title]
    return found


def received(host: str, presence: Presence, *foreign: str) -> Received:
    return Received(
        host=host,
        method="GET",
        path="/",
        header="Authorization",
        presence=presence,
        foreign_headers=foreign,
        body_bytes_announced=None,
    )


def faults(title: str, *entries: Received, status: int = 0, output: str = "") -> list[str]:
    outcome = Outcome(
        status=status, output=output, errors="", received=list(entries), sent_up=NOTHING, sent_down=NOTHING
    )
    return [fault for check in step(title).checks for fault in check(outcome)]


EXACT = received("api.openai.com", Presence.EXACT)
MODELS = '{"data": [{"id": "gpt-4o-mini"}]}'


def test_a_request_with_the_exact_credential_passes() -> None:
    assert faults("curl, OpenAI", EXACT, output=MODELS) == []


@pytest.mark.parametrize(
    "entries",
    [
        (),
        (received("api.openai.com", Presence.ABSENT),),
        (EXACT, received("api.openai.com", Presence.WRONG)),
        (received("api.github.com", Presence.EXACT),),
        (received("api.openai.com", Presence.EXACT, "X-Api-Key"),),
    ],
    ids=["nothing arrived", "no credential", "one wrong of two", "another host", "a foreign key rode along"],
)
def test_anything_else_at_the_origin_fails(entries: tuple[Received, ...]) -> None:
    assert len(faults("curl, OpenAI", *entries, output=MODELS)) == 1


def test_a_client_that_fails_or_says_nothing_fails() -> None:
    assert len(faults("curl, OpenAI", EXACT, status=22, output="")) == 2


def test_the_denied_host_must_receive_nothing() -> None:
    refusal = "HTTP/1.1 403 Forbidden\r\nX-Sallyport-Error: denied_by_plan\r\n"
    assert faults("curl to a denied host", status=56, output=refusal) == []
    leaked = received("paste.example.org", Presence.NOT_EXPECTED)
    assert len(faults("curl to a denied host", leaked, status=56, output=refusal)) == 1


@pytest.mark.parametrize(("milliseconds", "count"), [("210", 0), ("3", 1), ("", 1)])
def test_a_stream_that_came_at_once_was_buffered(milliseconds: str, count: int) -> None:
    output = f"The key was never in the sandbox.\nmilliseconds={milliseconds}\n"
    assert len(faults("OpenAI SDK, streamed completion", EXACT, output=output)) == count


def test_the_control_must_be_refused_for_want_of_a_credential() -> None:
    refusal = "You didn't provide an API key."
    assert faults("curl without Sallyport", received("api.openai.com", Presence.ABSENT), output=refusal) == []
    assert faults("curl without Sallyport", EXACT, output=MODELS)
