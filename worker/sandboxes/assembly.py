"""Put the sandboxes of a worker together from its settings."""

from collections.abc import Mapping
from dataclasses import dataclass

from sallyport.net.orphans import end_orphans
from sallyport.net.tasks import TaskSet
from worker.config import SandboxSettings
from worker.owned_folder import OwnedFolder, StateTaken, own_folder
from worker.sandboxes.docker import DockerSandboxes, DockerSettings
from worker.sandboxes.docker_api import DockerApi
from worker.sandboxes.local import LocalSandboxes, LocalSettings
from worker.sandboxes.outside import OutsideSettings
from worker.sandboxes.provider import SandboxProvider
from worker.sandboxes.sandboxes import MintTokens, Sandboxes
from worker.sandboxes.store import DeclaredSandboxes

# Which processes are a worker's sandboxes and their sandboxds.
MARK = "SALLYPORT_SANDBOX_OF"


@dataclass(frozen=True, slots=True)
class OpenSandboxes:
    """The sandboxes and the folder they are in."""

    sandboxes: Sandboxes
    folder: OwnedFolder

    async def close(self) -> None:
        """Stop all of them, and let another worker have the folder."""
        await self.sandboxes.close()
        self.folder.close()


async def open_sandboxes(
    settings: SandboxSettings, environ: Mapping[str, str], tasks: TaskSet, mint: MintTokens
) -> OpenSandboxes:
    """Open the folder, end what an earlier worker left running, read what is declared; raises StateTaken.

    Nothing is started: that is for `repair`.
    """
    folder = own_folder(settings.state_dir.absolute())
    try:
        end_orphans(MARK, folder.mark)
        root = folder.root / "local"
        root.mkdir(mode=0o700, exist_ok=True)
        outside = OutsideSettings(
            gateway_url=settings.gateway_url or "",
            gateway_ca_file=settings.gateway_ca_file,
            start_seconds=settings.start_timeout,
            inherited=environ,
            mark=(MARK, folder.mark),
        )
        local = LocalSettings(
            root=root,
            is_isolated=settings.isolation == "full",
            shared=settings.shared,
            first_uid=settings.first_uid,
            stop_seconds=settings.stop_timeout,
        )
        providers: dict[str, SandboxProvider] = {"local": LocalSandboxes(tasks, local, outside)}
        if settings.docker_socket is not None:
            docker = DockerSettings(root=folder.root / "docker", mark=folder.mark, stop_seconds=settings.stop_timeout)
            providers["docker"] = DockerSandboxes(tasks, DockerApi(settings.docker_socket), docker, outside)
        sandboxes = Sandboxes(
            DeclaredSandboxes(folder.root / "declared"), providers, mint, most_sandboxes=settings.most
        )
        await sandboxes.open()
    except OSError as error:
        folder.close()
        raise StateTaken(f"the sandboxes' folder cannot be used: {error.filename}: {error.strerror}") from None
    return OpenSandboxes(sandboxes, folder)
