"""Real clients with nothing but the variables of a sandbox: no key, no option that speaks of a proxy or a CA.

Each asserts three things: the client did its work, the origin saw the exact credential on every request, and neither
the client's environment nor what it said and wrote holds a credential. A client that is not here is skipped by name.
"""

import os
import subprocess
from collections.abc import Iterator

import pytest

from demo.git_server import IDENTITY
from demo.github_api import LOGIN
from demo.ledger import Presence
from demo.openai_api import HELD_MODEL, SENTENCE
from demo.origins import UNMANAGED_HOST, UNMANAGED_TEXT
from tests.support.client_world import (
    NODE_PACKAGES,
    World,
    explicit_world,
    node,
    program,
    python,
    redirected_world,
    sandbox_world,
)
from tests.support.package_origins import NPM_HOST, NPM_PACKAGE, PIP_HOST, PIP_PACKAGE
from tests.support.store_origin import STORE_HOST

pytestmark = pytest.mark.clients

WORLDS = [
    pytest.param(explicit_world, id="explicit"),
    pytest.param(sandbox_world, id="sandbox"),
    # tests/flow/test_redirection.py has some of them in the fast set.
    pytest.param(redirected_world, id="redirected", marks=pytest.mark.full),
]

TEXT = "".join(SENTENCE)
PLACEHOLDER = "sk-placeholder-0000000000000000"
BIG_BYTES = 3 * 1024 * 1024


@pytest.fixture(scope="module", params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with request.param(tmp_path_factory.mktemp("clients")) as world:
        yield world


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


def test_octokit(world: World) -> None:
    script = f"""
const {{ Octokit }} = await import("{NODE_PACKAGES}/@octokit/core/dist-src/index.js");
const octokit = new Octokit({{auth: "{PLACEHOLDER}"}});
const {{ data }} = await octokit.request("GET /user");
console.log(data.login);
const issue = await octokit.request("POST /repos/acme/widgets/issues", {{owner: "acme", repo: "widgets", title: "t"}});
console.log(issue.status);
"""
    done = world.run("octokit", node("@octokit/core"), "--input-type=module", "-e", script)
    assert done.output.split() == [LOGIN, "201"]
    done.assert_injected("api.github.com", at_least=2)


def test_axios(world: World) -> None:
    script = f"""
const axios = require("{NODE_PACKAGES}/axios");
axios.get("https://api.github.com/user").then((answer) => console.log(answer.data.login));
"""
    done = world.run("axios", node("axios"), "-e", script)
    assert done.output.strip() == LOGIN
    done.assert_injected("api.github.com")


def test_ws_through_the_agent_its_users_take(world: World) -> None:
    # ws makes its own sockets: no variable of Node's reaches it, and its users hand it an agent that reads HTTPS_PROXY,
    # where there is one.
    script = f"""
const WebSocket = require("{NODE_PACKAGES}/ws");
const {{ HttpsProxyAgent }} = require("{NODE_PACKAGES}/https-proxy-agent");
const agent = process.env.HTTPS_PROXY && new HttpsProxyAgent(process.env.HTTPS_PROXY);
const socket = new WebSocket("wss://api.openai.com/v1/realtime?model=m", {{agent}});
socket.on("open", () => socket.send("hello"));
socket.on("message", (data) => {{ console.log(data.toString()); socket.close(); }});
socket.on("error", (error) => {{ console.error(error); process.exit(1); }});
"""
    done = world.run("ws", node("ws"), "-e", script)
    assert done.output.strip() == "hello"
    done.assert_injected("api.openai.com")


def test_gh(world: World) -> None:
    done = world.run("gh", program("gh"), "api", "user", "--jq", ".login", also={"GH_TOKEN": PLACEHOLDER})
    assert done.output.strip() == LOGIN
    done.assert_injected("api.github.com")


def test_boto3_uploads_and_downloads(world: World) -> None:
    # The store takes a bearer token in the place of the signature that boto3 made with its placeholder.
    script = f"""
import boto3, io, os
store = boto3.client("s3", endpoint_url="https://{STORE_HOST}", region_name="us-east-1")
body = os.urandom(6 * 1024 * 1024)
store.upload_fileobj(io.BytesIO(body), "bucket", "key", Config=boto3.s3.transfer.TransferConfig(max_concurrency=1))
print(store.get_object(Bucket="bucket", Key="key")["Body"].read() == body)
"""
    keys = {"AWS_ACCESS_KEY_ID": "AKIAPLACEHOLDER", "AWS_SECRET_ACCESS_KEY": PLACEHOLDER}
    done = world.run("boto3", python("boto3"), "-c", script, also=keys)
    assert done.output.strip() == "True"
    done.assert_injected(STORE_HOST, at_least=2)


JAVA = """
import java.io.*;
import java.net.*;
import java.nio.charset.StandardCharsets;

public class Ask {
    public static void main(String[] arguments) throws Exception {
        URI proxy = URI.create(System.getenv().getOrDefault("HTTPS_PROXY", ""));
        if (proxy.getUserInfo() != null) {
            // A JVM reads the proxy from JAVA_TOOL_OPTIONS and no password from anywhere.
            String[] pair = proxy.getUserInfo().split(":", 2);
            Authenticator.setDefault(new Authenticator() {
                protected PasswordAuthentication getPasswordAuthentication() {
                    return new PasswordAuthentication(pair[0], pair[1].toCharArray());
                }
            });
        }
        HttpURLConnection link = (HttpURLConnection) new URL("https://api.github.com/user").openConnection();
        System.out.println(new String(link.getInputStream().readAllBytes(), StandardCharsets.UTF_8));
    }
}
"""


def test_java(world: World) -> None:
    java = program("java")
    program("javac")  # a source file is run by the compiler
    source = world.folder / "Ask.java"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(JAVA)
    done = world.run("java", java, str(source))
    assert LOGIN in done.output
    done.assert_injected("api.github.com")
