"""Setup documents for tests, and what carries them out: real programs, real files, short times."""

import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from sallyport.net.proc import stat_of
from sallyport.net.tasks import TaskSet
from sallyport.setup import Process, RuntimeClient, SetupDocument, parse_setup
from sandboxd.setup.environment import MARK
from sandboxd.setup.parts import RestartLimits, SetupParts

type Json = dict[str, Any]

# A crash loop is over in a tenth of a second.
QUICK = RestartLimits(first_delay_seconds=0.005, most_delay_seconds=0.02, stable_seconds=5.0, most_failures=4)
ENVIRONMENT = {"PATH": os.defpath}


def shell(script: str) -> list[str]:
    """A command line that runs a script."""
    return ["sh", "-c", script]


def python(script: str) -> list[str]:
    """A command line that runs Python code, started as quickly as can be."""
    return [sys.executable, "-I", "-S", "-c", script]


def process_document(key: str, args: Sequence[str], **fields: object) -> Json:
    """A process; `fields` replace or add members by their document names."""
    return {
        "processKey": key,
        "command": {"args": list(args)},
        "readiness": {"kind": "none"},
        "stop": {"signal": "SIGTERM", "timeoutMs": 2_000},
        "restart": "never",
        **fields,
    }


def client_document(
    client_id: str = "agent",
    processes: Sequence[object] = (),
    *,
    files: Sequence[object] = (),
    endpoints: Sequence[object] = (),
    env: Json | None = None,
) -> Json:
    """A runtime client."""
    return {
        "clientId": client_id,
        "setup": {"env": env or {}, "files": list(files)},
        "processes": list(processes),
        "endpoints": list(endpoints),
    }


def file_document(path: Path, content: str, **fields: object) -> Json:
    """A file of a runtime client."""
    file = {"fileId": path.name, "path": str(path), "mode": 0o600, "content": content, "writeMode": "overwrite"}
    return file | fields


def exec_step(args: Sequence[str], **fields: object) -> Json:
    """A lifecycle step that runs a program."""
    return {"op": "exec", "args": list(args), "timeoutMs": 5_000, **fields}


def artifact_document(
    key: str, install: Sequence[object], *, after: Sequence[str] | None = None, **steps: Sequence[object]
) -> Json:
    """An artifact; `steps` may be update and remove."""
    order = {} if after is None else {"after": list(after)}
    return {"artifactKey": key, "name": key, **order, "lifecycle": {"install": list(install), **steps}}


def setup_body(revision: int = 1, **fields: object) -> bytes:
    """The bytes of a setup document; `fields` replace members by their document names."""
    document = {
        "schemaVersion": 1,
        "sandboxId": "sbx_one",
        "revision": revision,
        "artifacts": [],
        "workspaceSources": [],
        "runtimeClients": [],
        "mcpServers": [],
        "environment": {},
        **fields,
    }
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def setup_of(**fields: Any) -> SetupDocument:  # noqa: ANN401  members of a JSON document
    """A parsed setup document."""
    return parse_setup(setup_body(**fields))


def process_of(args: Sequence[str], **fields: object) -> Process:
    """A parsed process."""
    (client,) = setup_of(
        runtimeClients=[client_document(processes=[process_document("main", args, **fields)])]
    ).runtime_clients
    return _only(client)


def _only(client: RuntimeClient) -> Process:
    (process,) = client.processes
    return process


@contextlib.asynccontextmanager
async def setup_parts(directory: Path, limits: RestartLimits = QUICK) -> AsyncIterator[SetupParts]:
    """The surroundings of a set-up in a directory; a task that fails fails the test."""
    async with task_set() as tasks:
        environment = {**ENVIRONMENT, MARK: "test"}
        yield SetupParts(directory=directory, environment=environment, tasks=tasks, restart_limits=limits)


@contextlib.asynccontextmanager
async def task_set() -> AsyncIterator[TaskSet]:
    """A set of tasks none of which may fail."""
    failures: list[tuple[str, BaseException]] = []
    tasks = TaskSet(lambda name, error: failures.append((name, error)))
    try:
        yield tasks
    finally:
        await tasks.close()
    assert failures == []


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that has ended and that nobody has waited for does not."""
    stat = stat_of(pid)
    return stat is not None and stat.state != "Z"


def has_content(path: Path) -> bool:
    """Say whether a program has written its file: one that is there may still be empty."""
    return path.exists() and path.stat().st_size > 0
