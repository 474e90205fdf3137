"""`sallyport flows`: record the exchanges of a running gateway without their secrets, and look at them elsewhere."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from sallyport_cli.failure import bad_input, environment
from sallyport_cli.files import create_file, file_made_whole
from sallyport_cli.output import JsonFlag, counted, show_json, show_lines
from sallyport_cli.times import seconds

if TYPE_CHECKING:
    from sallyport_cli.recording import BrokenLine, RecordedExchange

# Whoever has more broken lines than this has the wrong file.
MAX_BROKEN_SHOWN = 50

app = typer.Typer(help="Record exchanges without their secrets; export recordings.", no_args_is_help=True)


class Format(StrEnum):
    """What a recording is exported to."""

    MITM = "mitm"
    HAR = "har"


@app.command()
def record(
    out: Annotated[Path, typer.Option(help="The file to write; one JSON object a line.")],
    gateway: Annotated[str, typer.Option(help="The gateway's admin listener, host:port.")] = "127.0.0.1:9900",
    sandbox: Annotated[str | None, typer.Option(help="Only the exchanges of this sandboxId.")] = None,
    max_body: Annotated[str, typer.Option(help="How much of each body is kept, up to 1MiB; 0 for none.")] = "64KiB",
    duration: Annotated[str | None, typer.Option(help="When to stop, such as 30s; else on Ctrl-C.")] = None,
    json: JsonFlag = False,
) -> None:
    """Record exchanges that begin from now on. Credentials are not in the file; what programs say to each other is."""
    import orjson

    from control_client.gateway import GatewayError, recorded_lines

    query = {"maxBody": str(_size(max_body))}
    if sandbox is not None:
        query["sandbox"] = sandbox
    if duration is not None:
        query["durationMs"] = str(round(seconds(duration, "--duration") * 1000))
    create_file(out, b"", mode=0o600)
    told = {"recorded": 0, "dropped": 0}
    try:
        with out.open("wb", buffering=0) as file, contextlib.suppress(KeyboardInterrupt):
            for line in recorded_lines(gateway, query):
                about = orjson.loads(line)
                kind = about["kind"]
                told["recorded"] += kind == "exchange"
                told["dropped"] = about.get("dropped", told["dropped"])
                if kind != "alive":
                    file.write(line + b"\n")
    except GatewayError as error:
        if not told["recorded"] and not out.stat().st_size:
            out.unlink()
        hint = f"{counted(told['recorded'], 'exchange')} recorded before that"
        raise environment(str(error), hint) from None
    except OSError as error:
        raise environment(f"{out} cannot be written: {error.strerror}", "choose another place") from None
    if json:
        show_json({"file": str(out), **told})
    else:
        show_lines([f"{out}: {counted(told['recorded'], 'exchange')} recorded, {told['dropped']} dropped"])


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="What `flows record` wrote.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    format: Annotated[Format, typer.Option(help="mitm: for `mitmweb -r`; har: HAR 1.2.")],
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave broken lines out.")] = False,
    json: JsonFlag = False,
) -> None:
    """Write a recording as other tools open it. A broken line is told by its number, and nothing is written then."""
    from sallyport_cli.recording import read_recording

    broken: list[BrokenLine] = []
    with file_made_whole(out) as target:
        count = _writer(format)(_sound(read_recording(file), broken), target)
        if broken and not skip_broken:
            shown = [str(line) for line in broken[:MAX_BROKEN_SHOWN]]
            shown += [f"and {len(broken) - len(shown)} more"] if len(broken) > len(shown) else []
            hint = "\n".join([*shown, "--skip-broken exports the rest"])
            raise bad_input(f"{file} has {counted(len(broken), 'broken line')}", hint)
    if json:
        show_json({"file": str(out), "exchanges": count, "brokenLines": [line.number for line in broken]})
    else:
        show_lines([f"{out}: {counted(count, 'exchange')}", *(f"left out: {line}" for line in broken)])


def _writer(format: Format) -> "Callable[[Iterable[RecordedExchange], BinaryIO], int]":
    match format:
        case Format.HAR:
            from sallyport_cli.har import write_har

            return write_har
        case Format.MITM:
            from sallyport_cli.mitm_flows import write_mitm_flows

            return write_mitm_flows


def _sound(
    found: "Iterable[RecordedExchange | BrokenLine]", broken: "list[BrokenLine]"
) -> "Iterator[RecordedExchange]":
    """Yield the exchanges, put the broken lines aside."""
    from sallyport_cli.recording import BrokenLine

    for each in found:
        if isinstance(each, BrokenLine):
            broken.append(each)
        else:
            yield each


def _size(text: str) -> int:
    from sallyport.settings import size

    try:
        return size("0B", "1MiB").parse(text, Path())
    except ValueError as error:
        raise bad_input(f"--max-body: {error}") from None
