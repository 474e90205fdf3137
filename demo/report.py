"""What the demonstration prints: per step what the client sent, what the origin received, what the client could see."""

from collections import Counter

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from demo.ledger import Presence, Received
from demo.steps import Outcome, Step

_OPENING = """\
[bold]Sallyport: real clients, no key in any of them[/bold]
The origins are OURS: one TLS server on loopback plays api.openai.com, api.github.com and github.com, \
and answers 401 without the exact credential. \
Clients, gateway, TLS and git are real; no request leaves this machine.
"""


def print_opening(console: Console) -> None:
    """Say what this is, and what it is not."""
    console.print(_OPENING)


def print_result(console: Console, number: int, step: Step, outcome: Outcome, faults: list[str]) -> None:
    """Print one step."""
    mark = "[red]failed[/red]" if faults else "[green]passed[/green]"
    console.print(f"[bold]{number}. {escape(step.title)}[/bold]  {mark}")
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("   client sent", escape(step.sent))
    table.add_row("   crossed the tunnel", _crossed_words(outcome, faults))
    table.add_row("   origin received", escape(_received_words(outcome.received)))
    table.add_row("   client could see", escape(_seen_words(step, faults)))
    for fault in faults:
        table.add_row("   [red]wrong[/red]", f"[red]{escape(fault)}[/red]")
    console.print(table)


def _crossed_words(outcome: Outcome, faults: list[str]) -> str:
    if not outcome.sent_up.messages:
        return "nothing"
    up, down = outcome.sent_up, outcome.sent_down
    counts = f"{up.size:,} bytes in {up.messages} messages up, {down.size:,} in {down.messages} down"
    return counts if faults else f"{counts}; no credential in them"


def _received_words(received: list[Received]) -> str:
    if not received:
        return "nothing"
    counted = Counter(f"{entry}: {_credential_words(entry)}" for entry in received)
    return "\n".join(line if count == 1 else f"{line} ({count} times)" for line, count in counted.items())


def _credential_words(entry: Received) -> str:
    words = {
        Presence.EXACT: f"the exact credential in {entry.header}",
        Presence.WRONG: f"a WRONG credential in {entry.header}",
        Presence.ABSENT: "no credential",
        Presence.NOT_EXPECTED: "public, no credential expected",
    }[entry.presence]
    return words + (f", and {', '.join(entry.foreign_headers)}" if entry.foreign_headers else "")


def _seen_words(step: Step, faults: list[str]) -> str:
    if faults:
        return "see below"
    return f"{step.saw}; no credential in its environment, answer, files"
