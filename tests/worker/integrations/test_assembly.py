"""What settings become, and what is told when they cannot be used."""

import hashlib
import json
from pathlib import Path

import pytest

from control_client.admissions import Admission
from sallyport.net.interception import certify_authority, make_authority_key
from sallyport.net.tasks import TaskSet
from tests.support.integration_stage import integration_stage, settings
from worker.config import FrontSettings, load_config
from worker.integrations.assembly import hosts_of, open_front, open_integrations
from worker.integrations.front import Front
from worker.owned_folder import StateTaken

NO_TASKS = TaskSet(lambda name, error: None)


async def test_servers_go_out_through_the_gateway_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(certify_authority("sbx_1", make_authority_key(), 1_700_000_000)[0])
    (tmp_path / "token").write_text("the-proxy-token\n")
    changes = {"PROXY": "http://127.0.0.1:3128", "PROXY_TOKEN_FILE": "token", "PROXY_CA_FILE": "ca.pem"}
    async with integration_stage(tmp_path, **changes) as stage:
        integration = await stage.started()
        answer = await integration.ask("tools/call", {"name": "whoami"}, None)
        seen = json.loads(answer["content"][0]["text"])
        assert seen["HTTPS_PROXY"] == "http://x:the-proxy-token@127.0.0.1:3128"
    assert b"BEGIN CERTIFICATE" in (tmp_path / "state" / ".trust" / "bundle.pem").read_bytes()


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_ca_that_cannot_be_used_is_told(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    given = settings(tmp_path, PROXY="http://127.0.0.1:3128", PROXY_CA_FILE="ca.pem")
    with pytest.raises(StateTaken, match="cannot be used"):
        open_integrations(given, {"SSL_CERT_FILE": "/dev/null"}, NO_TASKS)
    # And the folder is free again.
    open_integrations(settings(tmp_path), {}, NO_TASKS)


async def test_the_fronts_keys_are_read_when_it_begins(tmp_path: Path) -> None:
    async with integration_stage(tmp_path) as stage:
        (tmp_path / "faulty").write_text("faulty\n")
        (tmp_path / "keys").write_text(f"me admin {hashlib.sha256(b'k').hexdigest()}\n")

        def opened(keys_file: str | None) -> Front:
            given = {} if keys_file is None else {"SALLYPORT_WORKER_FRONT_KEYS_FILE": keys_file}
            return open_front(load_config(given, tmp_path), stage.integrations, ask, stage.tasks)

        async def ask(key_hash: str, name: str) -> Admission | None:
            return None

        for keys_file in ("nothing", "faulty"):
            with pytest.raises(StateTaken, match="keys"):
                opened(keys_file)
        for given in (None, "keys"):
            assert repr(opened(given)) == "<Front 0 passages>"


def test_the_front_answers_to_the_name_of_its_own_url() -> None:
    assert hosts_of(FrontSettings()) == frozenset()
    front = FrontSettings(url="https://mcp.example.com:8443", allowed_hosts=("other.example.com",))
    assert hosts_of(front) == {"mcp.example.com", "other.example.com"}
