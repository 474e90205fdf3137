"""A provider and a session to it, without a database."""

from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network

import pytest

from control_plane.oauth.provider_session import ProviderSession
from sallyport.address_policy import AddressPolicy
from sallyport.net.dial import Dialer
from sallyport.net.resolve import Resolver
from sallyport.net.tls import client_context
from tests.support.authorization_server import AuthorizationServer, authorization_server


@pytest.fixture(scope="module")
def shared_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthorizationServer]:
    """A provider that no test of the module leaves changed."""
    with authorization_server(tmp_path_factory.mktemp("provider")) as server:
        yield server


@pytest.fixture
async def asking(shared_provider: AuthorizationServer) -> AsyncIterator[ProviderSession]:
    """A session that may reach loopback."""
    dialer = Dialer(AddressPolicy(allow=(ip_network("127.0.0.0/8"),)), Resolver(lambda host: ("127.0.0.1",)))
    session = ProviderSession(dialer, client_context(str(shared_provider.ca_file)))
    yield session
    await session.close()
