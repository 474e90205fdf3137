"""Setup documents: what is one, every issue of what is not, and the way from a plan."""

import contextlib
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sallyport.plan.codec import parse_plan, seal
from sallyport.setup import (
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_ISSUES,
    MAX_PROCESSES,
    MAX_SETUP_BYTES,
    ExecStep,
    HttpReadiness,
    LocalUrl,
    SetupDocument,
    SetupError,
    artifact_text,
    parse_artifact,
    parse_setup,
    setup_digest,
    setup_document,
    split_url,
)
from tests.support.plan_documents import plan_document

type Json = dict[str, Any]


def canonical(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def whole() -> Json:
    """A document with one of everything."""
    file = {"fileId": "config", "path": "/home/user/config.toml", "mode": 420, "content": "ü\n"}
    process = {
        "processKey": "server",
        "command": {"args": ["agent", "serve"], "env": {"A": "1"}, "cwd": "/home/user"},
        "readiness": {"kind": "http", "url": "http://127.0.0.1:4500/ready?x=1", "expectedStatus": 200, "timeoutMs": 9},
        "stop": {"signal": "SIGTERM", "timeoutMs": 1000, "gracePeriodMs": 500},
        "restart": "on-failure",
    }
    return {
        "schemaVersion": 1,
        "sandboxId": "sbx_one",
        "revision": 7,
        "artifacts": [
            {
                "artifactKey": "agent",
                "name": "The agent",
                "description": "its program",
                "env": {"AGENT_HOME": "/opt/agent"},
                "lifecycle": {
                    "install": [
                        {"op": "exec", "args": ["true"], "env": {"B": ""}, "cwd": "/", "timeoutMs": 5}
                        | {"cwd": "/opt"},
                        {"op": "file", "path": "/opt/x", "mode": 493, "content": "", "writeMode": "if-absent"},
                    ],
                    "update": [],
                    "remove": [],
                },
            }
        ],
        "workspaceSources": [
            {"sourceKind": "git-clone", "path": "/home/user/repo", "originUrl": "https://git.example.com/a/b.git"}
        ],
        "runtimeClients": [
            {
                "clientId": "agent",
                "setup": {"env": {}, "files": [{**file, "writeMode": "overwrite"}], "launchArgs": ["--quiet"]},
                "processes": [process],
                "endpoints": [
                    {
                        "endpointKey": "app",
                        "processKey": "server",
                        "transport": {"type": "ws", "url": "ws://127.0.0.1:4500/"},
                        "connectionMode": "dedicated",
                    }
                ],
            }
        ],
        "mcpServers": [
            {
                "serverId": "files",
                "bindingId": "bnd_one",
                "name": "files",
                "transport": {"type": "stdio", "command": "files", "args": [], "env": {}},
            },
            {
                "serverId": "web",
                "bindingId": "bnd_one",
                "name": "web",
                "transport": {"type": "streamable-http", "url": "https://mcp.example.com/mcp", "headers": {"X-A": "b"}},
            },
        ],
        "environment": {"AGENT_HOME": "/opt/agent"},
    }


def pointers(document: object) -> list[str]:
    try:
        parse_setup(document if isinstance(document, bytes) else canonical(document))
    except SetupError as error:
        return [issue.pointer for issue in error.issues]
    return []


def at(document: Json, pointer: str, value: object) -> Json:
    """The document with another value at a pointer; `...` removes the member."""
    changed: Json = json.loads(json.dumps(document))
    *way, last = pointer.split("/")[1:]
    place: Any = changed
    for step in way:
        place = place[int(step)] if isinstance(place, list) else place[step]
    if value is ...:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    return changed


def test_whole_document_is_read() -> None:
    document = parse_setup(canonical(whole()))
    assert (document.sandbox_id, document.revision) == ("sbx_one", 7)
    (artifact,) = document.artifacts
    assert artifact.lifecycle.install[0] == ExecStep(op="exec", args=("true",), env={"B": ""}, cwd="/opt", timeout_ms=5)
    (client,) = document.runtime_clients
    assert client.setup.files[0].content == "ü\n"
    assert client.setup.launch_args == ("--quiet",)
    assert isinstance(client.processes[0].readiness, HttpReadiness)
    assert [server.transport.type for server in document.mcp_servers] == ["stdio", "streamable-http"]
    assert document.environment == {"AGENT_HOME": "/opt/agent"}


def test_values_cannot_be_changed() -> None:
    document = parse_setup(canonical(whole()))
    with pytest.raises(dataclasses.FrozenInstanceError):
        document.revision = 8  # type: ignore[misc]  # what must not work
    with pytest.raises(TypeError):
        document.environment["A"] = "b"  # type: ignore[index]  # what must not work


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/schemaVersion", 2),
        ("/schemaVersion", True),
        ("/sandboxId", "one"),
        ("/revision", 0),
        ("/revision", 2**53),
        ("/environment", None),
        ("/environment", []),
        ("/environment/1A", "x"),
        ("/environment/AGENT_HOME", "a\0b"),
        ("/environment/AGENT_HOME", 1),
        ("/artifacts/0/artifactKey", "a/b"),
        ("/artifacts/0/name", "two\nlines"),
        ("/artifacts/0/surprise", 1),
        ("/artifacts/0/lifecycle/install/0/op", "shell"),
        ("/artifacts/0/lifecycle/install/0", "shell"),
        ("/artifacts/0/lifecycle/install/0", {"path": "/a"}),
        ("/artifacts/0/lifecycle/install/0/args", []),
        ("/artifacts/0/lifecycle/install/0/args/0", ""),
        ("/artifacts/0/lifecycle/install/0/timeoutMs", 0),
        ("/artifacts/0/lifecycle/install/0/timeoutMs", ...),
        ("/artifacts/0/lifecycle/install/0/cwd", "opt"),
        ("/artifacts/0/lifecycle/install/1/path", "/opt/../etc/x"),
        ("/artifacts/0/lifecycle/install/1/path", "/opt/./x"),
        ("/artifacts/0/lifecycle/install/1/path", "/opt//x"),
        ("/artifacts/0/lifecycle/install/1/path", "/opt/"),
        ("/artifacts/0/lifecycle/install/1/path", "/"),
        ("/artifacts/0/lifecycle/install/1/path", "x"),
        ("/artifacts/0/lifecycle/install/1/path", "/" + "a" * 4096),
        ("/artifacts/0/lifecycle/install/1/mode", 0o4755),
        ("/artifacts/0/lifecycle/install/1/writeMode", "append"),
        ("/workspaceSources/0/sourceKind", "svn"),
        ("/workspaceSources/0/originUrl", "ext::sh -c id"),
        ("/workspaceSources/0/originUrl", "https://user:secret@git.example.com/a"),
        ("/workspaceSources/0/originUrl", "file:///etc"),
        ("/runtimeClients/0/setup/files/0/content", "x" * (MAX_FILE_BYTES + 1)),
        ("/runtimeClients/0/setup/files/0/content", "ü" * (MAX_FILE_BYTES // 2 + 1)),
        ("/runtimeClients/0/processes/0/restart", "sometimes"),
        ("/runtimeClients/0/processes/0/stop/signal", "SIGSTOP"),
        ("/runtimeClients/0/processes/0/readiness/kind", "exec"),
        ("/runtimeClients/0/processes/0/readiness/url", "https://127.0.0.1/"),
        ("/runtimeClients/0/processes/0/readiness/url", "http://127.0.0.1:99999/"),
        ("/runtimeClients/0/processes/0/readiness/expectedStatus", 99),
        ("/runtimeClients/0/endpoints/0/processKey", "other"),
        ("/runtimeClients/0/endpoints/0/transport/url", "http://127.0.0.1:1/"),
        ("/runtimeClients/0/endpoints/0/transport/url", "ws://a#b"),
        ("/mcpServers/0/transport/command", ""),
        ("/mcpServers/1/transport/headers/a b", "x"),
        ("/mcpServers/1/transport/headers/X-A", "x\r\ny"),
    ],
)
def test_what_is_refused(pointer: str, value: object) -> None:
    assert pointers(at(whole(), pointer, value)) == [pointer]


@pytest.mark.parametrize(
    "pointer",
    ["/artifacts/0/lifecycle/install/0/cwd", "/artifacts/0/env", "/runtimeClients/0/setup/launchArgs"],
)
def test_what_is_optional_may_be_absent(pointer: str) -> None:
    assert pointers(at(whole(), pointer, ...)) == []


def test_all_issues_are_told_together() -> None:
    document = at(at(at(whole(), "/revision", 0), "/artifacts/0/name", ""), "/mcpServers", ...)
    assert sorted(pointers(document)) == ["/artifacts/0/name", "/mcpServers", "/revision"]


def test_repeated_names() -> None:
    document = whole()
    for name in ("artifacts", "workspaceSources", "runtimeClients"):
        document[name] *= 2
    document["runtimeClients"][1] = at(document["runtimeClients"][1], "/clientId", "other")
    client = document["runtimeClients"][0]
    client["processes"] = client["processes"] * 2
    assert sorted(pointers(document)) == [
        "/artifacts/1/artifactKey",
        "/runtimeClients/0/processes/1/processKey",
        "/workspaceSources/1/path",
    ]


def test_an_artifact_comes_after_earlier_ones_only() -> None:
    document = whole()
    first = document["artifacts"][0]
    named = [("a", []), ("b", ["a"]), ("c", ["c"]), ("d", ["a", "e"]), ("e", ["a", "b"])]
    document["artifacts"] = [{**first, "artifactKey": key, "after": after} for key, after in named]
    assert pointers(document) == ["/artifacts/2/after/0", "/artifacts/3/after/1"]
    assert pointers(at(whole(), "/artifacts/0/after", [7])) == ["/artifacts/0/after/0"]
    assert pointers(at(whole(), "/artifacts/0/after", "a")) == ["/artifacts/0/after"]


def test_one_file_is_one_client_s() -> None:
    document = whole()
    document["runtimeClients"].append(at(document["runtimeClients"][0], "/clientId", "other"))
    assert pointers(document) == ["/runtimeClients/1/setup/files/0/path"]


def test_the_same_server_of_two_bindings_is_no_fault_of_the_document() -> None:
    document = whole()
    document["mcpServers"].append(at(document["mcpServers"][0], "/bindingId", "bnd_two"))
    assert pointers(document) == []


def test_totals_over_all_clients() -> None:
    document = whole()
    client = document["runtimeClients"][0]
    file, process = client["setup"]["files"][0], client["processes"][0]
    client["setup"]["files"] = [at(at(file, "/fileId", f"f{n}"), "/path", f"/a/{n}") for n in range(MAX_FILES)]
    client["processes"] = [at(process, "/processKey", f"p{n}") for n in range(MAX_PROCESSES)]
    client["endpoints"] = []
    assert pointers(document) == []
    document["runtimeClients"].append(at(whole(), "/runtimeClients/0/clientId", "b")["runtimeClients"][0])
    assert pointers(document) == ["/runtimeClients", "/runtimeClients"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        canonical(whole()) + b"\n",
        json.dumps(whole()).encode(),
        canonical(whole()).replace(b'"revision":7', b'"revision":7,"revision":7'),
        canonical(whole()).replace(b'"revision":7', b'"revision":7.0'),
        canonical(whole()).replace(b'"revision":7', b'"revision":NaN'),
        canonical(whole()).replace(b'"revision":7', b'"revision":1e3'),
        canonical(whole()).replace(b'"revision":7', b'"revision":' + b"7" * 5000),
        canonical(whole()).replace("ü".encode(), b"\\u00fc"),
        canonical(whole()).replace("ü".encode(), b"\\ud800"),
        b"[" * 100_000,
        b" " * (MAX_SETUP_BYTES + 1),
    ],
)
def test_bytes_that_are_no_canonical_document(body: bytes) -> None:
    assert pointers(body) == [""]


def test_issues_end() -> None:
    document = whole() | {f"m{n}": 1 for n in range(MAX_ISSUES * 3)}
    assert len(pointers(document)) == MAX_ISSUES


def test_an_issue_names_strange_members_and_quotes_no_value() -> None:
    with pytest.raises(SetupError) as caught:
        parse_setup(canonical({**whole(), "a/b~c": "VALUE", "sandboxId": "VALUE"}))
    assert [issue.pointer for issue in caught.value.issues] == ["/a~1b~0c", "/sandboxId"]
    assert "VALUE" not in str(caught.value)
    assert caught.value.issues[1].to_document() == {"pointer": "/sandboxId", "message": "a sandbox id is expected"}


def test_digest_is_over_the_bytes() -> None:
    assert setup_digest(b"{}") == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


# From a plan -------------------------------------------------------------------------------------------------------


def plan_with_everything() -> Json:
    document = whole()
    members = ("artifacts", "workspaceSources", "runtimeClients", "mcpServers")
    return plan_document(**{name: document[name] for name in members}, revision=7)


def test_a_plan_s_document_says_the_same() -> None:
    plan = plan_with_everything()
    parse_plan(seal(plan))
    assert setup_document(plan) == canonical(whole())


def test_variables_of_artifacts_come_together_and_may_not_disagree() -> None:
    plan = plan_with_everything()
    first = plan["artifacts"][0]
    second = at(at(first, "/artifactKey", "two"), "/env", {"OTHER": "2", "AGENT_HOME": "/opt/agent"})
    plan["artifacts"] = [first, second]
    assert parse_setup(setup_document(plan)).environment == {"AGENT_HOME": "/opt/agent", "OTHER": "2"}
    second["env"]["AGENT_HOME"] = "/elsewhere"
    with pytest.raises(SetupError) as caught:
        setup_document(plan)
    assert [issue.pointer for issue in caught.value.issues] == ["/artifacts/1/env/AGENT_HOME"]


def test_a_plan_that_sandboxd_would_refuse() -> None:
    plan = plan_with_everything()
    plan["workspaceSources"][0]["path"] = "repo"
    parse_plan(seal(plan))
    with pytest.raises(SetupError) as caught:
        setup_document(plan)
    assert [issue.pointer for issue in caught.value.issues] == ["/workspaceSources/0/path"]


def test_what_cannot_be_written_as_json_has_no_document() -> None:
    with pytest.raises(SetupError, match="a plan's JSON is expected"):
        setup_document({**plan_with_everything(), "revision": {1}})


def test_nothing_of_the_way_out_is_in_it() -> None:
    assert {field.name for field in dataclasses.fields(SetupDocument)} == {
        "schema_version",
        "sandbox_id",
        "revision",
        "artifacts",
        "workspace_sources",
        "runtime_clients",
        "mcp_servers",
        "environment",
    }


# Parts -------------------------------------------------------------------------------------------------------------


def test_an_artifact_alone_is_written_and_read() -> None:
    (artifact,) = parse_setup(canonical(whole())).artifacts
    assert parse_artifact(artifact_text(artifact)) == artifact
    assert json.loads(artifact_text(artifact)) == whole()["artifacts"][0]


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("ws://127.0.0.1:4500", LocalUrl("ws", "127.0.0.1", 4500, "/")),
        ("http://localhost/mcp?a=b", LocalUrl("http", "localhost", 80, "/mcp?a=b")),
        ("WSS://[::1]/x", LocalUrl("wss", "::1", 443, "/x")),
    ],
)
def test_url_parts(url: str, parts: LocalUrl) -> None:
    assert split_url(url) == parts


@pytest.mark.parametrize("url", ["http://", "//a", "a", "ftp://a/", "http://u@a/", "http://a:x/", "http://a/#f", ""])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  several messages, two of them urlsplit's own
        split_url(url)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.sampled_from(sorted(whole())), _JSON)
def test_any_json_anywhere_is_read_or_refused(name: str, value: object) -> None:
    body = canonical({**whole(), name: value}) if _is_encodable(value) else b"{}"
    with contextlib.suppress(SetupError):
        parse_setup(body)


@given(st.binary())
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with pytest.raises(SetupError):
        parse_setup(body)


def _is_encodable(value: object) -> bool:
    try:
        canonical(value)
    except UnicodeEncodeError:
        return False
    return True
