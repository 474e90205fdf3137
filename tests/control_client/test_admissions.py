import pytest

from control_client.admissions import Admission, AdmittedServer, SandboxPlace, read_admission
from control_client.errors import ControlError
from control_client.feed_state import Tier


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (b"{}", None),
        (b'{"keyId": "k", "tier": "admin"}', Admission("k", Tier.ADMIN, None)),
        (
            b'{"keyId": "k", "tier": "standard", "server": {"serverId": "s"}}',
            Admission("k", Tier.STANDARD, AdmittedServer("s", None)),
        ),
        (
            b'{"keyId": "k", "tier": "standard", "server": {"serverId": "s", "sandboxId": "x", "adminUrl": "http://g"}}',
            Admission("k", Tier.STANDARD, AdmittedServer("s", SandboxPlace("x", "http://g"))),
        ),
    ],
)
def test_what_is_said_of_a_call(document: bytes, expected: Admission | None) -> None:
    assert read_admission(document) == expected


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b'{"tier": "admin"}',
        b'{"keyId": "k"}',
        b'{"keyId": "k", "tier": "root"}',
        b'{"keyId": "k", "tier": "admin", "more": 1}',
        b'{"keyId": "k", "tier": "admin", "server": {}}',
        b'{"keyId": "k", "tier": "admin", "server": {"serverId": "s", "sandboxId": "x"}}',
        b'{"keyId": "k", "tier": "admin", "server": {"serverId": "s", "adminUrl": "http://g"}}',
    ],
)
def test_what_cannot_be_read_lets_nobody_in(document: bytes) -> None:
    with pytest.raises(ControlError):
        read_admission(document)
