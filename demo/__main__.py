"""Run the demonstration: `python -m demo`. Exit status 0 when every step passed, 1 otherwise, 2 when not prepared."""

import asyncio
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from demo.chain import Chain, ChainFailed, whole_chain
from demo.config import NotPrepared, Prepared, client_environment, find_prepared
from demo.leaks import leaks, leaks_of_a_process
from demo.origins import Credentials, Origins, random_credentials, serve_origins
from demo.report import print_opening, print_result
from demo.standing import credential_variables, write_standing
from demo.steps import Outcome, Step, all_steps

STEP_SECONDS = 40.0
# Of a log, where no terminal says how wide it is.
WIDTH = 110
# Writes the environment the client was really given beside its folder, then becomes the client.
_WITNESS = 'env -0 >"$1"; shift; exec "$@"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One step with what came of it; `faults` is empty where it passed."""

    step: Step
    outcome: Outcome
    faults: list[str]


class Demonstration:
    """One run: its folder, its origins, its credentials, the chain between them and the clients."""

    def __init__(
        self, prepared: Prepared, folder: Path, origins: Origins, credentials: Credentials, chain: Chain
    ) -> None:
        self._prepared = prepared
        self._folder = folder
        self._origins = origins
        self._credentials = credentials
        self._chain = chain

    async def perform(self, step: Step) -> Result:
        """Run one step and search everything its client could see, and what crossed the tunnel, for the credentials."""
        home = self._folder / "clients" / step.home
        home.mkdir(parents=True, exist_ok=True)
        witness = self._folder / "environment"
        witness.unlink(missing_ok=True)
        mark = len(self._origins.ledger.received)
        tap = self._chain.tap
        before = tap.up.crossed(), tap.down.crossed()
        status, output, errors = await self._run(step, home, witness)
        outcome = Outcome(
            status=status,
            output=output.decode(errors="replace"),
            errors=errors.decode(errors="replace"),
            received=self._origins.ledger.since(mark),
            sent_up=tap.up.crossed().since(before[0]),
            sent_down=tap.down.crossed().since(before[1]),
        )
        faults = [fault for check in step.checks for fault in check(outcome)]
        environment = _read_environment(witness)
        if not environment:
            faults.append("the client did not start")
        secrets = self._credentials.values()
        faults += leaks_of_a_process(environment, (output, errors), [home], secrets)
        faults += [f"the tunnel carried a credential: {spelling}" for spelling in leaks(tap.everything(), secrets)]
        return Result(step=step, outcome=outcome, faults=faults)

    async def _run(self, step: Step, home: Path, witness: Path) -> tuple[int, bytes, bytes]:
        command = ("sh", "-c", _WITNESS, "sh", str(witness), *step.command)
        environment = client_environment(self._prepared, home, step.also)
        if step.with_sallyport:
            command = (str(self._prepared.sallyport), "run", "--sandboxd", self._chain.sandboxd, "--", *command)
        process = await asyncio.create_subprocess_exec(
            *command, cwd=home, env=environment, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
        )
        try:
            async with asyncio.timeout(STEP_SECONDS):
                output, errors = await process.communicate()
        except TimeoutError:
            process.terminate()
            output, errors = await process.communicate()
            errors += f"\nended after {STEP_SECONDS:.0f} s".encode()
        return process.returncode or 0, output, errors


async def demonstrate(prepared: Prepared, console: Console) -> int:
    """Perform every step and print it; return the exit status."""
    passed = 0
    starting = console.status("starting control plane, gateway, worker and sandboxd ...")
    with tempfile.TemporaryDirectory(prefix="sallyport-demo-") as name:
        folder = Path(name)
        credentials = random_credentials()
        async with serve_origins(folder, credentials, prepared.search_path) as origins:
            steps = all_steps(prepared, origins)
            print_opening(console)
            starting.start()
            standing = write_standing(folder, origins)
            environment = client_environment(prepared, folder, {})
            secrets = credential_variables(credentials)
            async with whole_chain(prepared, folder, standing, environment, secrets) as chain:
                starting.stop()
                run = Demonstration(prepared, folder, origins, credentials, chain)
                for number, step in enumerate(steps, start=1):
                    with console.status(f"{step.title} ..."):
                        result = await run.perform(step)
                    print_result(console, number, result.step, result.outcome, result.faults)
                    passed += not result.faults
    console.print(f"demo: {passed} of {len(steps)} passed")
    return 0 if passed == len(steps) else 1


def main() -> int:
    """Find what is needed, run, return the exit status."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    try:
        prepared = find_prepared()
    except NotPrepared as fault:
        Console(stderr=True, highlight=False).print(f"demo: {fault}", markup=False)
        return 2
    try:
        return asyncio.run(demonstrate(prepared, console))
    except ChainFailed as failed:
        Console(stderr=True, highlight=False).print(f"demo: {failed}", markup=False)
        return 1


def _read_environment(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    pairs = (entry.partition("=") for entry in path.read_text().split("\0") if entry)
    return {name: value for name, _, value in pairs}


if __name__ == "__main__":
    sys.exit(main())
