"""The row with a cold credential: a control plane's stand-in that counts, and the gateway that lives by it."""

import http.client
import json
from dataclasses import dataclass

from benchmarks.processes import BenchmarkError, HelperProgram

_ADMIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSide:
    """The stand-in of a control plane that counts, and the gateway that lives by it."""

    program: HelperProgram
    admin_port: int

    def count(self) -> int:
        """Return how many resolutions there were so far."""
        resolutions: int = self.program.ask({})["resolutions"]
        return resolutions

    def make_cold(self) -> None:
        """Let the gateway forget its credential; BenchmarkError."""
        admin = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=_ADMIN_SECONDS)
        try:
            admin.request(
                "POST", "/v1/credentials/invalidate", json.dumps({"kind": "all"}), {"Content-Type": "application/json"}
            )
            answer = admin.getresponse()
            said = answer.read(300)
        except OSError as error:
            raise BenchmarkError(f"the gateway's admin listener does not answer: {error}") from None
        finally:
            admin.close()
        if answer.status != 200:
            raise BenchmarkError(f"the gateway does not forget its credential: {answer.status} {said!r}")
