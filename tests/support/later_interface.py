"""A gateway in a network of its own whose interface comes up after its start; run by `unshare --net`, with a folder.

Prints, as JSON, what each way into the gateway was told of its own listener at that interface, before and after.
"""

import asyncio
import fcntl
import json
import socket
import struct
import sys
from pathlib import Path

from tests.support.gateway_plans import plan
from tests.support.in_process import Settings, in_process_gateway
from tests.support.sides import SIDES, Told, side_of

ADDRESS = "10.77.0.1"
# linux/sockios.h, linux/if.h
_SET_FLAGS, _SET_ADDRESS, _UP = 0x8914, 0x8916, 0x1


def bring_up(name: bytes, address: str) -> None:
    """Give an interface an address, and bring it up."""
    with socket.socket() as asked:
        there = socket.inet_aton(address)
        fcntl.ioctl(asked, _SET_ADDRESS, struct.pack("16sH2x4s8x", name, socket.AF_INET, there))
        fcntl.ioctl(asked, _SET_FLAGS, struct.pack("16sH14x", name, _UP))


async def ask(folder: Path) -> dict[str, list[Told]]:
    """Run the gateway and ask it."""
    further: Settings = {
        "listen": {"proxy": "0.0.0.0:0"},
        "network": {"allow": ["0.0.0.0/0"]},
        "timeouts": {"connect": "1s"},
    }
    told: dict[str, list[Told]] = {}
    async with in_process_gateway(folder, plan=plan([], default="passthrough"), further=further) as gateway:
        authority = f"{ADDRESS}:{gateway.gateway.proxy.port}"
        for state in ("before", "after"):
            if state == "after":
                bring_up(b"lo:later", ADDRESS)
            told[state] = []
            for name in SIDES:
                async with side_of(gateway, name) as side:
                    told[state] += [await side.get(authority), await side.connect(authority)]
    return told


if __name__ == "__main__":
    bring_up(b"lo", "127.0.0.1")
    sys.stdout.write(json.dumps(asyncio.run(ask(Path(sys.argv[1])))) + "\n")
