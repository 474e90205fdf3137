from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12

from sallyport_cli import trust
from sallyport_cli.trust import java_trust_store, system_bundle, write_trust
from tests.support.origin import make_authority

CA = make_authority()


@pytest.fixture(autouse=True)
def _no_system_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "SYSTEM_BUNDLES", ())
    monkeypatch.setattr(trust, "default_bundle", lambda: None)
