"""Integration servers as they are meant to be against the processes that are there."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from sallyport.net.orphans import end_marked, find_marked
from worker.integrations.errors import IntegrationError
from worker.integrations.integration import Integration, Status
from worker.integrations.integrations import Integrations
from worker.integrations.launch import MARK, server_mark
from worker.reconciliation import NotRepaired

_LEFT: Final = "processes of "


class ServerProcesses:
    """The servers of one worker, found by status, and the processes of its mark that no server accounts for."""

    name: Final = "server_processes"
    is_local: Final = True

    def __init__(self, integrations: Integrations) -> None:
        self._integrations = integrations
        self._left: dict[str, Sequence[int]] = {}

    async def actual(self) -> Mapping[str, str]:
        """Return each server's state as far as it is settled, and what is left of servers that do not run."""
        prefix = f"{self._integrations.mark}."
        found = await asyncio.to_thread(find_marked, MARK, prefix)
        servers = {integration.id: integration for integration in self._integrations.list()}
        self._left = {
            f"{_LEFT}{mark.removeprefix(prefix)}": pids
            for mark, pids in found.items()
            if _is_at_rest(servers.get(server_mark(mark).removeprefix(prefix)))
        }
        states = {integration.id: _state(integration) for integration in servers.values()}
        return states | {item: f"{len(pids)} left" for item, pids in self._left.items()}

    async def declared(self) -> Mapping[str, str]:
        """Return what each installed server is meant to be."""
        return {integration.id: integration.stored.desired for integration in self._integrations.list()}

    async def repair(self, item: str, declared: str | None, actual: str | None) -> None:
        """Start, stop, or end what was left; raises NotRepaired for a server that was given up."""
        if item.startswith(_LEFT):
            mark = f"{self._integrations.mark}.{item.removeprefix(_LEFT)}"
            await asyncio.to_thread(end_marked, MARK, mark, self._left.get(item, ()))
            return
        try:
            integration = self._integrations.find(item)
        except IntegrationError:
            return  # it was removed meanwhile
        if integration.status is Status.CRASH_LOOP:
            raise NotRepaired("it failed again and again; mend what its log tells, then start it")
        if integration.stored.desired == "running":
            integration.resume()
        else:
            await integration.end()

    def __repr__(self) -> str:
        return f"<ServerProcesses of {self._integrations!r}>"


def _is_at_rest(integration: Integration | None) -> bool:
    return integration is None or integration.is_at_rest


def _state(integration: Integration) -> str:
    match integration.status:
        case Status.STOPPED:
            # One that is about to be started is not missing.
            return "stopped" if integration.is_at_rest else integration.stored.desired
        case Status.CRASH_LOOP | Status.RUNNING:
            return str(integration.status.value)
        case _:
            return integration.stored.desired
