"""The addon that makes mitmproxy do the gateway's work; loaded by mitmdump, in an environment of its own.

Its settings stand in `settings.json` beside the copy that the run makes. mitmproxy's own types are not imported: the
code is checked where mitmproxy is not installed.
"""

import json
from pathlib import Path
from typing import Any

_SETTINGS = json.loads(Path(__file__).with_name("settings.json").read_text())


class WriteCredential:
    def __init__(self) -> None:
        self._authorization = f"Bearer {_SETTINGS['credential']}"
        self._log = Path(__file__).with_name("access.log").open("w", buffering=65_536)

    def request(self, flow: Any) -> None:  # noqa: ANN401 - mitmproxy.http.HTTPFlow, not installed where this is checked
        request = flow.request
        host = request.host_header
        request.host, request.port = "127.0.0.1", _SETTINGS["ports"][request.scheme]
        request.host_header = host
        request.headers.pop("proxy-authorization", None)
        request.headers["authorization"] = self._authorization

    def server_connect(self, data: Any) -> None:  # noqa: ANN401 - mitmproxy.proxy.server_hooks.ServerConnectionHookData
        if data.server.address == ("127.0.0.1", _SETTINGS["ports"]["https"]):
            data.server.sni = _SETTINGS["host"]  # the name that its certificate is verified for

    def response(self, flow: Any) -> None:  # noqa: ANN401 - as above
        request, response = flow.request, flow.response
        entry = {
            "time": request.timestamp_start,
            "method": request.method,
            "host": request.host_header,
            "path": request.path,
            "status": response.status_code,
            "bytesOut": len(response.raw_content),
        }
        self._log.write(json.dumps(entry) + "\n")


addons = [WriteCredential()]
