"""A control plane that knows the made-up integration, and its provider."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_plane.definitions.registry import Registry
from tests.support.authorization_server import AuthorizationServer
from tests.support.control_plane import Replica, replica, settings
from tests.support.oauth_stage import PUBLIC_URL, acme, offer_target_of


@pytest.fixture
async def connecting(url: str, tmp_path: Path, provider: AuthorizationServer) -> AsyncIterator[Replica]:
    """A running control plane whose target is the provider."""
    config = settings(
        tmp_path / "data",
        url,
        SALLYPORT_API_PUBLIC_URL=PUBLIC_URL,
        SALLYPORT_OUTBOUND_ALLOW="127.0.0.0/8",
        SALLYPORT_OUTBOUND_CA_FILE=str(provider.ca_file),
    )
    async with replica(config, Registry([acme()])) as running:
        await offer_target_of(config, provider.url)
        yield running
