"""The origin answers 200 to the exact credential and 401 to everything else: that is what proves injection."""

import asyncio
from typing import cast

import pytest

from benchmarks.origin import OriginLink, Page
from tests.support.until import until

_PAGES = {b"/small": Page(b"200 small", 0), b"/post": Page(b"200 post", 4)}


class _Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted


def _link(small: Page = _PAGES[b"/small"]) -> tuple[OriginLink, _Transport]:
    transport = _Transport()
    link = OriginLink(b"secret", _PAGES | {b"/small": small})
    link.connection_made(cast(asyncio.Transport, transport))
    return link, transport


def _request(*headers: str, path: str = "/small") -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: x", *headers, "", "")).encode()


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
def test_the_exact_credential_is_answered(name: str) -> None:
    link, transport = _link()
    link.data_received(_request(f"{name}: Bearer secret"))
    assert transport.written == [b"200 small"]


def test_every_number_of_a_path_is_answered() -> None:
    link, transport = _link()
    for number in ("n0000000", "n00012ab"):
        link.data_received(_request("Authorization: Bearer secret", path=f"/small/{number}?page={number}"))
    assert transport.written == [b"200 small"] * 2


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Authorization: Bearer placeholder",),
        ("Authorization: Bearer secretly",),
        ("Authorization: Bearer secret", "Authorization: Bearer placeholder"),
        ("Authorization: Bearer secret", "Proxy-Authorization: Bearer token"),
    ],
    ids=["none", "placeholder", "longer", "twice", "proxy token leaked"],
)
def test_all_else_is_refused(headers: tuple[str, ...]) -> None:
    link, transport = _link()
    link.data_received(_request(*headers))
    assert transport.written[0].startswith(b"HTTP/1.1 401 ")


def test_chunking_does_not_matter_and_links_are_kept() -> None:
    link, transport = _link()
    request = _request("Authorization: Bearer secret", "Content-Length: 4", path="/post") + b"body"
    for byte in request * 2:
        link.data_received(bytes([byte]))
    assert transport.written == [b"200 post"] * 2


def test_more_than_the_request_ends_the_link() -> None:
    link, transport = _link()
    link.data_received(_request("Authorization: Bearer secret") + b"x")
    assert transport.aborted


async def test_a_stream_of_events_says_when_each_was_sent() -> None:
    link, transport = _link(Page(b"head", 0, tick_seconds=0.001))
    link.data_received(_request("Authorization: Bearer secret"))
    await until(lambda: len(transport.written) >= 4)
    transport.aborted = True
    head, *events = transport.written
    assert head == b"head"
    stamps = [int(event.split(b"data: ")[1].split(b"\n")[0]) for event in events]
    assert stamps == sorted(set(stamps))


def test_without_the_credential_there_are_no_events() -> None:
    link, transport = _link(Page(b"head", 0, tick_seconds=0.001))
    link.data_received(_request("Authorization: Bearer other"))
    assert len(transport.written) == 1, "and no timer, for which there is no loop here"
    assert transport.written[0].startswith(b"HTTP/1.1 401 ")


def test_an_unknown_path_is_not_found() -> None:
    link, transport = _link()
    link.data_received(_request("Authorization: Bearer secret", path="/other"))
    assert transport.written[0].startswith(b"HTTP/1.1 404 ")
