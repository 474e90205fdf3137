from typing import Any

import pytest

from tests.support.plan_documents import Document, issues_of, plan_document

FILE = {"op": "file", "path": "/x", "mode": 420, "content": "", "writeMode": "overwrite"}
EXEC = {"op": "exec", "args": ["true"], "timeoutMs": 1}


def artifact(*steps: object) -> Document:
    return {"artifactKey": "a", "name": "A", "lifecycle": {"install": list(steps)}}


def process(**fields: object) -> Document:
    return {
        "processKey": "p",
        "command": {"args": ["true"]},
        "readiness": {"kind": "none"},
        "stop": {"signal": "SIGTERM", "timeoutMs": 1},
        "restart": "never",
        **fields,
    }


def client(**fields: object) -> Document:
    return {"clientId": "c", "setup": {"env": {}, "files": []}, "processes": [], "endpoints": [], **fields}


def endpoint(url: str) -> Document:
    return {"endpointKey": "e", "transport": {"type": "ws", "url": url}, "connectionMode": "shared"}


def server(**transport: object) -> Document:
    return {"serverId": "s", "bindingId": "bnd_one", "name": "S", "transport": transport}


@pytest.mark.parametrize(
    "fields",
    [
        {"image": {"source": "profile-base", "imageRef": "x", "sandboxProfileId": "sbp_one", "version": 1}},
        {"artifacts": [artifact(FILE, EXEC)]},
        {"runtimeClients": [client(processes=[process()], endpoints=[endpoint("wss://localhost/x")])]},
        {
            "mcpServers": [
                server(type="stdio", command="x", args=[]),
                server(type="streamable-http", url="http://a.test"),
            ]
        },
    ],
)
def test_the_smallest_of_everything_is_good(fields: dict[str, Any]) -> None:
    assert issues_of(plan_document(**fields)) == []


@pytest.mark.parametrize(
    ("fields", "code", "pointer"),
    [
        ({"image": {"source": "base"}}, "missing_field", "/image/imageRef"),
        ({"image": {"imageRef": "x"}}, "missing_field", "/image/source"),
        ({"artifacts": [artifact({**FILE, "mode": "0644"})]}, "wrong_type", "/artifacts/0/lifecycle/install/0/mode"),
        ({"artifacts": [artifact({**FILE, "mode": 4096})]}, "out_of_range", "/artifacts/0/lifecycle/install/0/mode"),
        ({"artifacts": [artifact({**FILE, "path": "a\0"})]}, "malformed", "/artifacts/0/lifecycle/install/0/path"),
        (
            {"artifacts": [artifact({**FILE, "writeMode": "append"})]},
            "unknown_value",
            "/artifacts/0/lifecycle/install/0/writeMode",
        ),
        ({"artifacts": [artifact({**EXEC, "args": []})]}, "out_of_range", "/artifacts/0/lifecycle/install/0/args"),
        ({"artifacts": [artifact({**EXEC, "args": ["a\0b"]})]}, "malformed", "/artifacts/0/lifecycle/install/0/args/0"),
        (
            {"artifacts": [artifact({**EXEC, "args": ["x" * 131_073]})]},
            "out_of_range",
            "/artifacts/0/lifecycle/install/0/args/0",
        ),
        (
            {"artifacts": [artifact({**EXEC, "timeoutMs": 0})]},
            "out_of_range",
            "/artifacts/0/lifecycle/install/0/timeoutMs",
        ),
        (
            {"artifacts": [artifact({**EXEC, "timeoutMs": 86_400_001})]},
            "out_of_range",
            "/artifacts/0/lifecycle/install/0/timeoutMs",
        ),
        (
            {"artifacts": [artifact({**EXEC, "env": {"A-B": ""}})]},
            "malformed",
            "/artifacts/0/lifecycle/install/0/env/A-B",
        ),
        ({"artifacts": [artifact({"op": "copy"})]}, "unknown_value", "/artifacts/0/lifecycle/install/0/op"),
        (
            {"workspaceSources": [{"sourceKind": "git-clone", "path": "/x", "originUrl": "https://u:p@a.test/x.git"}]},
            "invalid_url",
            "/workspaceSources/0/originUrl",
        ),
        (
            {"workspaceSources": [{"sourceKind": "git-clone", "path": "/x", "originUrl": "wss://a.test/x.git"}]},
            "invalid_url",
            "/workspaceSources/0/originUrl",
        ),
        (
            {"runtimeClients": [client(endpoints=[endpoint("http://a.test")])]},
            "invalid_url",
            "/runtimeClients/0/endpoints/0/transport/url",
        ),
        (
            {"runtimeClients": [client(processes=[process(restart="maybe")])]},
            "unknown_value",
            "/runtimeClients/0/processes/0/restart",
        ),
        (
            {"runtimeClients": [client(processes=[process(stop={"signal": "TERM", "timeoutMs": 1})])]},
            "unknown_value",
            "/runtimeClients/0/processes/0/stop/signal",
        ),
        (
            {
                "runtimeClients": [
                    client(
                        processes=[
                            process(
                                readiness={"kind": "http", "url": "http://a.test", "expectedStatus": 99, "timeoutMs": 1}
                            )
                        ]
                    )
                ]
            },
            "out_of_range",
            "/runtimeClients/0/processes/0/readiness/expectedStatus",
        ),
        ({"mcpServers": [server(type="stdio", command="x")]}, "missing_field", "/mcpServers/0/transport/args"),
        ({"mcpServers": [server(type="sse", url="http://a.test")]}, "unknown_value", "/mcpServers/0/transport/type"),
    ],
)
def test_the_sandboxs_part_is_strict(fields: dict[str, Any], code: str, pointer: str) -> None:
    assert issues_of(plan_document(**fields)) == [(code, pointer)]
