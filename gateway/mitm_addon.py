"""The gateway's decisions inside mitmproxy, for people who already run it; and the oracle of our own tests.

    mitmdump -s "$(python -c 'import gateway.mitm_addon as m; print(m.__file__)')" --set sallyport_config=gateway.yaml

The same settings file, and the same pure code: admission, classification, credentials, the head that goes upstream, the
address policy, scrubbing. Nothing is decided here. TLS, HTTP and sockets are mitmproxy's, and so is the CA that clients
have to trust. What follows from that is in docs/flows.md. mitmproxy is imported where it is used, so that the path of
this file can be asked for anywhere.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gateway.core.authority import Refused, TargetReader
from gateway.core.content_coding import Coding
from gateway.core.decision import Deny, Mode
from gateway.core.downstream_head import HIDDEN
from gateway.core.errors import (
    answer_unreadable,
    body_too_large,
    no_plan,
    refusal,
    upstream_failed,
)
from gateway.core.scrub import Scrubber
from gateway.mitm_answer import AnswerBody, Fields, answer_coding, has_body, without_coding
from gateway.mitm_site import Admitted, Decided, SettingsUnusable, Site, read_site, release
from gateway.upstream import DIAL_CODES
from sallyport.claims import Claims
from sallyport.destination import Destination
from sallyport.host import HostError, normalize_host
from sallyport.net.dial_error import DialError
from sallyport.problem import Code
from sallyport.wire.client_hello import HANDSHAKE_RECORD
from sallyport.wire.errors import RemoteProtocolError
from sallyport.wire.http1.codec import parse_request
from sallyport.wire.http1.head import CHUNKED, RequestHead
from sallyport.wire.http1.scan import CRLF
from sallyport.wire.http1.shape import field_name

# What has to hold for the decisions to be the gateway's: nothing is dialled before it was decided, and what is not
# HTTP/1.1 is not relayed unseen.
OPTIONS = {"connection_strategy": "lazy", "upstream_cert": False, "http2": False, "http3": False, "rawtcp": False}

# mitmproxy's own classes: not installed where this is checked.
type Flow = Any


class SallyportAddon:
    """mitmproxy's hooks, in the order of a request's life. Fails closed: what was not decided is not dialled."""

    def __init__(self) -> None:
        self._site: Site | None = None
        # By client connection; each is forgotten with it.
        self._admitted: dict[str, Admitted] = {}
        self._checked: dict[str, dict[tuple[str, int], tuple[str, int]]] = {}
        # By link, while it is dialled.
        self._names: dict[str, tuple[str, int]] = {}
        # By flow, from its decision to its end.
        self._decided: dict[str, Decided] = {}
        self._scrubbers: dict[str, Scrubber] = {}

    def load(self, loader: Any) -> None:  # noqa: ANN401  mitmproxy.addonmanager.Loader
        """Declare the option."""
        loader.add_option("sallyport_config", str, "", "The settings of a standalone Sallyport gateway.")

    def configure(self, updated: Iterable[str]) -> None:
        """Read the settings, and set mitmproxy as the decisions need it."""
        from mitmproxy import ctx, exceptions  # type: ignore[import-not-found]  # an extra, not where this is checked

        if "sallyport_config" not in updated:
            return
        if not ctx.options.sallyport_config:
            raise exceptions.OptionsError("sallyport_config names no settings file")
        try:
            site = read_site(Path(ctx.options.sallyport_config))
        except SettingsUnusable as error:
            raise exceptions.OptionsError(f"sallyport_config: {error}") from None
        self.done()
        self._site = site
        self.running()
        trust = site.config.upstream.ca_file
        ctx.options.update(**OPTIONS, **({} if trust is None else {"ssl_verify_upstream_trusted_ca": str(trust)}))

    def running(self) -> None:
        """Never dial what mitmproxy itself listens on; before it runs that is nothing yet."""
        from mitmproxy import ctx

        proxy = ctx.master.addons.get("proxyserver")
        if self._site is not None and proxy is not None:
            self._site.listen_at((str(address[0]), int(address[1])) for address in proxy.listen_addrs())

    def done(self) -> None:
        """Give up what the settings opened."""
        if self._site is not None:
            self._site.close()
            self._site = None

    # Admit ------------------------------------------------------------------------------------------

    def http_connect(self, flow: Flow) -> None:
        """Admit a CONNECT, or answer it with a problem."""
        if flow.error is not None:
            return
        try:
            self._admitted[flow.client_conn.id] = self._of_flow(flow).admit_connect(self._head(flow))
        except Refused as refused:
            _refuse(flow, refused.deny)

    def tls_clienthello(self, data: Any) -> None:  # noqa: ANN401  mitmproxy.tls.ClientHelloData
        """Leave TLS to a host that passes through alone, if it names that host; else its requests are refused."""
        admitted = self._admitted.get(data.context.client.id)
        if admitted is not None and admitted.mode is Mode.PASSTHROUGH:
            data.ignore_connection = _names(data.client_hello.sni, admitted.destination.host)

    def next_layer(self, nextlayer: Any) -> None:  # noqa: ANN401  mitmproxy.proxy.layer.NextLayer
        """Leave bytes that are not TLS alone where the CONNECT named a host that passes through."""
        client = nextlayer.context.client
        admitted = self._admitted.get(client.id)
        if admitted is None or admitted.mode is not Mode.PASSTHROUGH or nextlayer.layer is not None or client.tls:
            return  # inside TLS that was not left alone nothing passes
        first = nextlayer.data_client()[:1]
        if first and first[0] != HANDSHAKE_RECORD and not _is_address(admitted.destination.host):
            from mitmproxy.proxy.layers import TCPLayer  # type: ignore[import-not-found]  # as above

            nextlayer.layer = TCPLayer(nextlayer.context, ignore=True)

    # Decide -----------------------------------------------------------------------------------------

    async def requestheaders(self, flow: Flow) -> None:
        """Decide about a request before a byte of its body is read, and write the head that goes upstream."""
        if flow.error is not None:
            return  # mitmproxy has refused it already
        try:
            site = self._of_flow(flow)
            head = self._head(flow)
            claims, reader = self._whose(site, flow, head)
            decided = await site.decide(head, claims, reader)
        except Refused as refused:
            _refuse(flow, refused.deny)
            return
        destination = decided.upstream.destination
        name = (destination.host, destination.port)
        try:
            checked = await site.address_of(*name)
        except DialError as error:
            _release_route(decided)
            _refuse(flow, upstream_failed(DIAL_CODES[error.kind], _rule_id(decided)))
            return
        self._checked.setdefault(flow.client_conn.id, {})[name] = checked
        self._decided[flow.id] = decided
        _write_request(flow.request, decided)
        limit = None if decided.route is None else decided.route.max_body_bytes
        # A chunked body under a limit has to be counted before its first byte may leave: mitmproxy keeps it till then.
        flow.request.stream = limit is None or head.body != CHUNKED

    def _of_flow(self, flow: Flow) -> Site:
        if self._site is None:
            raise Refused(no_plan())
        return self._site

    def _whose(self, site: Site, flow: Flow, head: RequestHead) -> tuple[Claims, TargetReader]:
        """Say whose request it is and what it may name as its target; raises Refused."""
        admitted = self._admitted.get(flow.client_conn.id)
        if admitted is None:
            return site.claims_of(head.proxy_authorization), TargetReader(None)
        is_tls = bool(flow.client_conn.tls)
        if admitted.mode is Mode.PASSTHROUGH or (is_tls and not self._names_host(flow, admitted)):
            detail = "the TLS handshake does not name the host of the CONNECT"
            raise Refused(Deny(code=Code.AUTHORITY_MISMATCH, detail=detail))
        host, port = admitted.destination.host, admitted.destination.port
        # A1: cleartext HTTP inside a CONNECT is an http:// request.
        return admitted.claims, TargetReader(Destination("https" if is_tls else "http", host, port))

    def _names_host(self, flow: Flow, admitted: Admitted) -> bool:
        return flow.client_conn.sni is None or _names(flow.client_conn.sni, admitted.destination.host)

    def _head(self, flow: Flow) -> RequestHead:
        """Read the head by our own codec, from what mitmproxy's has left of it; raises Refused."""
        block = _request_bytes(flow.request, is_inside=flow.client_conn.id in self._admitted)
        limits = None if self._site is None else self._site.config.limits
        if limits is not None and (len(block) > limits.head_bytes or block.count(CRLF) > limits.header_count):
            raise Refused(Deny(code=Code.HEAD_TOO_LARGE, detail="the head is over its limits"))
        try:
            return parse_request(block)
        except RemoteProtocolError as error:
            code = Code.HTTP_VERSION if error.status_hint == 505 else Code.INVALID_REQUEST
            raise Refused(Deny(code=code, detail=error.reason)) from None

    # Send -------------------------------------------------------------------------------------------

    def request(self, flow: Flow) -> None:
        """The body is whole: one that was kept is counted; trailers are no way round the auth slots (C1)."""
        decided = self._decided.get(flow.id)
        if decided is None:
            return
        flow.request.trailers = None
        limit = None if decided.route is None else decided.route.max_body_bytes
        if limit is not None and not flow.request.stream and len(flow.request.raw_content or b"") > limit:
            self._end(flow)
            _refuse(flow, body_too_large(limit, limit))

    async def server_connect(self, data: Any) -> None:  # noqa: ANN401  mitmproxy.proxy.server_hooks.ServerConnectionHookData
        """Dial the address that was checked, under the name that was decided; nothing else is dialled."""
        server, name = data.server, data.server.address
        checked = self._checked.get(data.client.id, {}).get(name)
        admitted = self._admitted.get(data.client.id)
        if checked is None and self._site is not None and admitted is not None and admitted.mode is Mode.PASSTHROUGH:
            try:
                checked = await self._site.address_of(admitted.destination.host, admitted.destination.port)
            except DialError as error:
                server.error = str(error)
                return
        if checked is None:
            server.error = "nothing was decided about this destination"
            return
        # What TLS verifies is the name, never what the sandbox's own handshake said.
        server.sni = name[0]
        server.address = checked
        self._names[server.id] = name

    def server_connected(self, data: Any) -> None:  # noqa: ANN401  as above
        """Give the link its name back, by which mitmproxy finds it for the next request."""
        # Past its setter, which refuses to rename an open link.
        vars(data.server)["address"] = self._names.pop(data.server.id)

    def server_connect_error(self, data: Any) -> None:  # noqa: ANN401  as above
        """Forget a link that did not come about."""
        self._names.pop(data.server.id, None)

    # Answer -----------------------------------------------------------------------------------------

    def responseheaders(self, flow: Flow) -> None:
        """Scrub what comes back, as a stream (C3); a coding that keeps it from being read is undone, or refused."""
        from mitmproxy import http

        decided = self._decided.get(flow.id)
        if decided is None:
            return
        fields: Fields = [pair for pair in flow.response.headers.fields if field_name(pair[0]) not in HIDDEN]
        needles = None if decided.injection is None else decided.injection.needles
        if needles is None:
            flow.response.stream = True
        else:
            coding = answer_coding(flow.response.status_code, fields)
            is_followed = has_body(flow.request.method, flow.response.status_code, fields)
            if coding is Coding.OPAQUE and is_followed and not self._lets_unscannable_pass:
                _refuse_answer(flow, answer_unreadable(_rule_id(decided)))
                return
            if coding is Coding.GZIP:
                fields = without_coding(fields, is_followed=is_followed)
            scrubber = self._scrubbers[flow.id] = Scrubber(needles)
            fields = _fields(scrubber.scrub_head(CRLF.join(map(b"%b: %b".__mod__, fields))).split(CRLF))
            body = AnswerBody(scrubber, is_gzip=coding is Coding.GZIP)
            flow.response.stream = lambda data: _pieces(flow, body, data)
        flow.response.headers = http.Headers(fields)

    @property
    def _lets_unscannable_pass(self) -> bool:
        return self._site is not None and self._site.config.scrub.lets_unscannable_pass

    def websocket_message(self, flow: Flow) -> None:
        """Scrub a message from upstream; each is whole."""
        scrubber, message = self._scrubbers.get(flow.id), flow.websocket.messages[-1]
        if scrubber is not None and not message.from_client:
            message.content = scrubber.feed(message.content) + scrubber.finish()

    def response(self, flow: Flow) -> None:
        """The exchange has ended, unless it goes on as a WebSocket."""
        if flow.websocket is None:
            self._end(flow)

    def websocket_end(self, flow: Flow) -> None:
        """The WebSocket has ended."""
        self._end(flow)

    def error(self, flow: Flow) -> None:
        """The exchange has ended early."""
        self._end(flow)

    def client_disconnected(self, client: Any) -> None:  # noqa: ANN401  mitmproxy.connection.Client
        """Forget a client."""
        self._admitted.pop(client.id, None)
        self._checked.pop(client.id, None)

    def _end(self, flow: Flow) -> None:
        decided = self._decided.pop(flow.id, None)
        self._scrubbers.pop(flow.id, None)
        if decided is not None:
            _release_route(decided)


def _request_bytes(request: Any, *, is_inside: bool) -> bytes:  # noqa: ANN401  mitmproxy.http.Request
    """Return the head again as bytes. Its spacing is mitmproxy's, and an absolute target has become parts."""
    data = request.data
    target = data.path
    if data.method == b"CONNECT":
        target = data.authority
    elif not is_inside:
        host = f"[{data.host}]" if ":" in data.host else data.host
        target = b"%b://%b:%d%b" % (
            data.scheme,
            host.encode("idna" if not host.isascii() else "ascii"),
            data.port,
            target,
        )
    elif data.authority:
        target = b"%b://%b%b" % (data.scheme, data.authority, target)
    lines = map(b"%b: %b".__mod__, data.headers.fields)
    return CRLF.join((b"%b %b %b" % (data.method, target, data.http_version), *lines))


def _write_request(request: Any, decided: Decided) -> None:  # noqa: ANN401  mitmproxy.http.Request
    """Put the head that was decided in the place of the one that came."""
    from mitmproxy import http

    first, *lines = decided.block[: -2 * len(CRLF)].split(CRLF)
    method, target, version = first.split(b" ")
    destination = decided.upstream.destination
    data = request.data
    data.method, data.path, data.http_version, data.authority = method, target, version, b""
    data.scheme = destination.scheme.encode("ascii")
    # Not by the request's own attributes: they would rewrite the Host field.
    data.host, data.port = destination.host, destination.port
    data.headers = http.Headers(_fields(lines))


def _refuse(flow: Flow, deny: Deny) -> None:
    """Answer with a problem, as the gateway words it."""
    from mitmproxy import http

    head, _, body = refusal(deny, flow.id, method=flow.request.method, close=False).partition(CRLF + CRLF)
    first, *lines = head.split(CRLF)
    _, status, reason = first.split(b" ", 2)
    flow.response = http.Response(
        http_version=b"HTTP/1.1",
        status_code=int(status),
        reason=reason,
        headers=http.Headers(_fields(lines)),
        content=body,
        trailers=None,
        timestamp_start=flow.request.timestamp_start,
        timestamp_end=flow.request.timestamp_start,
    )


def _fields(lines: Iterable[bytes]) -> Fields:
    pairs = (line.partition(b":") for line in lines)
    return [(name, value.strip(b" \t")) for name, _, value in pairs]


def _refuse_answer(flow: Flow, deny: Deny) -> None:
    """Answer with a problem once the upstream's body, which is dropped, has come to its end."""
    _refuse(flow, deny)
    body = flow.response.raw_content
    flow.response.stream = lambda data: [] if data else [body]


def _pieces(flow: Flow, body: AnswerBody, data: bytes) -> Iterator[bytes]:
    """Yield what may go out; an answer that is not what its coding says is cut short, and does not look whole."""
    try:
        yield from body.take(data)
    except RemoteProtocolError:
        if flow.killable:
            flow.kill()


def _release_route(decided: Decided) -> None:
    release(None if decided.route is None else decided.route.limit)


def _rule_id(decided: Decided) -> str | None:
    return None if decided.route is None else decided.route.rule_id


def _names(server_name: str | None, host: str) -> bool:
    try:
        return server_name is not None and normalize_host(server_name) == host
    except HostError:
        return False


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


addons = [SallyportAddon()]
