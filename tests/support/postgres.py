"""A PostgreSQL server of our own: on a socket in a folder of its own, as an ordinary user, gone when the tests are.

Where there is none the tests that need it are reported as not run; under CI that is a failure.
"""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

START_SECONDS = 20.0
STOP_SECONDS = 20.0
_POLL_SECONDS = 0.02
# Nothing here has to survive anything.
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "200",
    "shared_buffers": "16MB",
    "autovacuum": "off",
    "timezone": "UTC",
}


class PostgresServer:
    """A running server; `url(name)` names one of its databases."""

    def __init__(self, folder: Path, process: "subprocess.Popen[bytes]") -> None:
        self.folder = folder
        self.process = process
        self._numbers = itertools.count(1)

    def url(self, database: str) -> str:
        """Return a URL as SALLYPORT_DATABASE_URL has it."""
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def create(self) -> str:
        """Make an empty database and return its name."""
        name = f"test_{next(self._numbers)}"
        self.run("postgres", f"CREATE DATABASE {name}")
        return name

    def run(self, database: str, statement: str) -> list[tuple[object, ...]]:
        """Run one statement and return its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Start a server; skip where there is no PostgreSQL, fail there under CI."""
    programs = _programs()
    if programs is None:
        if os.environ.get("CI") == "true":
            pytest.fail("PostgreSQL is required here: initdb and postgres were not found (set PG_BIN, or install it)")
        pytest.skip("not run: PostgreSQL is not installed (initdb and postgres; PG_BIN names their folder)")
    folder = Path(tempfile.mkdtemp(prefix="sallyport-pg-"))
    try:
        as_user = _as_ordinary_user(folder)
        process = _start(programs, folder, as_user)
        try:
            yield PostgresServer(folder, process)
        finally:
            process.send_signal(signal.SIGQUIT)  # at once: there is nothing to save
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    named = os.environ.get("PG_BIN")
    on_path = shutil.which("initdb")
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name, reverse=True)
    candidates = [Path(named)] if named else [*([Path(on_path).resolve().parent] if on_path else []), *installed]
    found = [path for path in candidates if (path / "initdb").exists() and (path / "postgres").exists()]
    return found[0] if found else None


def _as_ordinary_user(folder: Path) -> list[str]:
    """Return what to put before a command so that it is not run by root, which PostgreSQL refuses."""
    if os.getuid() != 0:
        return []
    users = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = users.get("postgres") or users["nobody"]
    os.chown(folder, user.pw_uid, user.pw_gid)
    # SIGQUIT when the test run is killed: nothing is left behind.
    return [
        *("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--pdeathsig=SIGQUIT"),
        "--",
    ]


def _start(programs: Path, folder: Path, as_user: list[str]) -> "subprocess.Popen[bytes]":
    data, environment = folder / "data", {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}
    initdb = [*as_user, str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N"]
    made = subprocess.run(initdb, env=environment, cwd=folder, capture_output=True, check=False, timeout=60)
    assert made.returncode == 0, made.stderr.decode(errors="replace")
    settings = {**_SETTINGS, "unix_socket_directories": str(folder)}
    options = [each for name, value in settings.items() for each in ("-c", f"{name}={value}")]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [*as_user, str(programs / "postgres"), "-D", str(data), *options],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    for _ in range(int(START_SECONDS / _POLL_SECONDS)):
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(f"postgresql://postgres@/postgres?host={folder}").close()
            return process
        if process.poll() is not None:
            break
        time.sleep(_POLL_SECONDS)
    process.kill()
    process.wait()
    raise AssertionError((folder / "log").read_text(errors="replace"))
