"""Integration servers that the control plane wants on this worker, against those it had installed here."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from control_client.errors import ControlError
from worker.integrations.errors import Category, IntegrationError
from worker.integrations.integration import Integration
from worker.integrations.integrations import Integrations
from worker.integrations.manifest import IntegrationId
from worker.integrations.sources import InstallRequest, manifest_of
from worker.reconciliation import CannotTell, NotRepaired

_OWNER: Final = "control-plane"
_FAULTY: Final = "faulty"


class _Declared(BaseModel):
    """One server as the control plane declares it; the rest is an install request's."""

    model_config = ConfigDict(extra="forbid")

    server_id: IntegrationId = Field(alias="serverId")
    source: str | dict[str, object]
    tier: Literal["standard", "admin"]
    desired: Literal["running", "stopped"]
    arguments: list[str] = Field(default_factory=list)
    environment: dict[str, str] = Field(default_factory=dict)
    secrets: dict[str, dict[str, object]] = Field(default_factory=dict)

    def order(self) -> InstallRequest:
        """Return what installs it; raises ValidationError."""
        asked = self.model_dump(exclude={"server_id", "desired"})
        return InstallRequest.model_validate({**asked, "id": self.server_id, "owner": _OWNER})


class DeclaredServers:
    """The servers of the control plane. What operators and plans had installed here is not its own."""

    name: Final = "declared_servers"
    is_local: Final = False

    def __init__(
        self, integrations: Integrations, ask: Callable[[], Awaitable[Sequence[Mapping[str, object]]]]
    ) -> None:
        """Ask returns what is declared; it raises ControlError."""
        self._integrations = integrations
        self._ask = ask
        self._wanted: dict[str, tuple[_Declared, InstallRequest]] = {}

    async def actual(self) -> Mapping[str, str]:
        """Return what it had installed."""
        return {each.id: _is(each) for each in self._integrations.list() if each.stored.owner == _OWNER}

    async def declared(self) -> Mapping[str, str]:
        """Return what it declares; raises CannotTell."""
        try:
            documents = await self._ask()
        except ControlError as error:
            raise CannotTell(str(error)) from None
        self._wanted, faulty = {}, {}
        for document in documents:
            try:
                declared = _Declared.model_validate(document)
                self._wanted[declared.server_id] = declared, declared.order()
            except ValidationError:
                # Its values may be anything, and are not repeated.
                faulty[str(document.get("serverId"))[:128]] = _FAULTY
        return faulty | {name: f"{each.desired} {order.digest}" for name, (each, order) in self._wanted.items()}

    async def repair(self, item: str, declared: str | None, actual: str | None) -> None:
        """Install, start, stop or remove one; raises NotRepaired."""
        if declared == _FAULTY:
            raise NotRepaired("the control plane declares it in a way that is not understood here")
        try:
            if item in self._wanted and declared is not None:
                await self._bring_about(*self._wanted[item])
            else:
                await self._integrations.remove(item)
        except IntegrationError as error:
            if declared is not None or error.category is not Category.NOT_FOUND:
                raise NotRepaired(str(error)) from None

    async def _bring_about(self, wanted: _Declared, order: InstallRequest) -> None:
        integration = self._found(wanted.server_id)
        if integration is not None and integration.stored.order != order.digest:
            await self._integrations.remove(integration.id)
            integration = None
        if integration is None:
            manifest = manifest_of(order)
            integration = await self._integrations.install(manifest, lambda *_: None, order.owner, order.digest)
        if wanted.desired == "running":
            await integration.start()
        else:
            await integration.stop()

    def _found(self, server_id: str) -> Integration | None:
        found = (each for each in self._integrations.list() if each.id == server_id and each.stored.owner == _OWNER)
        return next(found, None)

    def __repr__(self) -> str:
        return f"<DeclaredServers of {self._integrations!r}>"


def _is(integration: Integration) -> str:
    return f"{integration.stored.desired} {integration.stored.order}"
