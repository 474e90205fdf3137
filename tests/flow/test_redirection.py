"""Real clients without a single variable that speaks of a proxy, in a network of their own: found out by destination.

The trust is by the usual variables. All of the clients (tests/flow/test_clients.py) go this way with `--full`.
"""

from collections.abc import Iterator

import pytest

from demo.github_api import LOGIN
from demo.ledger import Presence
from demo.origins import UNMANAGED_HOST, UNMANAGED_TEXT
from tests.support.client_world import World, node, program, python, redirected_world

pytestmark = pytest.mark.clients

URL = "https://api.github.com/user"
OF_A_PROXY = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "NODE_USE_ENV_PROXY")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with redirected_world(tmp_path_factory.mktemp("redirected")) as world:
        assert not set(OF_A_PROXY) & world.environment(world.folder / "none").keys()
        yield world


def test_curl(world: World) -> None:
    done = world.run("curl", program("curl"), "-sS", URL)
    assert LOGIN in done.output
    done.assert_injected("api.github.com")


def test_curl_by_ipv4_and_ipv6(world: World) -> None:
    done = world.run("curl4", program("curl"), "-4", "-sS", URL)
    done.assert_injected("api.github.com")
    # There is no address of that kind for any name, so nobody waits for one that does not answer.
    done = world.run("curl6", program("sh"), "-c", f"! curl -6 -sS {URL}")
    assert done.received == []


def test_an_unmanaged_host_sees_no_credential(world: World) -> None:
    origin_ca = str(world.origins.files.ca_file)
    done = world.run("unmanaged", program("curl"), "-sS", "--cacert", origin_ca, f"https://{UNMANAGED_HOST}/")
    assert done.output == UNMANAGED_TEXT
    assert [entry.presence for entry in done.received] == [Presence.NOT_EXPECTED]


def test_git(world: World) -> None:
    done = world.run("git", program("git"), "clone", "--quiet", "https://github.com/acme/widgets.git", "widgets")
    done.assert_injected("github.com", at_least=2)


def test_python_requests(world: World) -> None:
    source = f"import requests; print(requests.get({URL!r}, timeout=20).text)"
    done = world.run("requests", python("requests"), "-c", source)
    assert LOGIN in done.output
    done.assert_injected("api.github.com")


def test_node_fetch(world: World) -> None:
    source = f"fetch({URL!r}).then(answer => answer.text()).then(console.log)"
    done = world.run("node", node(), "-e", source)
    assert LOGIN in done.output
    done.assert_injected("api.github.com")
