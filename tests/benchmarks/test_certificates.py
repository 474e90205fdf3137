"""What subjects show their clients is taken by a client that trusts the run's authority, for the host alone."""

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.certificates import make_certificates
from sallyport.net.interception import parse_authority

HOST = "api.bench.test"


async def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    listening = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=server)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
        writer.close()


async def test_the_leaf_is_good_for_the_host_alone(tmp_path: Path) -> None:
    made = make_certificates(tmp_path, HOST, datetime.now(UTC).timestamp())
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(made.pair)
    client = ssl.create_default_context(cafile=made.ca)
    await _handshake(server, client, HOST)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        await _handshake(server, client, "other.bench.test")


def test_who_intercepts_gets_an_authority_and_who_serves_a_pair(tmp_path: Path) -> None:
    made = make_certificates(tmp_path, HOST, 1_800_000_000.0)
    parse_authority(made.ca.read_bytes(), made.ca_key.read_bytes(), "bench")
    assert made.leaf_key.stat().st_mode & 0o077 == 0, "the gateway refuses a key that others may read"
    assert made.pair.read_bytes() == made.leaf.read_bytes() + made.leaf_key.read_bytes()
