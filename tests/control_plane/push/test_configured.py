"""The file of subscribers: everything that is wrong is told at once, and no secret."""

from pathlib import Path

import pytest

from control_plane.feed.tiers import Tier
from control_plane.push.configured import ConfiguredSubscriber, read_subscribers, secret_fault
from sallyport.secret import Secret

GOOD = """
subscribers:
  - name: crm
    url: https://crm.test/mcp/webhook/config-changed
    secretFile: crm.secret
  - name: ops
    url: http://127.0.0.1:9000/x
    secretFile: crm.secret
    tier: admin
    instanceId: inst_1
    events: [sandbox_started, shared_tool_stopped]
"""


def written(folder: Path, text: str, secret: bytes = b"canary-91\n") -> Path:
    (folder / "crm.secret").write_bytes(secret)
    (folder / "subscribers.yaml").write_text(text)
    return folder / "subscribers.yaml"


def test_what_a_file_names(tmp_path: Path) -> None:
    secret = Secret(b"canary-91")
    assert read_subscribers(written(tmp_path, GOOD)) == (
        ConfiguredSubscriber(
            name="crm", url="https://crm.test/mcp/webhook/config-changed", secret=secret, tier=Tier.STANDARD
        ),
        ConfiguredSubscriber(
            name="ops",
            url="http://127.0.0.1:9000/x",
            secret=secret,
            tier=Tier.ADMIN,
            instance_id="inst_1",
            events=("sandbox_started", "shared_tool_stopped"),
        ),
    )
    assert "canary" not in repr(read_subscribers(tmp_path / "subscribers.yaml"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("subscribers: 1", "/subscribers"),
        ("subscriber: []", "/subscriber"),
        (GOOD.replace("name: ops", "name: crm"), "/subscribers: crm stands twice"),
        (GOOD.replace("https://crm.test", "http://crm.test"), "/subscribers/0/url: https is expected"),
        (GOOD.replace("tier: admin", "tier: root"), "/subscribers/1/tier"),
        (
            GOOD.replace("[sandbox_started", "[sandbox_begun"),
            "/subscribers/1/events: there is no event 'sandbox_begun'",
        ),
        (GOOD.replace("secretFile: crm.secret\n    tier", "secretFile: none\n    tier"), "/subscribers/1/secretFile"),
        (GOOD + "    secret: canary-91\n", "/subscribers/1/secret"),
        (": [", "is not valid YAML"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"subscribers\.yaml") as caught:
        read_subscribers(written(tmp_path, text))
    assert told in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("secret", [b"", b"\n", b"two words", b"a\nb", b"\xff", b"x" * 5_000])
def test_secrets_that_no_bearer_has(tmp_path: Path, secret: bytes) -> None:
    with pytest.raises(ValueError, match="secretFile"):
        read_subscribers(written(tmp_path, GOOD, secret))


def test_a_secret_that_a_bearer_has() -> None:
    assert secret_fault("whsec_abc+/=") is None
    assert secret_fault("é") is not None
