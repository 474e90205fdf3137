"""A gateway between a raw sandbox side and a raw origin, with one injected route; the usual scene of a shell's test.

`http://api.test` is the route (cleartext allowed, so that bytes can be looked at), `https://api.test` is the same
inside CONNECT, `http://open.test` is forwarded. At the end no record, metric or refusal may hold the secret.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.gateway_plans import BEARER, plan, route
from tests.support.in_process import GatewayInProcess, Settings, in_process_gateway, origin_context
from tests.support.plan_documents import Document
from tests.support.raw_end import RawEnd, RawOrigin, raw_origin

HOST = "api.test"
URL = "http://api.test/v1/x"
OPEN_URL = "http://open.test/x"
CONNECTION = "con_one"
SECRET = "canary-5e81c0ffee+/=Zq"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Who is on it. `origin` is plain, `tls_origin` the same host by TLS."""

    gateway: GatewayInProcess
    origin: RawOrigin
    tls_origin: RawOrigin

    async def ask(self, request: bytes) -> tuple[RawEnd, RawEnd, bytes]:
        """Send a request on a new stream; return the stream, the link it came on, and its head as it came."""
        client = await self.gateway.client()
        client.send(request)
        link = await self.origin.link()
        return client, link, await link.head()

    async def warm_up(self) -> tuple[RawEnd, RawEnd]:
        """Carry one exchange, so that a credential is cached, a stream open and a link idle; forget its record."""
        client, link, _ = await self.ask(self.gateway.request(URL))
        link.send(OK)
        assert (await client.answer()).status == 200
        self.gateway.audit.entries.clear()
        return client, link


def one_route(injection: Mapping[str, object] = BEARER, /, **further: object) -> Document:
    """Return the stage's route with another injection or further members."""
    return route("r", [HOST], CONNECTION, injection, **({"allowCleartext": True} | further))


@contextlib.asynccontextmanager
async def stage(
    folder: Path,
    *,
    routes: Sequence[Document] | None = None,
    rules: Sequence[Document] = (),
    credentials: Mapping[str, str] | None = None,
    further: Settings | None = None,
) -> AsyncIterator[Stage]:
    """Set the scene; `routes` replace the one, `credentials` come beside its secret."""
    async with raw_origin() as origin, raw_origin(origin_context(HOST)) as tls_origin:
        ports = {f"{HOST}:80": origin.port, f"{HOST}:443": tls_origin.port, "open.test:80": origin.port}
        async with in_process_gateway(
            folder,
            plan=plan([one_route()] if routes is None else routes, rules, default="passthrough"),
            credentials={CONNECTION: SECRET} | dict(credentials or {}),
            connect_to=ports,
            further=further,
        ) as gateway:
            yield Stage(gateway=gateway, origin=origin, tls_origin=tls_origin)
            assert SECRET not in repr(gateway.audit.entries)
            assert SECRET.encode() not in gateway.parts.metrics.render()
