"""What each client does, and what must then be true of its answer and of what the origin received."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from demo import git_server, github_api, openai_api
from demo.certificates import AUTHORITY_NAME
from demo.config import Prepared
from demo.ledger import Presence, Received
from demo.origins import DENIED_HOST, UNMANAGED_HOST, UNMANAGED_TEXT, Origins
from demo.tap import Crossed

TEXT = "".join(openai_api.SENTENCE)
PLACEHOLDER = "sk-placeholder"
# Between the first and the last of the streamed tokens; a proxy that collected them would deliver all at once.
_STREAM_MILLISECONDS = int((len(openai_api.SENTENCE) - 1) * openai_api.TICK_SECONDS * 1000 * 0.6)
_REPOSITORY_URL = f"https://{git_server.HOST}/{git_server.REPOSITORY}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one step."""

    status: int
    output: str
    errors: str
    received: list[Received]
    sent_up: Crossed  # through the tunnel, toward the gateway
    sent_down: Crossed


# Returns what is wrong, or nothing.
type Check = Callable[[Outcome], list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command of one client; `sent` says in words what it brings along, `saw` what it has to see."""

    title: str
    sent: str
    saw: str
    command: tuple[str, ...]
    checks: tuple[Check, ...]
    also: Mapping[str, str] = field(default_factory=dict)
    with_sallyport: bool = True
    home: str  # steps of the same home share a folder


def all_steps(prepared: Prepared, origins: Origins) -> list[Step]:
    """Return the steps in order."""
    return [
        _control(prepared, origins),
        *_curl_steps(prepared),
        *_git_steps(prepared),
        _openai_step(prepared),
        _node_step(prepared),
        _denied_step(prepared),
        _unmanaged_step(prepared, origins),
    ]


def _control(prepared: Prepared, origins: Origins) -> Step:
    there = f"{openai_api.HOST}:443:127.0.0.1:{origins.port}"
    curl = (prepared.curl, "-sS", "--cacert", str(origins.files.ca_file), "--connect-to", there)
    return Step(
        title="curl without Sallyport",
        sent="no key, straight to the origin",
        saw="401 in the API's own words",
        command=(*curl, f"https://{openai_api.HOST}/v1/models"),
        checks=(says("You didn't provide an API key."), arrived(openai_api.HOST, Presence.ABSENT)),
        with_sallyport=False,
        home="control",
    )


def _curl_steps(prepared: Prepared) -> list[Step]:
    return [
        Step(
            title="curl, OpenAI",
            sent="no key",
            saw="200, the list of models",
            command=(prepared.curl, "-sSf", f"https://{openai_api.HOST}/v1/models"),
            checks=(ends_well, says("gpt-4o-mini"), arrived(openai_api.HOST, Presence.EXACT)),
            home="curl",
        ),
        Step(
            title="curl, OpenAI, with keys of its own",
            sent="Authorization and X-Api-Key of somebody else",
            saw="200; the other keys went nowhere",
            command=(
                *(prepared.curl, "-sSf", "-H", "Authorization: Bearer sk-stolen", "-H", "X-Api-Key: sk-stolen"),
                f"https://{openai_api.HOST}/v1/models",
            ),
            checks=(ends_well, says("gpt-4o-mini"), arrived(openai_api.HOST, Presence.EXACT)),
            home="curl-foreign",
        ),
        Step(
            title="curl, GitHub",
            sent="no token",
            saw=f"200, login {github_api.LOGIN}",
            command=(prepared.curl, "-sSf", f"https://{github_api.HOST}/user"),
            checks=(ends_well, says(github_api.LOGIN), arrived(github_api.HOST, Presence.EXACT)),
            home="curl-github",
        ),
    ]


def _git_steps(prepared: Prepared) -> list[Step]:
    push = """
set -e
cd widgets
echo "from a sandbox" > NEWS
git add NEWS
git commit --quiet --message "News"
git push --quiet origin main
git log --format=%s origin/main
"""
    return [
        Step(
            title="git clone",
            sent="no user, no password",
            saw="the working tree",
            command=(prepared.git, "clone", "--quiet", _REPOSITORY_URL, "widgets"),
            checks=(ends_well, arrived(git_server.HOST, Presence.EXACT)),
            home="git",
        ),
        Step(
            title="git push",
            sent="no user, no password",
            saw="its commit on the origin's main",
            command=("sh", "-c", push),
            checks=(ends_well, says("News\nFirst widget"), arrived(git_server.HOST, Presence.EXACT)),
            also=git_server.IDENTITY,
            home="git",
        ),
    ]


def _openai_step(prepared: Prepared) -> Step:
    script = """
import time
import openai

messages = [{"role": "user", "content": "Where is the key?"}]
words, times = [], []
for chunk in openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True):
    if chunk.choices[0].delta.content:
        words.append(chunk.choices[0].delta.content)
        times.append(time.monotonic())
print("".join(words))
print(f"milliseconds={(times[-1] - times[0]) * 1000:.0f}")
"""
    return Step(
        title="OpenAI SDK, streamed completion",
        sent=f"the placeholder {PLACEHOLDER}",
        saw=f'"{TEXT}", token by token',
        command=(str(prepared.python), "-c", script),
        checks=(ends_well, says(TEXT), _was_streamed, arrived(openai_api.HOST, Presence.EXACT)),
        also={"OPENAI_API_KEY": PLACEHOLDER},
        home="openai",
    )


def _node_step(prepared: Prepared) -> Step:
    script = """
const answer = await fetch("https://%s/v1/chat/completions", {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ model: "gpt-4o-mini", messages: [{ role: "user", content: "Where is the key?" }] }),
});
console.log(answer.status, (await answer.json()).choices[0].message.content);
"""
    return Step(
        title="Node 24 fetch",
        sent="no key",
        saw=f'200, "{TEXT}"',
        command=(str(prepared.node), "--input-type=module", "-e", script % openai_api.HOST),
        checks=(ends_well, says(f"200 {TEXT}"), arrived(openai_api.HOST, Presence.EXACT)),
        home="node",
    )


def _denied_step(prepared: Prepared) -> Step:
    return Step(
        title="curl to a denied host",
        sent="a paste",
        saw="403 denied_by_plan, before any TLS",
        command=(prepared.curl, "-sSi", "-d", "a paste", f"https://{DENIED_HOST}/"),
        checks=(says("403"), says("X-Sallyport-Error: denied_by_plan"), nothing_arrived),
        home="denied",
    )


def _unmanaged_step(prepared: Prepared, origins: Origins) -> Step:
    trusting = ("--cacert", str(origins.files.ca_file), "-w", "\n%{certs}")
    return Step(
        title="curl to an unmanaged host",
        sent="nothing special",
        saw="the page, under the origin's own certificate",
        command=(prepared.curl, "-sSf", *trusting, f"https://{UNMANAGED_HOST}/"),
        checks=(
            ends_well,
            says(UNMANAGED_TEXT.strip()),
            says(AUTHORITY_NAME),
            arrived(UNMANAGED_HOST, Presence.NOT_EXPECTED),
        ),
        home="unmanaged",
    )


# -- checks


def ends_well(outcome: Outcome) -> list[str]:
    """Check that the client's exit status is 0."""
    last = (outcome.errors.strip() or outcome.output.strip())[-300:]
    return [] if outcome.status == 0 else [f"exit status {outcome.status}: {last}"]


def says(text: str) -> Check:
    """Check that the client printed this."""

    def check(outcome: Outcome) -> list[str]:
        return [] if text in outcome.output else [f"did not print {text!r}: {outcome.output.strip()[-300:]!r}"]

    return check


def arrived(host: str, presence: Presence) -> Check:
    """Check that the origin received requests for this host only, the credential so on each, and no other one."""

    def check(outcome: Outcome) -> list[str]:
        if not outcome.received:
            return ["nothing reached the origin"]
        wrong = [
            f"{entry}: credential {entry.presence.value}, also {', '.join(entry.foreign_headers) or 'nothing'}"
            for entry in outcome.received
            if entry.host != host or entry.presence is not presence or entry.foreign_headers
        ]
        return wrong

    return check


def nothing_arrived(outcome: Outcome) -> list[str]:
    """Check that no origin received anything."""
    return [f"reached the origin: {entry}" for entry in outcome.received]


def _was_streamed(outcome: Outcome) -> list[str]:
    _, _, milliseconds = outcome.output.partition("milliseconds=")
    if milliseconds.strip().isdecimal() and int(milliseconds) >= _STREAM_MILLISECONDS:
        return []
    return [f"the tokens came within {milliseconds.strip() or 'no'} ms: something buffered them"]
