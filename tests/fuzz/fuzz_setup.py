"""Setup documents, as sandboxd reads them and as they are made from a plan.

The input is a document; where it is JSON it is also written canonically, so that its form does not hide its content,
and taken for a plan. Allowed outcomes:
- SetupError with at least one issue, each with a pointer into the document;
- a document: every path in it is absolute and plain, every artifact is the same after it was written and read.
"""

import contextlib
import json

from sallyport.setup import SetupDocument, SetupError, artifact_text, parse_artifact, parse_setup, setup_document
from tests.support.fuzzing import run


def _canonical(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8", "replace")


_FILE = {"path": "/a/b", "mode": 420, "content": "ü", "writeMode": "overwrite"}
_PROCESS = {
    "processKey": "main",
    "command": {"args": ["run"], "env": {"A": "b"}, "cwd": "/a"},
    "readiness": {"kind": "http", "url": "http://[::1]:80/x?y", "expectedStatus": 200, "timeoutMs": 1},
    "stop": {"signal": "SIGTERM", "timeoutMs": 1},
    "restart": "always",
}
_WHOLE = {
    "schemaVersion": 1,
    "sandboxId": "sbx_one",
    "revision": 1,
    "artifacts": [{"artifactKey": "a", "name": "A", "lifecycle": {"install": [{"op": "file", **_FILE}]}}],
    "workspaceSources": [{"sourceKind": "git-clone", "path": "/r", "originUrl": "https://git.example.com/a"}],
    "runtimeClients": [
        {
            "clientId": "c",
            "setup": {"env": {}, "files": [{"fileId": "f", **_FILE}]},
            "processes": [_PROCESS],
            "endpoints": [],
        }
    ],
    "mcpServers": [
        {
            "serverId": "s",
            "bindingId": "b",
            "name": "s",
            "transport": {"type": "stdio", "command": "x", "args": []},
        }
    ],
    "environment": {},
}
SEEDS = (
    _canonical(_WHOLE),
    _canonical({**_WHOLE, "environment": {"A": "b", "PATH": "/bin"}}),
    json.dumps(_WHOLE, indent=1).encode(),
    _canonical(_WHOLE).replace(b'"/a/b"', b'"/a/../b"'),
    b'{"schemaVersion":1,"schemaVersion":1}',
    b"[[[[[[[[[[[[[[[[",
)


def check(data: bytes) -> None:
    """Check one input."""
    check_document(data)
    try:
        document = json.loads(data)
        canonical = _canonical(document)
    except (ValueError, RecursionError):
        return
    check_document(canonical)
    if isinstance(document, dict):
        with contextlib.suppress(SetupError):
            parse_setup(setup_document(document))


def check_document(data: bytes) -> None:
    """It is refused with issues, or it is a document that can be carried out."""
    try:
        document = parse_setup(data)
    except SetupError as error:
        check_issues(error)
        return
    for path in paths_of(document):
        assert path.startswith("/")
        assert not {"", ".", ".."} & set(path[1:].split("/"))
    for artifact in document.artifacts:
        assert parse_artifact(artifact_text(artifact)) == artifact


def check_issues(error: SetupError) -> None:
    """There is at least one, and each says where."""
    assert error.issues
    assert all(issue.pointer == "" or issue.pointer.startswith("/") for issue in error.issues)


def paths_of(document: SetupDocument) -> list[str]:
    """Every place that a document writes to."""
    files = [file.path for client in document.runtime_clients for file in client.setup.files]
    return files + [source.path for source in document.workspace_sources]


if __name__ == "__main__":
    run(check, SEEDS)
