"""What every command prints with: JSON for programs, tables for people, failures for both."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from sallyport_cli.failure import ExitStatus, Failure

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


def show_json(document: object) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def show_lines(lines: Iterable[str]) -> None:
    """Print lines of text as they are."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table as wide as the terminal. Cells are text: nothing in them is markup."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*map(Text, row))
    Console(file=sys.stdout).print(table)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: 1 route, 2 routes."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def show_failure(failure: Failure, *, as_json: bool) -> None:
    """Print what went wrong and what to do: as JSON to stdout, or as text to stderr."""
    if as_json:
        error = {"status": int(failure.status), "message": failure.message, "hint": failure.hint}
        show_json({"error": error})
        return
    sys.stderr.write(f"error: {failure.message}\n")
    sys.stderr.writelines(f"  {line}\n" for line in failure.hint.splitlines())


def own_fault(error: Exception) -> Failure:
    """Describe a bug of ours: its kind and place. Its text is left out, for it may quote what it choked on."""
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    place = f" in {step.tb_frame.f_code.co_qualname}, line {step.tb_lineno}" if step is not None else ""
    message = f"internal error: {type(error).__name__}{place}"
    return Failure(ExitStatus.OWN_FAULT, message, "this is a fault of sallyport: please report it with that line")
