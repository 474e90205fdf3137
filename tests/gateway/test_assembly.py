"""A gateway put together: what was opened before a fault is closed again."""

import socket
import threading
from pathlib import Path

import pytest

from gateway.app import start_gateway
from gateway.config import load_config
from gateway.running import Gateway
from gateway.starting import StartError
from sallyport_cli.keys import new_private_key, public_pem

pytestmark = pytest.mark.uvloop


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, dict[str, object]]:
    (tmp_path / "tokens.pem").write_bytes(public_pem(new_private_key()))
    return {
        "listen": {"proxy": "127.0.0.1:0", "tunnel": "127.0.0.1:0", "admin": "127.0.0.1:0"},
        "tokens": {"public_key": "tokens.pem"},
        "audit": {"path": "off"},
    }


async def start(settings: dict[str, dict[str, object]], folder: Path, **further: object) -> Gateway:
    return await start_gateway(load_config({**settings, **further}, {}, folder))


@pytest.mark.parametrize("taken", ["proxy", "tunnel", "admin"])
async def test_a_taken_port_leaves_nothing_open(
    settings: dict[str, dict[str, object]], tmp_path: Path, taken: str
) -> None:
    threads = threading.active_count()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        ports = {"proxy": 0, "tunnel": 0, "admin": 0, taken: other.getsockname()[1]}
        listen = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        audit = {"path": str(tmp_path / "audit.jsonl")}
        with pytest.raises(StartError) as caught:
            await start(settings, tmp_path, listen=listen, audit=audit)
        assert str(ports[taken]) in caught.value.message
        assert "port" in caught.value.hint
    assert threading.active_count() == threads
    # What was opened before is closed again: the same settings start once the port is free.
    gateway = await start(settings, tmp_path, listen=listen, audit=audit)
    assert gateway.tunnel is not None
    bound = {"proxy": gateway.proxy.port, "tunnel": gateway.tunnel.port, "admin": gateway.admin_port}
    assert bound[taken] == ports[taken]
    assert repr(gateway) == f"<Gateway proxy 127.0.0.1:{bound['proxy']}, 0 streams>"
    await gateway.close()
    assert threading.active_count() == threads
