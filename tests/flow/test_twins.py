"""The compiled codec and the Python one of the same sources read every head and every body alike (decision 0009).

Runs where the compiled wheel comes first on the path (`make test-compiled`); elsewhere there is only one of them.
"""

import base64
import importlib.util
import json
import pathlib
import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.build import codec_kind
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1 import body, codec, scan
from tests.conftest import CORPORA

ROOT = pathlib.Path(__file__).resolve().parents[2]
# In the order of their imports: each finds those before it, and none of the compiled ones.
PURE = ("head", "scan", "shape", "codec", "body")
IN_C = "sallyport.wire.http1._scan"

pytestmark = pytest.mark.skipif(codec_kind() == "pure", reason="no compiled wheel on the path (make test-compiled)")


@pytest.fixture(scope="module")
def pure() -> dict[str, ModuleType]:
    """The modules of the tree, loaded beside the compiled ones."""
    names = [f"sallyport.wire.http1.{name}" for name in PURE]
    compiled = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    loaded: dict[str, ModuleType] = {}
    in_c = sys.modules.pop(IN_C)
    sys.modules[IN_C] = None  # type: ignore[assignment]  # not to be imported
    try:
        for name in names:
            path = ROOT / f"{name.replace('.', '/')}.py"
            spec = importlib.util.spec_from_file_location(name, path)
            assert spec is not None
            assert spec.loader is not None
            loaded[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(loaded[name])
    finally:
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(compiled)
        sys.modules[IN_C] = in_c
    return {name.rpartition(".")[2]: module for name, module in loaded.items()}


def said(value: object) -> object:
    """A value by its public parts; the twins' classes are not each other's."""
    if isinstance(value, int | bytes | str | bool | None):
        return value
    if isinstance(value, list | tuple):
        return [said(item) for item in value]
    parts = [name for name in dir(value) if not name.startswith("_") and name not in ("shape", "without")]
    return {name: said(getattr(value, name)) for name in parts}


def outcome(call: Callable[[], object]) -> object:
    try:
        return said(call())
    except RemoteProtocolError as error:
        return error.reason, error.status_hint


LINES = st.sampled_from(
    [
        b"GET / HTTP/1.1",
        b"GET http://a.test/x?y HTTP/1.1",
        b"CONNECT a.test:443 HTTP/1.0",
        b"PRI * HTTP/2.0",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.0 204 ",
        b"HTTP/1.1 101 Switching Protocols",
        b"Host: a.test",
        b"host:b.test",
        b"Content-Length: 12",
        b"Content-Length: +1",
        b"Transfer-Encoding: chunked",
        b"Transfer_Encoding: chunked",
        b"Connection: close, X-Own",
        b"Connection: upgrade",
        b"Upgrade: websocket",
        b"Expect: 100-continue",
        b"Proxy-Authorization: Bearer t",
        b"Sallyport-Own: 1",
        b"X-Own: \x80\xff",
        b"X-Bad: \x00",
        b": nameless",
        b"no colon",
    ]
)
HEADS = st.lists(LINES | st.binary(max_size=8), max_size=8).map(b"\r\n".join) | st.binary(max_size=80)
PIECES = st.sampled_from(
    [b"5\r\nhello\r\n", b"0\r\n", b"\r\n", b"A;x=y\r\n", b"0123456789", b"X-T: v\r\n", b"ffffffffffffffff\r\n", b"1\n"]
)
# One of them, with some bytes put in, taken out or put in the place of others, so that most of it stays as it was.
EDITS = st.lists(
    st.tuples(
        st.integers(0, 10_000),
        st.integers(0, 3),
        st.sampled_from(
            [
                b"",
                b"\r",
                b"\n",
                b"\r\n",
                b"\r\n ",
                b":",
                b" ",
                b"\t",
                b"\x00",
                b"\x7f",
                b"\x80",
                b"_",
                b",",
                b"A: b\r\n",
            ]
        ),
    ),
    max_size=3,
)
BODIES = st.lists(PIECES | st.binary(max_size=6), max_size=8)


@given(HEADS)
@pytest.mark.parametrize("name", ["parse_request", "parse_response", "parse_trailers"])
def test_every_head_is_read_alike(pure: dict[str, ModuleType], name: str, head: bytes) -> None:
    ours = outcome(lambda: getattr(codec, name)(head))
    assert ours == outcome(lambda: getattr(pure["codec"], name)(head))


def edited(head: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for where, length, put in edits:
        at = where % (len(head) + 1)
        head = head[:at] + put + head[at + length :]
    return head


@given(st.lists(LINES, max_size=10).map(b"\r\n".join), EDITS)
@pytest.mark.parametrize("name", ["parse_request", "parse_response", "parse_trailers"])
def test_every_edited_head_is_read_alike(
    pure: dict[str, ModuleType], name: str, head: bytes, edits: list[tuple[int, int, bytes]]
) -> None:
    head = edited(head, edits)
    assert outcome(lambda: getattr(codec, name)(head)) == outcome(lambda: getattr(pure["codec"], name)(head))


def published() -> list[object]:
    found: list[object] = []
    for name in ("llhttp_requests", "http_desync_guardian", "smuggler_default"):
        path = CORPORA / f"{name}.json"
        if not path.exists():
            absent = pytest.mark.skip(reason=f"vectors not here: {path.name} (SALLYPORT_CORPORA names their folder)")
            found.append(pytest.param(b"", id=name, marks=absent))
            continue
        cases = json.loads(path.read_bytes())
        found += [
            pytest.param(base64.b64decode(case["raw_b64"]), id=f"{name}-{number}") for number, case in enumerate(cases)
        ]
    return found


@pytest.mark.parametrize("raw", published())
def test_every_published_vector_is_read_alike(pure: dict[str, ModuleType], raw: bytes) -> None:
    """Whole, cut at every end of a line and with one byte replaced: what is cut too late is a malformed head."""
    head, _, rest = raw.partition(scan.HEAD_END)
    cuts = [at for at in range(len(raw)) if raw[at : at + 1] in b"\r\n"]
    heads = [head, raw, rest, *(raw[:at] for at in cuts), *(raw[at:] for at in cuts)]
    heads += [head[:at] + byte + head[at + 1 :] for at in range(len(head)) for byte in (b"\r", b"\n", b":", b"\x80")]
    for name in ("parse_request", "parse_response", "parse_trailers"):
        for one in heads:
            assert outcome(partial(getattr(codec, name), one)) == outcome(partial(getattr(pure["codec"], name), one))


def test_the_compiled_codec_looks_at_bytes_in_c(pure: dict[str, ModuleType]) -> None:
    assert scan.split_plain is not scan.split_head
    assert pure["scan"].split_plain is pure["scan"].split_head


@given(BODIES)
@pytest.mark.parametrize("make", ["ChunkedReader()", "LengthReader(11)", "LengthReader(0)", "UntilCloseReader()"])
def test_every_body_is_read_alike(pure: dict[str, ModuleType], make: str, pieces: list[bytes]) -> None:
    readings = []
    for module in (body, pure["body"]):
        reader = eval(make, vars(module))
        got = [outcome(partial(reader.feed, piece)) for piece in pieces]
        readings.append((got, reader.done, reader.rest, reader.trailers))
    assert readings[0] == readings[1]
