"""`make api-fuzz`: a real control plane is asked everything its OpenAPI document allows, and much that it does not.

Three seeds on SQLite and one on PostgreSQL, each on a control plane of its own: every case by itself, then sequences
that use what earlier answers gave. A failure prints its request and its seed; `--seed` and `--examples` run one again.
"""

import argparse
import contextlib
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import httpx

from tests.support.postgres import postgres_server

ROOT: Final = pathlib.Path(__file__).resolve().parents[2]
SCHEMATHESIS: Final = ROOT / ".venv-schemathesis/bin/schemathesis"
SEEDS: Final = (1, 2, 3)
EXAMPLES: Final = 500
SETTINGS: Final = pathlib.Path(__file__).with_name("schemathesis.toml")
SEQUENCE_HOOKS: Final = pathlib.Path(__file__).with_name("sequence_hooks.py")


@contextlib.contextmanager
def control_plane(folder: pathlib.Path, url: str | None) -> Iterator[tuple[str, str]]:
    """Run a control plane; yield its address and a token that may ask everything."""
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": str(ROOT),
        "SALLYPORT_DATA_DIR": str(folder / "data"),
        "SALLYPORT_API_LISTEN": "127.0.0.1:0",
        # One caller asks as fast as it can, and with faulty credentials too.
        "SALLYPORT_LIMITS_REQUESTS_PER_MINUTE": "off",
        "SALLYPORT_LIMITS_FAILED_LOGINS_PER_MINUTE": "off",
    }
    if url is not None:
        environment["SALLYPORT_DATABASE_URL"] = url
    command = [sys.executable, "-P", "-m", "sallyport_cli.main", "control-plane", "serve"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        with process, process.stderr:
            try:
                for line in process.stderr:
                    log.write(line)
                    event = json.loads(line)
                    if event["event"] == "ready":
                        break
                else:
                    raise SystemExit("the control plane did not start:\n" + (folder / "log").read_text())
                drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=log)
                with drain:
                    yield f"http://{event['api']}", (folder / "data/service-token.cli").read_text().strip()
                    process.terminate()
            finally:
                process.kill()


def client_key(address: str, token: str) -> str:
    """Make an instance and return a client's key for it."""
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as client:
        instance = client.post("/api/instances", json={"organizationId": "org_fuzz"}).raise_for_status().json()
        of_instance = {"instanceId": instance["instanceId"], "tier": "admin"}
        return str(client.post("/api/auth/keys", json=of_instance).raise_for_status().json()["key"])


def fuzz(seed: int, examples: int, url: str | None, options: Sequence[str]) -> bool:
    """Ask one control plane by one seed; say whether it held."""
    with tempfile.TemporaryDirectory() as name, control_plane(pathlib.Path(name), url) as (address, token):
        command = [str(SCHEMATHESIS), "--config-file", str(SETTINGS), "run", f"{address}/openapi.json"]
        command += ["--max-examples", str(examples), *options]
        credentials = {"SALLYPORT_SERVICE_TOKEN": token, "SALLYPORT_CLIENT_KEY": client_key(address, token)}
        run = functools.partial(subprocess.run, cwd=name, check=False, text=True)
        environment = os.environ | credentials
        alone = run([*command, "--seed", str(seed), "--phases", "examples,coverage,fuzzing"], env=environment)
        run = functools.partial(run, env=environment | {"SCHEMATHESIS_HOOKS": str(SEQUENCE_HOOKS)})
        is_held = alone.returncode == 0 and sequences(run, [*command, "--phases", "stateful"], seed, examples)
        failures = [line for line in (pathlib.Path(name) / "log").open() if '"request_failed"' in line]
    sys.stdout.writelines(failures)
    return is_held and not failures


def sequences(
    run: Callable[..., "subprocess.CompletedProcess[str]"], command: Sequence[str], seed: int, examples: int
) -> bool:
    """Ask in sequences until there were as many as examples; say whether all held.

    One run makes few: it is over as soon as what is replayed gets another answer, as the second of two like requests
    does here.
    """
    made = runs = 0
    while made < examples:
        runs += 1
        answer = run([*command, "--seed", str(seed * 10_000 + runs)], stdout=subprocess.PIPE)
        found = re.search(r"Scenarios: +(\d+)", answer.stdout)
        if answer.returncode != 0 or found is None:
            sys.stdout.write(answer.stdout)
            return False
        made += int(found[1])
        print(f"seed {seed}: {made} sequences held", flush=True)
    return True


def main() -> int:
    """Run every seed; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.api_fuzz")
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    parser.add_argument("--postgresql", action=argparse.BooleanOptionalAction, default=True)
    arguments, options = parser.parse_known_args()
    seeds = arguments.seed or SEEDS
    held = [fuzz(seed, arguments.examples, None, options) for seed in seeds]
    if arguments.postgresql:
        with postgres_server() as server:
            held.append(fuzz(seeds[0], arguments.examples, server.url(server.create()), options))
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
