"""An aiohttp server with an aiohttp client behind it, as a proxy that writes a credential; on uvloop.

Run by its path in an environment of its own: `aiohttp_proxy.py SETTINGS`. Beyond defaults: uvloop, as its
documentation advises for speed; as many links as nginx here may keep, no cookies, no decompression, answers passed
on as they come, and an access log that is written in blocks like nginx's.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

import uvloop
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web

_SETTINGS = json.loads(Path(sys.argv[1]).read_text())
# Of this link alone, or replaced.
_DROPPED = {"authorization", "proxy-authorization", "connection", "proxy-connection", "keep-alive", "te", "upgrade"}
_LOG = Path(_SETTINGS["log"]).open("w", buffering=65_536)  # noqa: SIM115 - for as long as this process


async def _forward(request: web.BaseRequest) -> web.StreamResponse:
    headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _DROPPED]
    headers.append(("Authorization", _SETTINGS["authorization"]))
    url = _SETTINGS["origin"] + request.rel_url.raw_path_qs
    body = request.content if request.body_exists else None
    async with _session().request(request.method, url, headers=headers, data=body, allow_redirects=False) as upstream:
        answer = web.StreamResponse(status=upstream.status, headers=upstream.headers)
        await answer.prepare(request)
        size = 0
        async for part in upstream.content.iter_any():
            size += len(part)
            await answer.write(part)
        await answer.write_eof()
    entry = {
        "time": time.strftime("%FT%TZ", time.gmtime()),
        "method": request.method,
        "host": request.host,
        "path": request.rel_url.raw_path,
        "status": upstream.status,
        "bytesOut": size,
    }
    _LOG.write(json.dumps(entry) + "\n")
    return answer


def _session() -> ClientSession:
    if not _SESSIONS:
        _SESSIONS.append(
            ClientSession(
                connector=TCPConnector(limit=256, keepalive_timeout=300),
                cookie_jar=DummyCookieJar(),
                auto_decompress=False,
                timeout=ClientTimeout(total=60),
            )
        )
    return _SESSIONS[0]


_SESSIONS: list[ClientSession] = []  # made where a loop runs


async def _serve() -> None:
    runner = web.ServerRunner(web.Server(_forward, keepalive_timeout=300, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", _SETTINGS["port"], backlog=1024).start()
    await asyncio.Event().wait()  # until the run ends this process


if __name__ == "__main__":
    uvloop.run(_serve())
