"""Break one guard at a time and see its test fail.

The source is copied to a tree of its own; there one piece of text is replaced, one test is run, and it must fail. A
guard whose test still passes is guarded by nothing. Text that is no longer there fails as well, so that the table
cannot rot.
"""

import ast
import contextlib
import io
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = (
    "control_client",
    "control_plane",
    "demo",
    "gateway",
    "sallyport",
    "sallyport_cli",
    "sandboxd",
    "tests",
    "worker",
)
# These take longer to load than most tests to run.
_LOADED_ONCE: Final = (
    "pytest",
    "aiohttp",
    "cryptography.x509",
    "hypothesis.stateful",
    "jwt",
    "pydantic",
    "structlog",
    "uvloop",
)
_IGNORED: Final = shutil.ignore_patterns("*.so", "fuzz", "guards")
_EARLIER: Final = (1_000_000_000, 1_000_000_000)


class Guard(NamedTuple):
    """One thing that keeps something out: the text that does it, what takes its place, and the test that must fail."""

    name: str
    file: str
    text: str
    replacement: str
    test: str


def faults_of(guard: Guard, root: Path = ROOT) -> str:
    """Say what is wrong with an entry of the table, or nothing."""
    path = root / guard.file
    source = path.read_text(encoding="utf-8") if path.exists() else ""
    if source.count(guard.text) != 1:
        return f"{guard.file} holds its text {source.count(guard.text)} times, not once"
    if guard.text.split() == guard.replacement.split():
        return "its replacement changes nothing"
    try:
        ast.parse(source.replace(guard.text, guard.replacement))
    except SyntaxError as error:
        return f"its replacement is no Python: {error}"
    test_file, _, test = guard.test.partition("::")
    function = f"def {test.partition('[')[0]}("
    if not (root / test_file).exists() or function not in (root / test_file).read_text(encoding="utf-8"):
        return f"there is no test {guard.test}"
    return ""


def break_all(guards: Sequence[Guard], folder: Path, *, processes: int = 2) -> Iterator[str]:
    """Break each guard in turn, as many at once as there are processes; yield "" where its test fails, as it must."""
    trees = [folder / str(number) for number in range(processes)]
    _copy(ROOT, trees[0])
    with contextlib.ExitStack() as opened:
        # One for each tree; and a process of its own for each guard, because what a test imported stays imported.
        pools = [opened.enter_context(_pool()) for _ in trees]
        tests = sorted({guard.test for guard in guards})
        code, said = pools[0].submit(_run, trees[0], tests, keep_bytecode=True).result()
        if code != pytest.ExitCode.OK:
            raise RuntimeError(f"the tests fail before anything is broken:\n{said}")
        for tree in trees[1:]:
            shutil.copytree(trees[0], tree)
        broken = [
            pools[number % processes].submit(_break, trees[number % processes], guard)
            for number, guard in enumerate(guards)
        ]
        for each in broken:
            yield each.result()


def _pool() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_LOADED_ONCE))
    return ProcessPoolExecutor(1, context, max_tasks_per_child=1)


def _copy(root: Path, tree: Path) -> None:
    tree.mkdir()
    for package in PACKAGES:
        shutil.copytree(root / package, tree / package, ignore=_IGNORED)
    shutil.copytree(root / "docs", tree / "docs")
    shutil.copy2(root / "pyproject.toml", tree)


def _break(tree: Path, guard: Guard) -> str:
    path = tree / guard.file
    source = path.read_text(encoding="utf-8")
    times = path.stat()
    try:
        path.write_text(source.replace(guard.text, guard.replacement), encoding="utf-8")
        os.utime(path, _EARLIER)  # no cached bytecode is taken for the broken file's
        os.environ["TESTS_WAIT_SECONDS"] = "5"  # many wait in vain for what is broken (tests/support/raw_end.py)
        code, said = _run(tree, [guard.test], keep_bytecode=False)
    finally:
        path.write_text(source, encoding="utf-8")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    if code == pytest.ExitCode.TESTS_FAILED:
        return ""
    how = "passes" if code == pytest.ExitCode.OK else "does not run"
    return f"{guard.test} {how} without it:\n{said}"


def _run(tree: Path, tests: Sequence[str], *, keep_bytecode: bool) -> tuple[int, str]:
    """Run tests in this process, which has loaded nothing of the source, with a tree in the place of the source."""
    os.chdir(tree)
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        del sys.modules[name]
    sys.path[:] = [str(tree), *(entry for entry in sys.path if entry and Path(entry).resolve() != ROOT)]
    sys.dont_write_bytecode = not keep_bytecode
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        # What was loaded before the fork is no test, so it needs no rewriting.
        arguments = ["-x", "-q", "--tb=line", "-p", "no:xdist", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
        # Nor matters what a test leaves open that has failed, as it should.
        arguments += ["-W", "ignore::pytest.PytestUnraisableExceptionWarning", "-W", "ignore::ResourceWarning"]
        code = pytest.main([*arguments, *tests])
    return int(code), said.getvalue()
