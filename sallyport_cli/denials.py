"""`sallyport denials`: what gateways denied a sandbox lately, and what they go on denying it."""

import json as json_format
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote, urlencode

import typer

from sallyport_cli.control_session import Control, TokenFile, UpDataDir, open_session
from sallyport_cli.failure import bad_input, environment
from sallyport_cli.output import JsonFlag, show_json, show_lines

if TYPE_CHECKING:
    from control_client.documents import DocumentSession

LOOK_SECONDS: Final = 1.0

type Document = Mapping[str, Any]


def denials(
    sandbox: Annotated[str, typer.Argument(help="The sandboxId.")],
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C, one line for each denial.")] = False,
    limit: Annotated[int, typer.Option(help="How many of the last ones to begin with.", min=1, max=200)] = 50,
    data_dir: UpDataDir = Path(".sallyport"),
    control: Control = None,
    token_file: TokenFile = None,
    json: JsonFlag = False,
) -> None:
    """Show what gateways denied a sandbox, and why, the newest last. They keep the last ones; the audit log has all."""
    session = open_session(data_dir, control, token_file)
    found = _ask(session, sandbox, {"limit": str(limit)})
    if not follow and json:
        show_json(found)
        return
    _show(found["items"], json=json)
    if not follow:
        show_lines(_silent(found["gateways"]))
    try:
        while follow:
            time.sleep(LOOK_SECONDS)
            found = _ask(session, sandbox, {"cursor": found["nextCursor"], "limit": "200"})
            _show(found["items"], json=json)
    except KeyboardInterrupt:
        pass


def _ask(session: "DocumentSession", sandbox: str, query: Mapping[str, str]) -> Document:
    from control_client.documents import DocumentError

    try:
        return session.get(f"/v1/sandboxes/{quote(sandbox, safe='')}/denials?{urlencode(query)}")
    except DocumentError as error:
        raise (bad_input if error.status in (400, 404) else environment)(str(error)) from None


def _show(items: Iterable[Document], *, json: bool) -> None:
    show_lines(json_format.dumps(item, ensure_ascii=False) if json else _line(item) for item in items)


def _line(item: Document) -> str:
    host = f"{item['scheme']}://{item['host']}:{item['port']}" if "host" in item else ""
    words = [item["time"], item["code"], item.get("method", ""), f"{host}{item.get('path', '')}"]
    line = " ".join(word for word in words if word)
    if "detail" in item:
        line += f": {item['detail']}"
    nearest = item.get("nearest")
    if nearest:
        mismatch = ", ".join(nearest.get("mismatch", ()))
        line += f" (nearest: {nearest.get('egressRuleId')}{f', but {mismatch} differs' if mismatch else ''})"
    return line


def _silent(gateways: Iterable[Document]) -> list[str]:
    """Say what may be missing."""
    told = list(gateways)
    if not told:
        return ["no gateway reports to this control plane, so nothing is known"]
    return [
        f"gateway {each['id']} {each.get('reason', 'was not asked')}; what it denied is not here"
        for each in told
        if each["state"] != "asked"
    ]
