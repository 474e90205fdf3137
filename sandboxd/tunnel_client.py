"""Keep a tunnel to the gateway: connect, talk about tokens and the managed set, move on when it drains, come back.

`TunnelClient` keeps one tunnel in use; each `GatewayTunnel` is one of them, from its upgrade to its end. Streams do
not survive their tunnel.
"""

import asyncio
import json
import secrets
import ssl
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from sallyport.net.buffer_budget import BufferBudget
from sallyport.net.clock import NEVER
from sallyport.net.tunnel import Tunnel
from sallyport.net.tunnel_stream import TunnelStream
from sallyport.wire.errors import LocalProtocolError, RemoteProtocolError
from sallyport.wire.websocket import PROTOCOL
from sandboxd.config import GatewayUrl
from sandboxd.core.backoff import SETTLED_SECONDS, Again, after_close, after_failure, after_refusal, hastened
from sandboxd.core.intake import ManagedSetReader
from sandboxd.core.renewal import Kind
from sandboxd.offered_stream import Connects, OfferedStream
from sandboxd.parts import SandboxdParts
from sandboxd.token_keeper import TokenFileError, TokenKeeper
from sandboxd.upgrade import UpgradeRefused, open_websocket

# RFC 6455 section 7.4.1.
NORMAL: Final = 1000
# The task that keeps the tunnel; should it fail, sandboxd is of no use.
TUNNEL_TASK: Final = "tunnel"
# How often what depends on wall time is looked at: a machine that slept has no timers that went on.
BEAT_SECONDS: Final = 1.0
# How often a token file is looked at that nothing can be done without.
LOOK_SECONDS: Final = 1.0
# What a gateway may ask a drain to take; Kubernetes' longest usual grace is ten minutes.
_MAX_DRAIN_SECONDS: Final = 3600.0


class SetupSide(Protocol):
    """What the set-up of this sandbox is told (sandboxd.setup)."""

    def announce(self, message: Mapping[str, object]) -> None:
        """Take `setup.apply`; RemoteProtocolError."""

    def tunnel_ready(self) -> None:
        """There is a tunnel to tell statuses by."""


class GatewayTunnel:
    """One tunnel, as its owner. Ended by the gateway, by `retire`, or by its loss."""

    def __init__(self, client: "TunnelClient", budget: BufferBudget) -> None:
        parts = client.parts
        self._client = client
        self._parts = parts
        self.tunnel = Tunnel(self, is_client=True, clock=parts.clock, budget=budget)
        self.opened_at = parts.clock.now
        self.code: int | None = None
        self.drain_seconds: float | None = None
        self._managed_set = ManagedSetReader()
        self._is_retired = False
        self._is_lost = False
        self._changed = asyncio.Event()
        self._retired_until = NEVER
        self.deadline_at = self.filed_at = NEVER

    @property
    def is_lost(self) -> bool:
        """Whether it has ended."""
        return self._is_lost

    async def wait_until_leaving(self) -> None:
        """Wait until it drains or has ended."""
        while not (self._is_lost or self.drain_seconds is not None):
            self._changed.clear()
            await self._changed.wait()

    async def wait_until_lost(self, seconds: float) -> None:
        """Wait for its end, so long at most."""
        try:
            async with asyncio.timeout(seconds):
                while not self._is_lost:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass

    # What the tunnel calls

    def stream_opened(self, stream: TunnelStream) -> asyncio.Protocol:
        """The gateway wants something of this sandbox."""
        return OfferedStream(self._parts.clock, self._client.local)

    def control_received(self, text: bytes) -> None:
        """Act on one control message; what is none ends the tunnel."""
        try:
            message = json.loads(text)
            if not isinstance(message, dict):
                raise RemoteProtocolError("a control message is an object")
            self._act(message)
        except (RemoteProtocolError, ValueError, RecursionError) as error:
            self._parts.log.warning("control_refused", detail=str(error))
            self.tunnel.close(PROTOCOL, "a control message that cannot be read")

    def _act(self, message: Mapping[str, object]) -> None:
        client, parts = self._client, self._parts
        match message.get("type"):
            case "interception.set":
                managed = self._managed_set.take(message)
                if managed is not None and not self._is_retired:
                    parts.log.info("managed_set", revision=managed.revision, entries=len(managed.hosts))
                    parts.gateway.set_managed(managed)
            case "token.response":
                client.tokens.answered(message, parts.clock.wall)
                parts.log.info("token_renewed")
            case "token.error":
                client.tokens.renewal.failed(message, parts.clock.wall)
                parts.log.warning("token_not_renewed", code=str(message.get("code"))[:64])
            case "setup.apply":
                client.setup.announce(message)
            case "drain":
                self._drain(message.get("deadlineSeconds"))
            case other:
                # Of a newer gateway: this daemon stands in images that are older.
                parts.log.warning("control_unknown", type=str(other)[:64])

    def _drain(self, seconds: object) -> None:
        if type(seconds) not in (int, float) or not 0 <= (value := float(str(seconds))) <= _MAX_DRAIN_SECONDS:
            raise RemoteProtocolError("drain: deadlineSeconds is not a span")
        self._parts.log.info("gateway_drains", seconds=value)
        self.drain_seconds = value
        self._changed.set()

    def tunnel_lost(self, code: int | None, reason: str) -> None:
        """It has ended; its streams were told."""
        parts = self._parts
        parts.log.info("tunnel_ended", code=code, reason=reason)
        self.code = code
        self._is_lost = True
        parts.clock.watch(self, NEVER)
        if parts.gateway.tunnel is self.tunnel:
            parts.gateway.set_tunnel(None)
        self._changed.set()

    # Making room for the next one

    def retire(self) -> None:
        """Open no more streams in it, and close it when the last has ended, or at the gateway's deadline."""
        self._is_retired = True
        clock = self._parts.clock
        self._retired_until = clock.now + (self.drain_seconds or 0.0)
        self.expire()

    def expire(self) -> None:
        """Look whether it can close."""
        if self._is_lost:
            return
        clock = self._parts.clock
        if self.tunnel.stream_count == 0 or clock.now >= self._retired_until:
            self.tunnel.close(NORMAL, "another tunnel is in use")
        else:
            clock.watch(self, min(clock.now + BEAT_SECONDS, self._retired_until))

    def __repr__(self) -> str:
        state = "lost" if self._is_lost else "retired" if self._is_retired else "open"
        return f"<GatewayTunnel {state}, {self.tunnel!r}>"


class TunnelClient:
    """Keep one tunnel in use for as long as this object lives."""

    def __init__(
        self,
        parts: SandboxdParts,
        *,
        url: GatewayUrl,
        context: ssl.SSLContext | None,
        tokens: TokenKeeper,
        budget: BufferBudget,
        local: Connects,
        setup: SetupSide,
        random: Callable[[], float],
    ) -> None:
        self.parts = parts
        self.tokens = tokens
        self.local = local
        self.setup = setup
        self._url = url
        self._context = context
        self._budget = budget
        self._random = random
        # The first attempt of all is made at once, as the one after a settled tunnel is; this is the step after it.
        self._attempt = 1
        self._current: GatewayTunnel | None = None
        self._task: asyncio.Task[None] | None = None
        self.deadline_at = self.filed_at = NEVER

    def start(self) -> None:
        """Connect, and keep doing so."""
        self._task = self.parts.tasks.spawn(self._keep(), name=TUNNEL_TASK)
        self._beat()

    def send(self, document: Mapping[str, object]) -> None:
        """Send a control message by the tunnel in use; without one it is dropped."""
        if self._current is not None:
            try:
                self._current.tunnel.send_control(document)
            except LocalProtocolError as error:
                self.parts.log.error("control_too_large", type=document.get("type"), detail=str(error))

    def close(self) -> None:
        """End the tunnel in use and open no other."""
        if self._task is not None:
            self._task.cancel()
        self.parts.clock.watch(self, NEVER)
        if self._current is not None:
            self._current.tunnel.close(NORMAL, "sandboxd ends")

    # One tunnel after the other

    async def _keep(self) -> None:
        again = Again(wait_seconds=0.0)
        while True:
            before, self._current = self._current, await self._connect(again)
            self.parts.gateway.set_tunnel(self._current.tunnel)
            self.setup.tunnel_ready()
            if before is not None:
                before.retire()
            await self._current.wait_until_leaving()
            again = await self._leave(self._current)

    async def _leave(self, tunnel: GatewayTunnel) -> Again:
        """Say how to go on: after a loss, or at a random moment of a drain's first half (make before break)."""
        settled = self.parts.clock.now - tunnel.opened_at >= SETTLED_SECONDS
        if settled or tunnel.drain_seconds is not None:
            self._attempt = 0
        if not tunnel.is_lost and tunnel.drain_seconds is not None:
            await tunnel.wait_until_lost(self._random() * tunnel.drain_seconds / 2)
        if not tunnel.is_lost:
            return Again(wait_seconds=0.0)
        again = after_close(tunnel.code, self._attempt, self._random)
        self._attempt += 1
        if again.is_token_bad:
            self._refuse_tokens(everything=again.is_stopped)
        return again

    async def _connect(self, again: Again) -> GatewayTunnel:
        """Try until there is a tunnel."""
        while True:
            await self._pause(again)
            again = Again(wait_seconds=LOOK_SECONDS, is_stopped=True)
            self._read_tokens()
            bearer = self.tokens.bearer(self.parts.clock.wall)
            if bearer is None:
                self.parts.log.warning("no_token", detail="no token is good; a new token file is waited for")
                continue
            try:
                async with asyncio.timeout(self.parts.timeouts.connect):
                    transport, early = await open_websocket(self._url, bearer.token, self._context)
                return self._begin(transport, early, bearer.kind)
            except UpgradeRefused as refused:
                self.parts.log.warning("gateway_refused", status=refused.status, code=refused.code)
                if refused.status == 401:
                    self.tokens.renewal.refuse(bearer.token)
                has_another = self.tokens.bearer(self.parts.clock.wall) is not None
                again = after_refusal(refused.status, has_another, self._attempt, self._random)
                if refused.status == 401 and not has_another:
                    self.tokens.renewal.forgive()
            except (OSError, RemoteProtocolError) as error:
                self.parts.log.warning("gateway_unreachable", gateway=str(self._url), detail=str(error) or "timeout")
                again = after_failure(self._attempt, self._random)
            self._attempt += 1

    async def _pause(self, again: Again) -> None:
        """Wait as long as was said, less where a program waits; where only another token helps, until there is one."""
        if not again.is_stopped:
            due_at = asyncio.get_running_loop().time() + again.wait_seconds
            if again.may_hasten and again.wait_seconds > 0:
                due_at = await self._hasten(due_at)
            await asyncio.sleep(due_at - asyncio.get_running_loop().time())
            return
        while not self._read_tokens():  # noqa: ASYNC110  nothing tells of a file that was replaced
            await asyncio.sleep(LOOK_SECONDS)

    async def _hasten(self, due_at: float) -> float:
        """Wait for a program to wait, until `due_at` at most; return when the next attempt is due."""
        try:
            async with asyncio.timeout_at(due_at):
                await self.parts.gateway.until_waited_for()
        except TimeoutError:
            return due_at
        now = asyncio.get_running_loop().time()
        return now + hastened(due_at - now, self._random)

    def _begin(self, transport: asyncio.Transport, early: bytes, shown: Kind) -> GatewayTunnel:
        parts = self.parts
        tunnel = GatewayTunnel(self, self._budget)
        parts.log.info("tunnel_opened", gateway=str(self._url), shown=shown.value)
        self.tokens.renewal.tunnel_opened(shown, parts.clock.wall)
        tunnel.tunnel.start(transport, early)
        tunnel.tunnel.send_control({"type": "ready"})
        return tunnel

    # Tokens

    def _read_tokens(self) -> bool:
        try:
            return self.tokens.read(self.parts.clock.wall)
        except TokenFileError as error:
            self.parts.log.warning("token_file_unusable", path=str(error.path), detail=error.problem)
            return False

    def _refuse_tokens(self, *, everything: bool) -> None:
        renewal = self.tokens.renewal
        renewal.refuse(renewal.tokens.token)
        if everything:
            renewal.refuse(renewal.tokens.renewal)

    def expire(self) -> None:
        """A beat."""
        self._beat()

    def _beat(self) -> None:
        clock = self.parts.clock
        clock.watch(self, clock.now + BEAT_SECONDS)
        if self._current is not None and self._current.tunnel.is_open:
            request_id = self.tokens.renewal.due(clock.wall, f"trq_{secrets.token_hex(12)}")
            if request_id is not None:
                self.send({"type": "token.request", "requestId": request_id})

    def __repr__(self) -> str:
        return f"<TunnelClient of {self._url}, {self._current!r}>"
