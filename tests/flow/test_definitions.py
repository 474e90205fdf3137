"""What definitions compile to, in a running gateway: git, curl and gh as they are, with the placeholders they get.

By the explicit listener and by sandboxd. The origins are the demonstration's, which know one credential each.
"""

import os
import subprocess
from collections.abc import Iterator

import pytest

from control_plane.definitions.anthropic import default as anthropic
from control_plane.definitions.github import cloud as github
from control_plane.definitions.openai import default as openai
from demo.git_server import IDENTITY
from tests.support.client_world import World, explicit_world, program, sandbox_world
from tests.support.compiled_bindings import compiled
from tests.support.gateway_plans import plan

# What the demonstration's git server serves, once bound for reading and writing, and once for reading alone.
WIDGETS = "acme/widgets"
READ_ONLY = "acme/manuals"
UNBOUND = "acme/secrets"


BINDINGS = (
    compiled(openai.DEFINITION, "openai", {"codex": "none"}),
    compiled(anthropic.DEFINITION, "anthropic", {"claudeCode": "none"}),
    compiled(github.DEFINITION, "widgets", {"repositories": [WIDGETS]}),
    compiled(github.DEFINITION, "manuals", {"repositories": [READ_ONLY], "access": "read"}),
)
VARIABLES = {name: value for _, environment in BINDINGS for name, value in environment.items()}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(explicit_world, id="explicit"),
        pytest.param(sandbox_world, id="sandbox", marks=pytest.mark.full),  # all parts have to start
    ],
)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    document = plan([route for routes, _ in BINDINGS for route in routes])
    with request.param(tmp_path_factory.mktemp("definitions"), document) as world:
        repositories = world.origins.repositories
        for name in (f"{READ_ONLY}.git", f"{UNBOUND}.git", WIDGETS):  # github.com serves one without .git too
            (repositories / name).symlink_to(repositories / f"{WIDGETS}.git")
        yield world


def ask(world: World, *command: str) -> subprocess.CompletedProcess[bytes]:
    """Run a program that may fail, as World.run runs one that may not."""
    home = world.folder / "refused"
    environment = world.environment(home) | VARIABLES | IDENTITY
    return subprocess.run(command, env=environment, cwd=home, capture_output=True, timeout=40, check=False)


@pytest.mark.parametrize("spelling", [f"{WIDGETS}.git", WIDGETS])
def test_git_pulls_and_pushes_a_bound_repository_by_either_spelling(world: World, spelling: str) -> None:
    git, name = program("git"), spelling.replace("/", "-")
    done = world.run(name, git, "clone", "--quiet", f"https://github.com/{spelling}", "w", also=VARIABLES)
    done.assert_injected("github.com", at_least=2)
    (done.home / "w" / name).write_bytes(os.urandom(64))
    for arguments in (("add", "."), ("commit", "--quiet", "--message", "More"), ("push", "--quiet")):
        done = world.run(name, git, "-C", str(done.home / "w"), *arguments, also=VARIABLES | IDENTITY)
    done.assert_injected("github.com", at_least=2)


def test_git_only_pulls_where_the_binding_only_reads(world: World) -> None:
    git, url = program("git"), f"https://github.com/{READ_ONLY}.git"
    done = world.run("manuals", git, "clone", "--quiet", url, "m", also=VARIABLES)
    done.assert_injected("github.com", at_least=2)
    checkout = str(done.home / "m")
    mark = len(world.origins.ledger.received)
    world.run("manuals", git, "-C", checkout, "commit", "--quiet", "--allow-empty", "--message", "No", also=IDENTITY)
    ended = ask(world, git, "-C", checkout, "push")
    assert ended.returncode != 0
    assert b"403" in ended.stderr
    assert [entry.path for entry in world.origins.ledger.since(mark)] == [f"/{READ_ONLY}.git/info/refs"]


@pytest.mark.parametrize("name", [UNBOUND, WIDGETS.upper(), f"{WIDGETS}.git/../secrets.git"])
def test_git_gets_no_credential_for_what_is_not_bound_and_asks_nobody(world: World, name: str) -> None:
    mark = len(world.origins.ledger.received)
    ended = ask(world, program("git"), "clone", f"https://github.com/{name}", "stolen")
    assert ended.returncode != 0
    assert world.origins.ledger.since(mark) == []


def test_files_at_anthropic_are_sent_with_the_bound_key_whatever_a_client_brings(world: World) -> None:
    for own in ("x-api-key: sk-ant-api03-stolen", "Authorization: Bearer sk-ant-oat01-stolen", "Cookie: sessionKey=x"):
        done = world.run(
            "files",
            program("curl"),
            "-sS",
            "-H",
            own,
            "-F",
            "file=@/etc/hostname",
            "https://api.anthropic.com/v1/files",
        )
        assert [entry.method for entry in done.received] == ["POST"]
        done.assert_injected("api.anthropic.com")


@pytest.mark.parametrize(
    ("host", "header", "variable"),
    [
        ("api.openai.com", "Authorization: Bearer {}", "OPENAI_API_KEY"),
        ("api.anthropic.com", "x-api-key: {}", "ANTHROPIC_API_KEY"),
    ],
)
def test_the_placeholder_becomes_the_credential(world: World, host: str, header: str, variable: str) -> None:
    own = header.format(VARIABLES[variable])
    done = world.run("placeholder", program("curl"), "-sS", "-H", own, f"https://{host}/v1/models")
    done.assert_injected(host)


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("DELETE", "https://api.openai.com/v1/models/ft:mine"),
        ("DELETE", "https://api.anthropic.com/v1/files/file_1"),
        ("GET", "https://api.github.com/user"),
        ("POST", "https://api.github.com/graphql"),
        ("PATCH", f"https://api.github.com/repos/{READ_ONLY}"),
        ("GET", f"https://api.github.com/repos/{UNBOUND}"),
        ("POST", f"https://uploads.github.com/repos/{READ_ONLY}/releases/1/assets"),
    ],
)
def test_what_no_binding_claims_is_refused_here(world: World, method: str, url: str) -> None:
    mark = len(world.origins.ledger.received)
    ended = ask(world, program("curl"), "-sS", "-o", "answer", "-w", "%{http_code}", "-X", method, url)
    assert ended.stdout == b"403"
    assert world.origins.ledger.since(mark) == []


def test_openai_s_files_are_cleared_away(world: World) -> None:
    done = world.run("delete", program("curl"), "-sS", "-X", "DELETE", "https://api.openai.com/v1/files/file_1")
    done.assert_injected("api.openai.com")


def test_gh_reads_a_bound_repository(world: World) -> None:
    done = world.run("gh", program("gh"), "api", f"repos/{WIDGETS}", also=VARIABLES)
    done.assert_injected("api.github.com")
