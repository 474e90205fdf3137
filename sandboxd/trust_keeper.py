"""Keep the files by which programs trust this sandbox's authority, and renew both in time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sallyport.net.clock import NEVER, Clock
from sallyport.net.interception import MemoryCa
from sallyport.net.trust_files import TrustFiles, trust_files, write_trust
from sallyport.trust_env import variables
from sandboxd.log import Log

# An authority is renewed eleven hours before anything of it ends; a machine that slept is behind by its sleep.
LOOK_SECONDS: Final = 60.0


class TrustKeeper:
    """The trust files of one sandbox. `begin` writes them and raises OSError; later failures are logged and retried."""

    def __init__(self, ca: MemoryCa, directory: Path, environ: Mapping[str, str], clock: Clock, log: Log) -> None:
        self._ca = ca
        self._directory = directory.absolute()
        self._environ = environ
        self._clock = clock
        self._log = log
        self._written = b""
        self.deadline_at = self.filed_at = NEVER

    @property
    def files(self) -> TrustFiles:
        """Where they are."""
        return trust_files(self._directory)

    def begin(self) -> None:
        """Write the files, and look after them from now on; OSError."""
        self._clock.watch(self, self._clock.now + LOOK_SECONDS)
        pem = self._ca.authority("", self._clock.wall).certificate_pem
        if pem != self._written:
            write_trust(self._directory, pem, self._environ)
            self._written = pem

    def expire(self) -> None:
        """Look again."""
        try:
            before = self._written
            self.begin()
            if before != self._written:
                self._log.info("ca_renewed")
        except OSError as error:
            self._log.error("ca_files_not_written", path=str(self._directory), detail=error.strerror)

    def environment(self, proxy: str) -> dict[str, str]:
        """Return the variables of a program that goes out by this sandboxd; there is no token in them."""
        files = self.files
        return variables(
            proxy_url=f"http://{proxy}",
            ca_file=str(files.ca),
            bundle_file=str(files.bundle),
            java_trust_store=str(files.java),
            node_preload=str(files.node_preload),
            wgetrc=str(files.wgetrc),
        )

    def __repr__(self) -> str:
        return f"<TrustKeeper {self._directory}>"
