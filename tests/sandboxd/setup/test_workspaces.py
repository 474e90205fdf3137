"""Clones of a real repository over real HTTP."""

import functools
import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sallyport.setup import WorkspaceSource
from sandboxd.setup.steps import StepFailed
from sandboxd.setup.workspaces import clone
from tests.support.setup_documents import setup_of, setup_parts

# The machine's own settings of git are not part of the test.
GIT = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with one repository, `repo.git`."""
    root = tmp_path_factory.mktemp("origin")
    script = """
        git init -q -b main work && cd work && echo hello > file && git add file
        git -c user.name=x -c user.email=x@example.com commit -q -m one
        cd .. && git clone -q --bare work repo.git && cd repo.git && git update-server-info
    """
    subprocess.run(["sh", "-ec", script], cwd=root, env={"PATH": os.environ["PATH"], **GIT}, check=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def source_of(path: Path, url: str) -> WorkspaceSource:
    source = {"sourceKind": "git-clone", "path": str(path), "originUrl": url}
    return setup_of(workspaceSources=[source]).workspace_sources[0]


async def test_cloned_once(tmp_path: Path, origin: str) -> None:
    async with setup_parts(tmp_path / "state") as parts:
        source = source_of(tmp_path / "home/repo", f"{origin}/repo.git")
        await clone(parts, source, GIT)
        assert (tmp_path / "home/repo/file").read_text() == "hello\n"
        (tmp_path / "home/repo/file").write_text("mine\n")
        await clone(parts, source, GIT)
        assert (tmp_path / "home/repo/file").read_text() == "mine\n"
        assert os.listdir(tmp_path / "home") == ["repo"]


async def test_an_empty_directory_is_filled(tmp_path: Path, origin: str) -> None:
    (tmp_path / "repo").mkdir()
    async with setup_parts(tmp_path / "state") as parts:
        await clone(parts, source_of(tmp_path / "repo", f"{origin}/repo.git"), GIT)
    assert (tmp_path / "repo/file").exists()


async def test_a_clone_that_fails_leaves_nothing(tmp_path: Path, origin: str) -> None:
    async with setup_parts(tmp_path / "state") as parts:
        with pytest.raises(StepFailed, match=r"git exited with code 128: fatal: .*not found"):
            await clone(parts, source_of(tmp_path / "home/repo", f"{origin}/other.git"), GIT)
    assert os.listdir(tmp_path / "home") == []


async def test_nobody_s_files_are_touched(tmp_path: Path, origin: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").touch()
    (tmp_path / "plain").touch()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    async with setup_parts(tmp_path / "state") as parts:
        for name, message in (
            ("full", "holds files and is no repository"),
            ("plain", "is not a directory"),
            ("link", "is a symbolic link"),
            ("link/repo", "link is a symbolic link"),
        ):
            with pytest.raises(StepFailed, match=message):
                await clone(parts, source_of(tmp_path / name, f"{origin}/repo.git"), GIT)
    assert not (tmp_path / "elsewhere").exists()
