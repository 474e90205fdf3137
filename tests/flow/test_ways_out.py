"""Every way out of a local sandbox is tried from inside, with a real gateway, a real sandboxd and a real kernel.

Beside what the program in the sandbox hears stands what listens outside of it: nothing ever came there.
"""

import asyncio
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvloop

from sallyport.net.proc import pids, stat_of
from sallyport.wire.netlink import IPV4, RedirectPorts, everything_local, interface_up, redirection
from tests.support.gateway_plans import SANDBOX, plan, route
from tests.support.gateway_process import ROOT, GatewayProcess, Setting, gateway_process
from tests.support.sandbox_network import needs_isolation
from tests.support.sandbox_stage import NO_TOKENS, SHARED, definition, ended, local_sandboxes, open_folder
from worker.sandboxes.provider import TunnelTokens

PROGRAM = ROOT / "tests/support/ways_out_program.py"
# Not the environment's own: this tree may be below /tmp, which is another one in a sandbox.
PYTHON = str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")
# Sandboxd has taken it, and has told in the program's protocol that it may not.
REFUSED = "HTTP/1.1 403 Forbidden"
NO_SUCH_PROCESS = ("ESRCH", "ENOENT", "EPERM")

EXPECTED: dict[str, tuple[str, ...]] = {
    # All of TCP ends at sandboxd, whatever the address, and the plan refuses it. By an address there is no name that
    # a rule could allow, and what is no TLS is cut (A1).
    "tcp to an address": (REFUSED, "ECONNRESET", "closed"),
    "tcp to an address by IPv6": (REFUSED, "ECONNRESET", "closed"),
    "tcp to another port": (REFUSED, "ECONNRESET", "closed"),
    "tcp to the host": (REFUSED, "ECONNRESET", "closed"),
    "tcp to a metadata service": (REFUSED, "ECONNRESET", "closed"),
    "tcp to a name": (REFUSED,),
    "tcp by mptcp": (REFUSED, "ECONNRESET", "closed", "EPROTONOSUPPORT", "ENOPROTOOPT"),
    "tcp to the host's loopback": ("ECONNREFUSED",),
    "tcp to the host's loopback by IPv6": ("ECONNREFUSED",),
    "tcp to the gateway": ("ECONNREFUSED",),
    "udp to an address": ("EPERM",),
    "udp to an address by IPv6": ("EPERM", "EACCES"),
    "udp to the host's loopback": ("ECONNREFUSED",),
    "icmp raw": ("EPERM",),
    "icmp datagram": ("EACCES", "EPERM"),
    "icmp6 raw": ("EPERM",),
    "ip raw": ("EPERM",),
    "sctp": ("EPROTONOSUPPORT", "ESOCKTNOSUPPORT", "EPERM"),
    **dict.fromkeys(("packet", "vsock", "bluetooth", "crypto", "xdp"), ("EAFNOSUPPORT",)),
    "abstract socket of the host": ("ECONNREFUSED",),
    "path socket of the host": ("ENOENT",),
    "another interface": ("EPERM",),
    "another route": ("EPERM",),
    "other rules": ("EPERM",),
    "new user namespace": ("EPERM",),
    "new network namespace": ("EPERM",),
    "new namespaces by clone3": ("ENOSYS",),
    "network of the first process": ("EACCES", "EPERM"),
    "network of the host's first process": ("ENOENT", "EACCES", "EPERM"),
    "io_uring": ("ENOSYS",),
    "bpf": ("EPERM",),
    "keys": ("EPERM",),
    "ptrace of sandboxd": NO_SUCH_PROCESS,
    "memory of sandboxd": NO_SUCH_PROCESS,
    "variables of sandboxd": NO_SUCH_PROCESS,
    "signal to sandboxd": NO_SUCH_PROCESS,
    "memory of the first process": ("EACCES", "EPERM"),
    # It is of the same user and holds nothing; still nobody looks into it.
    "ptrace of the deputy": ("EPERM",),
    "memory of the deputy": ("EACCES", "EPERM"),
    "variables of the deputy": ("EACCES", "EPERM"),
    "descriptors of the deputy": ("EACCES", "EPERM"),
    "a descriptor of the deputy": ("EPERM",),
    "root of the deputy": ("EACCES", "EPERM"),
    "network of the deputy": ("EACCES", "EPERM"),
    "the deputy's place": ("closed", "ECONNRESET"),
    "token": ("ENOENT",),
    # Nothing but the way to its own trust, made for that.
    "folder of the worker": (str([SANDBOX]),),
    "folder of another sandbox": ("ENOENT",),
    "trust can be written": ("EROFS", "EACCES"),
    "setting of the kernel": ("EACCES", "EROFS"),
    "device": ("EPERM",),
    "another root": ("EPERM",),
    "another user": ("EPERM",),
    "rights by a program": ("nosuid",),
}


class Outside(NamedTuple):
    """What listens on this machine. Whoever came in is in `came` when `look` has looked."""

    tcp: socket.socket
    tcp6: socket.socket
    udp: socket.socket
    abstract: socket.socket
    path: socket.socket

    def came(self) -> list[str]:
        """Name those that anybody came to."""
        found = []
        for name, listening in zip(self._fields, self, strict=True):
            listening.setblocking(False)
            try:
                listening.recvfrom(1) if name == "udp" else listening.accept()
                found.append(name)
            except BlockingIOError:
                pass
        return found


@contextmanager
def outside(folder: Path) -> Iterator[Outside]:
    with ExitStack() as opened:
        tcp = opened.enter_context(socket.create_server(("", 0)))
        tcp6 = opened.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
        udp = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("0.0.0.0", 0))
        abstract = opened.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0sallyport-test-{os.getpid()}")
        path = opened.enter_context(socket.socket(socket.AF_UNIX))
        path.bind(str(folder / "socket"))
        (folder / "socket").chmod(0o777)
        for each in (abstract, path):
            each.listen()
        yield Outside(tcp, tcp6, udp, abstract, path)


class Tried(NamedTuple):
    """What the program said, and who came to what listens outside."""

    state: dict[str, Any]
    ways: dict[str, str]
    came: list[str]
    deputy: "Deputy"


class Deputy(NamedTuple):
    """A sandbox's deputy, as the machine sees it."""

    status: dict[str, str]
    descriptors: set[str]
    environment_of_start: bytes


def _host_address() -> str:
    """Return an address of this machine that is not loopback, or one that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
            return str(probe.getsockname()[0])
        except OSError:
            return "192.0.2.1"


def _given(listening: Outside, gateway: GatewayProcess, folder: Path, sandboxd: int) -> dict[str, object]:
    port = listening.tcp.getsockname()[1]
    ports = RedirectPorts(1, 2, 3)
    return {
        "tcp": {
            "tcp to an address": ("192.0.2.8", 443),
            "tcp to an address by IPv6": ("2001:db8::8", 443),
            "tcp to another port": ("192.0.2.8", 25),
            "tcp to the host": (_host_address(), port),
            "tcp to a metadata service": ("169.254.169.254", 80),
            "tcp to a name": ("elsewhere.test", 80),
            "tcp to the host's loopback": ("127.0.0.1", port),
            "tcp to the host's loopback by IPv6": ("::1", listening.tcp6.getsockname()[1]),
            "tcp to the gateway": ("127.0.0.1", gateway.tunnel_port),
        },
        "udp": {
            "udp to an address": ("192.0.2.8", 443),
            "udp to an address by IPv6": ("2001:db8::8", 443),
            "udp to the host's loopback": ("127.0.0.1", listening.udp.getsockname()[1]),
        },
        "abstract": listening.abstract.getsockname()[1:].decode(),
        "path": listening.path.getsockname(),
        "netlink": {
            "another interface": (0, interface_up(1, 1).hex()),
            "another route": (0, everything_local(IPV4, 1, 2).hex()),
            # The changes alone: nobody may begin a transaction either.
            "other rules": (12, redirection(ports, 3).hex()),
        },
        "network": f"/proc/{os.getpid()}/ns/net",
        "sandboxd": sandboxd,
        "token": str(folder / "sbx_waiting" / "sandboxd" / "token.json"),
        "folder": str(folder),
        "other": str(folder / "sbx_waiting"),
    }


async def _try(folder: Path, gateway: GatewayProcess, listening: Outside, source: str) -> Tried:
    tokens = TunnelTokens(token=gateway.mint_token("sallyport-tunnel"), renewal_token="none")
    async with local_sandboxes(folder, f"ws://127.0.0.1:{gateway.tunnel_port}") as provider:
        # Another sandbox beside it: its daemon, its token and its files are as far away as one's own.
        waiting = definition("/bin/sleep", "1000", sandbox_id="sbx_waiting")
        await provider.create(waiting)
        await provider.start(waiting, NO_TOKENS)
        given = _given(listening, gateway, folder, await _sandboxd_of(folder / "sbx_waiting"))
        trying = definition(PYTHON, "-c", source, json.dumps(given), sandbox_id=SANDBOX)
        await provider.create(trying)
        await provider.start(trying, tokens)
        state = await ended(provider, SANDBOX)
        lines = await provider.log(SANDBOX, 1000)
        assert state.exit_code == 0, "\n".join(lines)
        found = json.loads(next(line for line in lines if line.startswith("{")))
        beside = await provider.state("sbx_waiting")
        assert beside is not None
        assert beside.pid is not None
        return Tried(found["state"], found["ways"], listening.came(), _deputy_in(beside.pid))


def _deputy_in(cell: int) -> Deputy:
    """Look at the deputy of a sandbox whose cell is this process."""
    (first,) = _children(cell)
    (deputy,) = [
        pid for pid in _children(first) if b"\0sallyport_cli.cell\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    own = Path(f"/proc/{deputy}")
    lines = (line.partition(":\t") for line in (own / "status").read_text().splitlines())
    descriptors = {os.readlink(each) for each in (own / "fd").iterdir()}
    return Deputy({name: value for name, _, value in lines}, descriptors, (own / "environ").read_bytes())


def _children(pid: int) -> list[int]:
    return [each for each in pids() if (stat := stat_of(each)) is not None and stat.parent == pid]


async def _sandboxd_of(folder: Path) -> int:
    """Find the process by its working directory."""
    wanted = str(folder / "sandboxd")
    for pid in pids():
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/cwd") == wanted:
                return pid
    raise AssertionError("no sandboxd runs")


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tried]:
    needs_isolation()
    gateways = tmp_path_factory.mktemp("gateway")
    setting = Setting(
        plan=plan([route("api", ["api.test"], "con_one")], default="deny"), credentials={"con_one": "x" * 16}
    )
    with gateway_process(gateways, setting) as gateway, open_folder() as folder, outside(folder) as listening:
        (folder / "sandboxes").mkdir()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            yield runner.run(_try(folder / "sandboxes", gateway, listening, PROGRAM.read_text()))


@pytest.mark.parametrize("way", sorted(EXPECTED))
@pytest.mark.counted("ways out of a sandbox", "ways out that were open")
def test_a_way_out(tried: Tried, way: str) -> None:
    assert tried.ways[way] in EXPECTED[way]


def test_every_way_was_tried(tried: Tried) -> None:
    assert tried.ways.keys() == EXPECTED.keys()


def test_nobody_came_to_what_listens_outside(tried: Tried) -> None:
    assert tried.came == []


def test_what_a_process_in_a_sandbox_is(tried: Tried) -> None:
    state = tried.state
    assert state["uid"] >= 200_000
    assert state["gids"] == [state["uid"]]
    assert state["capabilities"] == ["0" * 16] * 5
    assert (state["no new privileges"], state["filter"]) == ("1", "2")
    assert state["interfaces"] == ["lo"]
    assert state["processes"] == [1, 2, 3]
    assert state["descriptors"] == [0, 1, 2]
    assert not {"sys", "root", "boot", "mnt"} & set(state["root"]) - {path.parts[1] for path in SHARED}


def test_what_a_deputy_is(tried: Tried) -> None:
    status = tried.deputy.status
    assert all(int(uid) >= 200_000 for uid in status["Uid"].split())
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"], status["Groups"].split()) == ("1", "2", [])
    # Nothing but its loop and its one socket; what it was started with has no token either.
    kinds = {name.partition(":")[0] for name in tried.deputy.descriptors}
    assert kinds <= {"/dev/null", "anon_inode", "socket", "pipe"}
    assert sum(name.startswith("socket:") for name in tried.deputy.descriptors) <= 3
    assert b"TOKEN" not in tried.deputy.environment_of_start
