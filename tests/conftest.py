"""What every test may use: the published vectors, the depth of random search, the event loop."""

import asyncio
import json
import os
import pathlib
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import hypothesis
import pytest
import structlog
import uvloop

from tests.support.counts import counts_of
from tests.support.figures import InTime, figure

ROOT = pathlib.Path(__file__).resolve().parent.parent
CORPORA = pathlib.Path(os.environ.get("SALLYPORT_CORPORA", ROOT.parent / "shared" / "corpora"))

# Every commit walks the same short path, so a failure is the commit's; `make test-all` looks further each time.
hypothesis.settings.register_profile("fast", deadline=None, max_examples=40, derandomize=True)
hypothesis.settings.register_profile("full", deadline=None, max_examples=1_000, print_blob=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full",
        action="store_true",
        help="search further in the tests by random examples, and hold what takes time to its bounds",
    )


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts what it puts in the background so, and every process that a test starts would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    hypothesis.settings.load_profile("full" if config.getoption("--full") else "fast")


def pytest_runtest_setup(item: pytest.Item) -> None:
    # What a test counts goes with its report, also from the process of another worker.
    item.user_properties += [("counted", list(mark.args)) for mark in item.iter_markers("counted")]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was tried, and how often what must not happen did."""
    reports = [report for kind in ("passed", "failed", "error") for report in terminalreporter.getreports(kind)]
    if counts := counts_of(report for report in reports if isinstance(report, pytest.TestReport)):
        terminalreporter.write_line(counts)


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.get_closest_marker("uvloop"):
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": _Loop}


class _Loop(asyncio.SelectorEventLoop):
    """Ends what a test closed and did not wait for: the collector would find it in a test that knows nothing of it.

    What nobody has closed is left to be found. uvloop ends by itself what is closing.
    """

    def close(self) -> None:
        if not self.is_closed():
            for transport in vars(self)["_transports"].values():
                inside = getattr(transport.get_protocol(), "_app_transport", None)  # where it carries TLS
                if transport.is_closing() or (inside is not None and inside.is_closing()):
                    transport.abort()
            self.run_until_complete(asyncio.sleep(0))
        super().close()


@pytest.fixture(autouse=True)
def _log_of_one_test() -> Iterator[None]:
    """Forget how a command run in this process set the log up: it would write to the output of a test that is over."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def in_time(pytestconfig: pytest.Config) -> InTime:
    """Return what says how long something took, and fails where that is too long and `--full` is given.

    Without it a test asserts order alone: a machine that runs many things at once is not a fault of the gateway's.
    """
    is_full = bool(pytestconfig.getoption("--full"))

    def check(name: str, seconds: float, most_seconds: float) -> None:
        figure(name, seconds)
        assert seconds < most_seconds or not is_full, f"{name}: {seconds:.3f} s"

    return check


@pytest.fixture(scope="session")
def corpus() -> Callable[[str], Any]:
    """Return a reader of published test vectors by file name; a test whose vectors are absent is skipped by name."""

    def read(name: str) -> Any:  # noqa: ANN401 (each file has a shape of its own)
        path = CORPORA / name
        if not path.exists():
            pytest.skip(f"vectors not here: {name} (SALLYPORT_CORPORA names their folder)")
        return json.loads(path.read_bytes())

    return read
