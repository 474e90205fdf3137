"""Integration servers that plans name: had running before a plan is put in force, let go when no plan names them.

A plan names one by its address at this worker's front, `<front.url>/mcp/<id>`
(docs/decisions/0015-plans-name-servers-by-address.md). Each server keeps which sandboxes want it and since which
revision. Letting go waits until a revision without it is in force: the sandbox may use it until then, and an
application may fail.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple, cast
from urllib.parse import urlsplit

import structlog

from control_client.errors import ControlError
from control_client.plans import fetch_plan
from control_client.session import ControlSession
from sallyport.plan.codec import PlanError, parse_plan
from sallyport.plan.workload import HttpMcpTransport
from worker.apply_plan import NotYet, StepFailed
from worker.integrations.catalog import CATALOG
from worker.integrations.errors import Category, IntegrationError
from worker.integrations.integration import Integration
from worker.integrations.integrations import Integrations
from worker.reconciliation import CannotTell, NotRepaired

_PATH: Final = "/mcp/"
_PORTS: Final = {"http": 80, "https": 443}

_log = structlog.get_logger(__name__)


class SandboxGone(Exception):
    """There is no such sandbox any more."""


class InForce(NamedTuple):
    """The plan that a sandbox has now: its revision, and the servers of ours that it names."""

    revision: int
    servers: frozenset[str]


def servers_at(front_url: str | None, urls: Sequence[str]) -> frozenset[str]:
    """Return the ids of the servers that these addresses name at a front."""
    if front_url is None:
        return frozenset()
    ours = _origin(front_url)
    named = (urlsplit(url) for url in urls if _origin(url) == ours)
    return frozenset(
        each.path.removeprefix(_PATH)
        for each in named
        if each.path.startswith(_PATH) and "/" not in each.path.removeprefix(_PATH) and len(each.path) > len(_PATH)
    )


class PlanServers:
    """What plans want of the servers of one worker."""

    name: Final = "plan_servers"
    is_local: Final = False

    def __init__(
        self,
        integrations: Integrations,
        plan: Callable[[str], Awaitable[bytes | None]],
        front_url: Callable[[], str | None],
        *,
        has_front: bool,
    ) -> None:
        """Plan returns the document in force of a sandbox, None where there is none yet.

        It raises SandboxGone, CannotTell. front_url is None until it is known, and where there is no front.
        """
        self._integrations = integrations
        self._plan = plan
        self._front_url = front_url
        self._has_front = has_front

    async def provide(self, sandbox_id: str, revision: int, servers: Sequence[Mapping[str, object]]) -> int:
        """Have those of a plan's mcpServers run that are ours, and return how many; raises StepFailed or NotYet.

        The same again changes nothing. A revision that came after this one is not taken back.
        """
        if self._has_front and self._front_url() is None:
            raise NotYet("the front does not listen yet")
        newest = max((each.stored.wanted_by.get(sandbox_id, 0) for each in self._integrations.list()), default=0)
        if newest > revision:
            raise StepFailed(f"integration servers were provided for revision {newest} already")
        transports = (cast("Mapping[str, object]", server.get("transport", {})) for server in servers)
        urls = [str(transport["url"]) for transport in transports if transport.get("type") == "streamable-http"]
        wanted = servers_at(self._front_url(), urls)
        for server_id in sorted(wanted):
            try:
                await self._have(server_id, sandbox_id, revision)
            except IntegrationError as error:
                if error.category in (Category.NOT_FOUND, Category.VALIDATION_ERROR):
                    raise StepFailed(str(error)) from None
                raise NotYet(str(error)) from None
        return len(wanted)

    async def actual(self) -> Mapping[str, str]:
        """Return which sandbox wants which server, as it was noted."""
        return {_item(server, sandbox): "provided" for server, sandbox, _ in self._noted()}

    async def declared(self) -> Mapping[str, str]:
        """Return which sandbox wants which server, by the plans in force; raises CannotTell.

        A revision that is not in force yet is being applied, or failed; its servers wait for the next one.
        """
        noted = self._noted()
        in_force = {sandbox: await self._in_force(sandbox) for sandbox in sorted({each[1] for each in noted})}
        kept = {
            _item(server, sandbox)
            for server, sandbox, revision in noted
            if (now := in_force[sandbox]) is not None and now.revision < revision
        }
        named = {_item(server, sandbox) for sandbox, now in in_force.items() if now for server in now.servers}
        return dict.fromkeys(kept | named, "provided")

    async def repair(self, item: str, declared: str | None, actual: str | None) -> None:
        """Provide a server, or let it go; raises NotRepaired."""
        server_id, _, sandbox_id = item.partition(_FOR)
        try:
            if declared is None:
                await self._let_go(server_id, sandbox_id)
                return
            now = await self._in_force(sandbox_id)
            if now is not None and server_id in now.servers:
                await self._have(server_id, sandbox_id, now.revision)
        except (IntegrationError, CannotTell) as error:
            raise NotRepaired(str(error)) from None

    async def _have(self, server_id: str, sandbox_id: str, revision: int) -> None:
        integration = await self._installed(server_id)
        # Before it is started: from now on it is nobody's to take away.
        integration.want(sandbox_id, revision)
        await integration.start()

    async def _installed(self, server_id: str) -> Integration:
        try:
            return self._integrations.find(server_id)
        except IntegrationError as error:
            if error.category is not Category.NOT_FOUND:
                raise
        manifest = CATALOG.get(server_id)
        if manifest is None:
            message = f"there is no integration {server_id}, here or in the catalog; install it on this worker"
            raise IntegrationError(Category.NOT_FOUND, message)
        return await self._integrations.install(manifest, lambda *_: None, "plans")

    async def _let_go(self, server_id: str, sandbox_id: str) -> None:
        integration = self._integrations.find(server_id)
        integration.unwant(sandbox_id)
        if integration.stored.owner == "plans" and not integration.stored.wanted_by:
            await self._integrations.remove(server_id)
            _log.info("plan_server_removed", integration=server_id)

    async def _in_force(self, sandbox_id: str) -> InForce | None:
        """Return the plan in force, revision 0 where there is none yet; None: the sandbox is gone."""
        try:
            document = await self._plan(sandbox_id)
        except SandboxGone:
            return None
        if document is None:
            return InForce(0, frozenset())
        try:
            plan = parse_plan(document)
        except PlanError:
            raise CannotTell(f"the plan of {sandbox_id} cannot be read") from None
        transports = (server.transport for server in plan.mcp_servers)
        urls = [each.url for each in transports if isinstance(each, HttpMcpTransport)]
        return InForce(plan.revision, servers_at(self._front_url(), urls))

    def _noted(self) -> list[tuple[str, str, int]]:
        return [
            (integration.id, sandbox_id, revision)
            for integration in self._integrations.list()
            for sandbox_id, revision in integration.stored.wanted_by.items()
        ]

    def __repr__(self) -> str:
        return f"<PlanServers at {self._front_url()}>"


async def plan_in_force(session: ControlSession, sandbox_id: str) -> bytes | None:
    """Return the plan in force of a sandbox, None where there is none yet; raises SandboxGone, CannotTell."""
    try:
        return await fetch_plan(session, sandbox_id)
    except ControlError as error:
        if error.code == "plan_not_found":
            return None
        if error.code == "sandbox_not_found":
            raise SandboxGone(sandbox_id) from None
        raise CannotTell(str(error)) from None


# No id of a server has a blank in it.
_FOR: Final = " for "


def _item(server_id: str, sandbox_id: str) -> str:
    return f"{server_id}{_FOR}{sandbox_id}"


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
