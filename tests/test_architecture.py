"""The import rules hold in this tree, and each is found broken in a tree where it is."""

import pathlib
import re
import subprocess
import sys

import pytest

from tests.support.import_rules import Tree, catch_alls, read_tree, reveals, violations

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Every place where a secret leaves its `Secret`. A new one is a decision: say in the change why it has to be there.
REVEALS = {
    "control_client.feed_key": 1,  # shown to the feed and its servers
    "control_client.push_signature": 1,  # to sign
    "control_plane.oauth.aws_sts": 1,  # the access key's id
    "control_plane.oauth.github_app": 2,  # the App's id, and its key to sign with
    "control_plane.oauth.proof": 1,  # the hash of the PKCE verifier
    "control_plane.oauth.proving": 1,  # a member's own token, used once and thrown away
    "control_plane.oauth.sigv4": 1,
    "control_plane.oauth.token_endpoint": 1,  # what a token endpoint is asked with, and the client's id for a browser
    # Resolve, an AWS session, stored AWS keys (2), a pattern, a gateway's CA, its key to certify, a repeat, signing.
    "control_plane.vault.disclosure": 9,
    "control_plane.push.emitter": 1,  # shown as a bearer
    "control_plane.webhooks.signing": 3,  # the HMAC of all, a key in base64, the one time a secret is shown
    "control_plane.vault.envelope": 1,  # to seal
    "control_plane.vault.master_keys": 1,  # those that a variable holds
    "gateway.core.inject.aws_sigv4": 2,  # the session token, the key of a day
    "gateway.core.inject.field": 4,  # bearer, basic, header, additional header
    "gateway.core.inject.placeholder": 1,
    "gateway.core.inject.query": 1,
    "gateway.core.scrub": 1,  # the needles, once per credential version
    "worker.integrations.launch": 1,  # into a server's variables or headers
}

# Every place where whatever is raised ends, and what becomes of it there. All else is mapped where it enters, or goes
# on to one of these, or ends a task, of which sallyport.net.tasks tells, or a callback, of which the loop does.
ENDS_OF_ALL = {
    "control_client.server_link.ServerLink.run": "whatever the SDK raises: told as the link's end; it is built anew",
    "control_plane.integrations._load_package": "a stranger's import, told by its type in the log",
    "control_plane.api.own_api.OwnApi.ask": "where own_fault has logged and answered it, and it is raised anew",
    "control_plane.api.problems.RequestIds.__call__": "own_fault has logged and answered it, and it is raised anew",
    "control_plane.recompilation.Recompiler.recompile_one": "logged with its trace, tried again later; others go on",
    "control_plane.keeper.CredentialKeeper.refresh_due.refresh": "logged; one connection's defect costs no other",
    "control_plane.keeper._oauth_wish": "logged by its type; a resolution of it tells whoever asks",
    "gateway.admin.refusals.answer_refusals": "logged with its trace, answered by its type",
    "gateway.credentials.Credentials._ask": "a source's own: logged by its type, counted, answered as temporary",
    "gateway.plan_watch.PlanWatcher.run": "logged; what is known ages, and the watch begins anew",
    "gateway.recorder.Recording.lines": "logged by its type, counted; costs one recorded line",
    "sallyport.net.clock.Clock._look_at": "told to the loop; one owner's defect costs no other its deadline",
    "sallyport.net.tunnel.Tunnel._flush": "told to the loop; ends this tunnel",
    "sallyport.net.tunnel.Tunnel._take": "told to the loop; ends this tunnel",
    "sallyport.net.tunnel.Tunnel.stream_opened": "told to the loop; resets this stream",
    "sallyport.net.tunnel_stream.TunnelStream._deliver": "told to the loop; ends this stream, as a transport does",
    "sallyport.net.tunnel_stream.TunnelStream._guarded": "told to the loop; ends this stream, as a transport does",
    "sallyport.net.tunnel_stream.TunnelStream._tell_eof": "told to the loop; ends this stream, as a transport does",
    "sallyport_cli.app.main": "told in one line; the exit status says that it is our fault",
}

# What docs/architecture.md allows, side by side; each planted tree is this one with a file more or another body.
SOUND = {
    "sallyport/__init__.py": '"""Kernel."""',
    "sallyport/host.py": "import re\n",
    "sallyport/secret.py": "import hmac\n\n\nclass Secret:\n    def reveal(self) -> bytes: ...\n",
    "sallyport/plan/__init__.py": '"""Plan."""',
    "sallyport/plan/model.py": "import pydantic\nfrom sallyport.host import f\nfrom sallyport.plan import match\n",
    "sallyport/plan/match.py": "",
    "sallyport/wire/head.py": "from sallyport import host\n",
    "sallyport/net/dial.py": "import asyncio\nimport socket\nimport sallyport.wire.head\n",
    "gateway/__init__.py": '"""Gateway."""',
    "gateway/config.py": "from os import environ\n",
    "gateway/serve.py": "import time\nfrom gateway.core.classify import f\nfrom sallyport.net.dial import dial\n",
    "gateway/admin.py": "from aiohttp import web\n",
    "gateway/core/classify.py": "from sallyport.plan.match import Matcher\n",
    "gateway/core/inject/field.py": "def field(secret): return secret.reveal()\n",
    "sandboxd/listener.py": "import sallyport.net.dial\n",
    "control_client/plans.py": "import aiohttp\n",
    "control_plane/store/rows.py": "import sqlalchemy\n",
    "control_plane/compiler/emit.py": "from sallyport.plan import model\n",
    "worker/app.py": "import control_client.plans\nimport worker.durable.workflows\n",
    "worker/durable/workflows.py": "import dbos\nimport sqlalchemy\n",
    "sallyport_cli/main.py": "def run():\n    import gateway.serve, worker.app, control_client.plans\n",
    "tests/test_all.py": "import os, sallyport_cli.main, gateway.core.classify\nos.environ\n",
}

PLANTED = [
    ("1", "sallyport/claims.py", "import jwt", "jwt"),
    ("1", "sallyport/claims.py", "from sallyport.plan import model", "sallyport.plan.model"),
    ("1", "sallyport/plan/x.py", "from sallyport.wire.head import Head", "sallyport.wire.head.Head"),
    ("1", "sallyport/plan/x.py", "import orjson", "orjson"),
    ("1", "sallyport/wire/x.py", "def f():\n    import sallyport.plan.match", "sallyport.plan.match"),
    ("1", "sallyport/wire/x.py", "import pydantic", "pydantic"),
    ("2", "sallyport/host.py", "import os.path", "os.path"),
    ("2", "sallyport/plan/x.py", "from time import monotonic", "time.monotonic"),
    ("2", "sallyport/wire/x.py", "async def f(): ...", "async in pure code"),
    ("2", "gateway/core/x.py", "import logging as log", "logging"),
    ("2", "gateway/core/x.py", "if TYPE_CHECKING:\n    import asyncio", "asyncio"),
    ("2", "control_plane/compiler/x.py", "import uuid", "uuid"),
    ("2", "control_client/feed_state.py", "import asyncio", "asyncio"),
    ("2", "gateway/core/x.py", "import sallyport.net.dial", "sallyport.net.dial -> asyncio"),
    ("3", "gateway/core/x.py", "from gateway import audit", "gateway.audit"),
    ("3", "sallyport_cli/x.py", "import gateway.core.classify", "gateway.core.classify"),
    ("4", "sandboxd/x.py", "from sallyport.secret import Secret", "sallyport.secret.Secret"),
    ("4", "sandboxd/x.py", "import sallyport.plan", "sallyport.plan"),
    ("4", "sandboxd/x.py", "import control_client.plans", "control_client.plans"),
    ("5", "sallyport/net/x.py", "from sallyport.plan.match import Matcher", "sallyport.plan.match.Matcher"),
    ("6", "gateway/x.py", "import worker.app", "worker.app"),
    ("6", "worker/x.py", "from control_plane.store.rows import Row", "control_plane.store.rows.Row"),
    ("6", "sallyport/net/x.py", "import gateway.config", "gateway.config"),
    ("6", "control_client/x.py", "import gateway.config", "gateway.config"),
    ("6", "gateway/x.py", "import sallyport_cli.main", "sallyport_cli.main"),
    ("6", "gateway/x.py", "from tests.test_all import os", "tests.test_all.os"),
    ("6", "demo/x.py", "import sallyport_cli.main", "sallyport_cli.main"),
    ("7", "control_plane/compiler/x.py", "import control_plane.api.app", "control_plane.api.app"),
    ("8", "gateway/x.py", "import socket", "socket"),
    ("8", "gateway/x.py", "asyncio.get_running_loop().create_server(f)", "create_server"),
    ("8", "gateway/x.py", "from aiohttp import ClientSession", "aiohttp.ClientSession"),
    ("8", "gateway/admin.py", "import aiohttp", "aiohttp"),
    ("8", "control_client/x.py", "from aiohttp import web", "aiohttp.web"),
    ("8", "worker/x.py", "import sqlite3", "sqlite3"),
    ("8", "worker/app.py", "import dbos", "dbos"),
    ("8", "gateway/recorder.py", "def f():\n    import mitmproxy.http", "mitmproxy.http"),
    ("8", "gateway/x.py", "import os\nos.environ['A']", "os.environ"),
    ("8", "sallyport_cli/x.py", "from os import getenv", "os.getenv"),
    ("reveal", "gateway/x.py", "def f(secret): return secret.reveal()", "reveal()"),
    ("reveal", "gateway/core/x.py", "f = Secret.reveal", "reveal()"),
    ("form", "gateway/x.py", "from .config import load", "relative import"),
    ("form", "gateway/x.py", "from gateway.config import *", "import *"),
    ("form", "gateway/x.py", "importlib.import_module(name)", "an import that no rule can read"),
    ("form", "gateway/core/__init__.py", '"""Core."""\nimport re', "docstring and nothing else"),
    ("form", "gateway/core/__init__.py", "", "docstring and nothing else"),
    ("form", "gateway/core/__init__.py", '"""\n' + "line\n" * 16 + '"""', "at most 15 lines"),
]


def planted(root: pathlib.Path, files: dict[str, str]) -> Tree:
    for name, body in (SOUND | files).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body, encoding="utf-8")
    return read_tree(root)


@pytest.fixture(scope="module")
def tree() -> Tree:
    return read_tree(ROOT)


def test_this_tree_keeps_the_rules(tree: Tree) -> None:
    found = violations(tree)
    assert not found, "\n" + "\n".join(f"rule {rule}: {place}: {what}" for rule, place, what in found)


def test_secrets_are_revealed_only_where_counted(tree: Tree) -> None:
    assert reveals(tree) == REVEALS


def test_whatever_is_raised_ends_only_where_it_is_told(tree: Tree) -> None:
    assert catch_alls(tree) == sorted(ENDS_OF_ALL)


@pytest.mark.parametrize(
    ("handler", "ends"),
    [
        ("except Exception: pass", True),
        ("except: pass", True),
        ("except (OSError, BaseException) as error: log(error)", True),
        ("except asyncio.CancelledError: return", True),
        ("except BaseException:\n  if late: return\n  raise", True),
        ("except Exception as error: raise ValueError from error", True),
        ("except BaseException:\n  close()\n  raise", False),
        ("except OSError: pass", False),
        ("except ExceptionGroup: pass", False),
    ],
)
def test_a_planted_end_of_everything_is_found(tmp_path: pathlib.Path, handler: str, ends: bool) -> None:
    body = f"class A:\n def f(self):\n  try: act()\n  {handler.replace('\n', '\n  ')}\n"
    assert catch_alls(planted(tmp_path, {"gateway/x.py": body})) == (["gateway.x.A.f"] if ends else [])


@pytest.mark.parametrize(("what", "ends"), [("Exception", True), ("OSError, Exception", True), ("OSError", False)])
def test_a_planted_suppression_is_found(tmp_path: pathlib.Path, what: str, ends: bool) -> None:
    body = f"with contextlib.suppress({what}): act()"
    assert catch_alls(planted(tmp_path, {"worker/x.py": body})) == (["worker.x"] if ends else [])


def test_what_is_allowed_is_not_reported(tmp_path: pathlib.Path) -> None:
    assert violations(planted(tmp_path, {})) == []


@pytest.mark.parametrize(("rule", "path", "body", "what"), PLANTED)
def test_planted_violation_is_found(tmp_path: pathlib.Path, rule: str, path: str, body: str, what: str) -> None:
    found = violations(planted(tmp_path, {path: body}))
    # One line may break two rules (a leaf that imports the plan); the planted one has to be among them, at its line.
    assert any(each.rule == rule and each.place.startswith(path) and what in each.what for each in found), found


def test_sandboxd_reaches_no_secret_by_a_detour(tmp_path: pathlib.Path) -> None:
    files = {
        "sandboxd/x.py": "from sallyport.net.bridge import f",
        "sallyport/net/bridge.py": "import sallyport.secret",
    }
    found = violations(planted(tmp_path, files))
    assert [(each.rule, each.place) for each in found] == [("4", "sandboxd/x.py:1")]
    assert found[0].what == "sallyport.net.bridge.f -> sallyport.secret"


def test_reveals_are_counted_by_module(tmp_path: pathlib.Path) -> None:
    body = "def f(a, b): return a.reveal() + b.reveal()"
    assert reveals(planted(tmp_path, {"gateway/core/scrub.py": body})) == {
        "gateway.core.inject.field": 1,
        "gateway.core.scrub": 2,
    }


@pytest.mark.parametrize(
    "call",
    [
        "asyncio.create_task(f())",
        "asyncio.ensure_future(f())",
        "asyncio.gather(f(), f())",
        "asyncio.wait_for(f(), 1)",
        "time.time()",
        "time.monotonic()",
    ],
)
def test_linter_refuses_banned_call(call: str) -> None:
    body = f"import {call.partition('.')[0]}\n\nX = {call}\n"
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select=TID251", "--stdin-filename=gateway/x.py"]
    answer = subprocess.run([*command, "-"], input=body, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert "TID251" in answer.stdout


def test_bans_are_lifted_only_where_the_thing_lives(tree: Tree) -> None:
    lifted = re.compile(r"# noqa: .*TID251")
    for module in tree.values():
        if not module.name.startswith(("tests.", "benchmarks.", "demo.", "sallyport.net.")):
            assert not lifted.search((ROOT / module.path).read_text(encoding="utf-8")), module.path


def test_a_comment_that_lifts_a_check_names_it(tree: Tree) -> None:
    nameless = re.compile(r"#\s*(type: ignore(?!\[)|noqa(?!: [A-Z]))")
    for module in tree.values():
        if module.name != "tests.test_architecture":
            assert not nameless.search((ROOT / module.path).read_text(encoding="utf-8")), module.path
