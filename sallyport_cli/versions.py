"""What `sallyport plan` asks a control plane about a version of a profile, what it sends, and how answers are shown."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sallyport_cli.failure import ExitStatus, Failure, bad_input, environment
from sallyport_cli.files import read_file

if TYPE_CHECKING:
    from control_client.documents import DocumentSession
    from sallyport.plan.simulate import RecordedRequest

type Document = Mapping[str, Any]


class VersionSession:
    """One version of a profile at a control plane."""

    def __init__(self, session: "DocumentSession", profile: str, version: int) -> None:
        self._session = session
        self._path = f"/v1/sandbox/profiles/{quote(profile, safe='')}/versions/{version}"

    def ask(self, method: str, what: str, body: object = None) -> Document:
        """Ask about the version; raises Failure, a failed check where its bindings make no plan."""
        from control_client.documents import DocumentError

        try:
            content = self._session.ask(
                method, f"{self._path}/{what}", None if body is None else json.dumps(body).encode()
            )
            document = json.loads(content)
        except ValueError:
            raise environment(f"{self._session.url} answers with no JSON", "is it a control plane?") from None
        except DocumentError as error:
            if error.status == 422:
                raise Failure(ExitStatus.FAILED_CHECK, str(error)) from None
            if error.status is not None and error.status < 500:
                raise bad_input(str(error)) from None
            raise environment(str(error), "is it running? `sallyport up` starts every part") from None
        assert isinstance(document, dict), "a control plane answers with objects"
        return document


def read_bindings(path: Path) -> list[object]:
    """Return the bindings of a file: a list of them, or a document of bindings; raises Failure."""
    document = _read_json(path)
    found = document.get("bindings") if isinstance(document, dict) else document
    if not isinstance(found, list):
        raise bad_input(f"{path} holds no bindings", 'write [...] or {"bindings": [...]}')
    shown = ("createdAt", "updatedAt")  # as the API shows them, and takes them from nobody
    return [
        {name: value for name, value in each.items() if name not in shown} if isinstance(each, dict) else each
        for each in found
    ]


def read_recording(path: Path) -> "list[RecordedRequest]":
    """Return the requests of a HAR, or of a list of {method, url}; raises Failure."""
    from sallyport.plan.simulate import RecordedRequest, RecordingError, read_har

    document = _read_json(path)
    try:
        if not isinstance(document, list):
            return read_har(document)
        return [RecordedRequest(str(each["method"]), str(each["url"])) for each in document]
    except (RecordingError, KeyError, TypeError):
        raise bad_input(
            f"{path} is neither a HAR nor a list of requests", 'write [{"method": ..., "url": ...}]'
        ) from None


def diff_lines(document: Document) -> Iterator[str]:
    """Write a diff for people."""
    for change in document["changes"]:
        yield f"{_outcome(change['before'])}  ->  {_outcome(change['after'])}   ({', '.join(change['changed'])})"
        yield from (f"  {request}" for request in change["requests"])
        more = change["count"] - len(change["requests"])
        if more:
            yield f"  and {more} more"
    for name, words in document["parts"].items():
        yield from (f"{name}: {word} {', '.join(keys)}" for word, keys in words.items())
    if not document["complete"]:
        yield "there is more than is told here: the plans have too many classes of requests"
    elif not document["changes"] and not document["parts"]:
        yield "nothing changes"


def simulation_lines(document: Document) -> Iterator[str]:
    """Write what became of recorded requests for people."""
    for item in document["items"]:
        before = f"{_outcome(item['before'])}  ->  " if item["changed"] else ""
        times = f"  x{item['count']}" if item["count"] > 1 else ""
        yield f"{'changed' if item['changed'] else '       '} {item['method']} {item['url']}{times}"
        yield f"        {before}{_outcome(item['after'])}"


def _outcome(answered: Document) -> str:
    by = f" by {answered['egressRuleId']}" if "egressRuleId" in answered else ""
    code = f" ({answered['code']})" if "code" in answered else ""
    return f"{answered['decision']}{by}{code}"


def _read_json(path: Path) -> Any:  # noqa: ANN401  JSON
    try:
        return json.loads(read_file(path))
    except (ValueError, RecursionError):
        raise bad_input(f"{path} is not JSON") from None
