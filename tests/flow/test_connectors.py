"""What connectors compile to, in a running gateway: curl with the placeholders it gets, at hosts that know one secret.

By the explicit listener and by sandboxd. AWS is in test_aws_clients.py, where boto3 is.
"""

import base64
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from control_plane.definitions.atlassian import default as atlassian
from control_plane.definitions.linear import default as linear
from control_plane.definitions.notion import default as notion
from control_plane.definitions.slack import default as slack
from demo.ledger import Expected, Ledger, Presence, guarded_application
from demo.origins import random_credentials, serve_origins
from tests.support.background import in_background
from tests.support.client_world import World, program
from tests.support.compiled_bindings import compiled
from tests.support.gateway_plans import plan
from tests.support.gateway_process import GatewayProcess, Setting, gateway_process
from tests.support.integrations import example_definitions
from tests.support.sandboxd_process import sandboxd_process

[GITLAB] = example_definitions()
BINDINGS = (
    compiled(slack.DEFINITION, "slack", {"apiMethods": ["chat.postMessage"]}),
    compiled(notion.DEFINITION, "notion", {"version": "2025-09-03"}),
    compiled(linear.DEFINITION, "linear", {}),
    compiled(
        atlassian.DEFINITION,
        "atlassian",
        {"access": "read", "mcp": False},
        connection={"site": "acme", "email": "ada@example.com"},
    ),
    compiled(GITLAB, "gitlab", {"projects": ["7"]}),
)
VARIABLES = {name: value for _, environment in BINDINGS for name, value in environment.items()}
SECRETS = {
    f"con_{definition.family_id}": f"{definition.family_id}-canary-token-4471"
    for definition in (slack.DEFINITION, notion.DEFINITION, linear.DEFINITION, atlassian.DEFINITION, GITLAB)
}


def expected() -> Mapping[str, Expected]:
    """What each host knows: the header with the secret in it, as its provider documents it."""
    basic = base64.b64encode(f"ada@example.com:{SECRETS['con_atlassian']}".encode()).decode()
    return {
        "slack.com": Expected(header="Authorization", value=f"Bearer {SECRETS['con_slack']}"),
        "files.slack.com": Expected(header="Authorization", value=f"Bearer {SECRETS['con_slack']}"),
        "api.notion.com": Expected(header="Authorization", value=f"Bearer {SECRETS['con_notion']}"),
        "api.linear.app": Expected(header="Authorization", value=SECRETS["con_linear"]),
        "mcp.linear.app": Expected(header="Authorization", value=f"Bearer {SECRETS['con_linear']}"),
        "acme.atlassian.net": Expected(header="Authorization", value=f"Basic {basic}"),
        "gitlab.com": Expected(header="PRIVATE-TOKEN", value=SECRETS["con_gitlab"]),
    }


def application(ledger: Ledger, guard: Expected) -> web.Application:
    """Return a host that tells back the version it was asked in and the query."""
    found = guarded_application(ledger, guard, lambda request, presence: web.Response(status=401))

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=f"{request.headers.get('Notion-Version', '')}?{request.query_string}")

    found.router.add_route("*", "/{path:.*}", answer)
    return found


@contextmanager
def explicitly(gateway: GatewayProcess) -> Iterator[Callable[[Path], dict[str, str]]]:
    yield gateway.client_environment


@contextmanager
def by_tunnel(gateway: GatewayProcess) -> Iterator[Callable[[Path], dict[str, str]]]:
    tokens = {"token": gateway.mint_token("sallyport-tunnel")}
    url = f"ws://127.0.0.1:{gateway.tunnel_port}"
    with sandboxd_process(gateway.folder / "sandboxd", url, tokens) as sandboxd:
        yield sandboxd.client_environment


@pytest.fixture(scope="module", params=[explicitly, by_tunnel], ids=["explicit", "tunnel"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("connectors")
    hosts = {host: partial(application, guard=guard) for host, guard in expected().items()}
    with in_background(serve_origins(folder / "origins", random_credentials(), os.environ["PATH"], hosts)) as origins:
        setting = Setting(
            plan=plan([route for routes, _ in BINDINGS for route in routes]),
            credentials=SECRETS,
            connect_to=origins.connect_to(),
            ca_file=origins.files.ca_file,
        )
        with gateway_process(folder / "gateway", setting) as gateway, request.param(gateway) as environment:
            yield World(
                origins=origins, environment=environment, secrets=tuple(SECRETS.values()), folder=folder / "homes"
            )


def curl(world: World, method: str, url: str, *arguments: str) -> tuple[str, str]:
    """Return the status and the body of an answer."""
    command = ("-sS", "-w", "\n%{http_code}", "-X", method, *arguments, url)
    body, _, status = world.run("curl", program("curl"), *command, also=VARIABLES).output.rpartition("\n")
    return status, body


@pytest.mark.parametrize(
    ("method", "url", "own"),
    [
        ("POST", "https://slack.com/api/chat.postMessage", f"Authorization: Bearer {VARIABLES['SLACK_BOT_TOKEN']}"),
        ("GET", "https://files.slack.com/files-pri/T1-F1/a.txt", "Authorization: Bearer xoxp-own"),
        ("POST", "https://files.slack.com/upload/v1/x", "X-Nothing: 1"),
        ("PATCH", "https://api.notion.com/v1/pages/1", f"Authorization: Bearer {VARIABLES['NOTION_TOKEN']}"),
        ("POST", "https://api.linear.app/graphql", "X-Nothing: 1"),
        ("POST", "https://mcp.linear.app/mcp", "Authorization: Bearer own"),
        ("GET", "https://acme.atlassian.net/rest/api/3/myself", "Authorization: Basic eDp5"),
        ("PUT", "https://gitlab.com/api/v4/projects/7/issues/1", f"PRIVATE-TOKEN: {VARIABLES['GITLAB_TOKEN']}"),
    ],
)
def test_the_credential_is_written_as_its_provider_wants_it(world: World, method: str, url: str, own: str) -> None:
    mark = len(world.origins.ledger.received)
    assert curl(world, method, url, "-H", own)[0] == "200"
    [entry] = world.origins.ledger.since(mark)
    assert (entry.presence, entry.foreign_headers) == (Presence.EXACT, ())


def test_a_version_and_a_token_in_the_query_are_ours_to_decide(world: World) -> None:
    assert curl(world, "GET", "https://api.notion.com/v1/users", "-H", "Notion-Version: 1999-01-01")[1] == "2025-09-03?"
    assert curl(world, "POST", "https://slack.com/api/chat.postMessage?token=xoxp-own&a=1")[1] == "?a=1"


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("POST", "https://slack.com/api/admin.users.list"),
        ("GET", "https://slack.com/archives/C1"),
        ("PUT", "https://api.notion.com/v1/pages/1"),
        ("GET", "https://api.linear.app/graphql"),
        ("POST", "https://acme.atlassian.net/rest/api/3/issue"),
        ("GET", "https://acme.atlassian.net/wiki/rest/api/content"),
        ("GET", "https://gitlab.com/api/v4/projects/8"),
        ("GET", "https://gitlab.com/api/v4/projects/70"),
        ("GET", "https://gitlab.com/api/v4/mcp"),
    ],
)
def test_what_no_binding_claims_is_refused_here(world: World, method: str, url: str) -> None:
    mark = len(world.origins.ledger.received)
    assert curl(world, method, url)[0] == "403"
    assert world.origins.ledger.since(mark) == []
