"""boto3 with placeholder keys, through a gateway that signs for it: by the explicit listener and through a tunnel.

The services check every signature by a reading of their own (tests/support/aws_signature.py). A 200 proves that what
was signed is what arrived; neither the client's environment nor what it said and wrote holds a secret.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings

from control_plane.definitions.aws import default as aws
from demo.leaks import leaks
from demo.ledger import Presence
from demo.origins import Origins, random_credentials, serve_origins
from demo.tap import tapping
from tests.support.aws_origins import (
    REGION,
    S3_HOST,
    STS_HOST,
    TABLE_HOST,
    store_of_aws,
    sts_of_aws,
    table_of_aws,
)
from tests.support.aws_requests import AT, KEY, KEY_ID, REQUESTS, signed_by_us
from tests.support.aws_requests import REGION as EXAMPLE_REGION
from tests.support.aws_signature import Account
from tests.support.background import in_background
from tests.support.botocore_signatures import botocore_signatures
from tests.support.busy_run import read_memory
from tests.support.client_world import World, python
from tests.support.compiled_bindings import compiled
from tests.support.gateway_plans import plan
from tests.support.gateway_process import GatewayProcess, Setting, gateway_process
from tests.support.sandboxd_process import sandboxd_process

pytestmark = pytest.mark.clients

ACCOUNT = Account(
    access_key_id="ASIACANARY00000000AA",
    secret_access_key="aws-canary/secret+4471",
    session_token="aws-canary/token+==5582",
)
SECRETS = (ACCOUNT.secret_access_key, ACCOUNT.session_token)
SESSION = {
    "kind": "aws_session",
    "accessKeyId": ACCOUNT.access_key_id,
    "secretAccessKey": ACCOUNT.secret_access_key,
    "sessionToken": ACCOUNT.session_token,
}
# What a binding comes to, and what a user of the sandbox has.
ROUTES, VARIABLES = compiled(aws.DEFINITION, "aws", {"services": ["s3", "sts", "dynamodb"], "regions": [REGION]})
KEYS = VARIABLES | {"AWS_SESSION_TOKEN": "theirs"}
ODD_KEYS = [
    "plain",
    "a key/with  two spaces",
    "plus+percent%25",
    "clé/日本",
    "a//b/",
    "all!'()*;:@&=,$~-_.txt",
    "q?a=b#c",
]

CLIENT = """
import boto3
from botocore.config import Config

def client(name, **config):
    return boto3.client(name, config=Config(retries={"total_max_attempts": 1}, **config))

path = {"addressing_style": "path"}
"""


@contextmanager
def explicitly(gateway: GatewayProcess) -> Iterator[Callable[[Path], dict[str, str]]]:
    """Programs reach the gateway's explicit listener."""
    yield gateway.client_environment


@contextmanager
def by_tunnel(gateway: GatewayProcess) -> Iterator[Callable[[Path], dict[str, str]]]:
    """Programs reach a sandboxd, which has a tunnel; what crosses it and what sandboxd knows is searched."""
    tokens = {"token": gateway.mint_token("sallyport-tunnel")}
    with (
        in_background(tapping("127.0.0.1", gateway.tunnel_port)) as tap,
        sandboxd_process(gateway.folder / "sandboxd", f"ws://127.0.0.1:{tap.port}", tokens) as sandboxd,
    ):
        yield sandboxd.client_environment
        crossed = tap.everything()
        assert KEYS["AWS_ACCESS_KEY_ID"].encode() in crossed, "the search of the tunnel does not work"
        with contextlib.suppress(PermissionError):  # nobody but root may read it
            crossed += read_memory(sandboxd.process.pid)
        assert leaks(crossed + sandboxd.log, SECRETS) == []


@pytest.fixture(scope="module")
def origins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origins]:
    services = {
        S3_HOST: lambda ledger: store_of_aws(ledger, ACCOUNT),
        STS_HOST: lambda ledger: sts_of_aws(ledger, ACCOUNT),
        TABLE_HOST: lambda ledger: table_of_aws(ledger, ACCOUNT),
    }
    folder = tmp_path_factory.mktemp("services")
    with in_background(serve_origins(folder, random_credentials(), os.environ["PATH"], services)) as origins:
        yield origins


@pytest.fixture(scope="module", params=[explicitly, by_tunnel], ids=["explicit", "tunnel"])
def world(
    request: pytest.FixtureRequest, origins: Origins, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("aws")
    setting = Setting(
        plan=plan(ROUTES),
        credentials={"con_aws": json.dumps(SESSION)},
        connect_to=origins.connect_to(),
        ca_file=origins.files.ca_file,
    )
    with gateway_process(folder / "gateway", setting) as gateway, request.param(gateway) as environment:
        yield World(origins=origins, environment=environment, secrets=SECRETS, folder=folder / "homes")
        assert leaks(gateway.log + gateway.audit_bytes, SECRETS) == []


def test_c1_boto3_with_placeholder_keys_is_signed_for(world: World) -> None:
    """Every way in which boto3 speaks of a body: a checksum behind it, nothing, its hash; and by leaving it out."""
    script = f"""
stores = [
    client("s3", s3=path),
    client("s3", s3=path, request_checksum_calculation="when_required"),
    client("s3", s3=path | {{"payload_signing_enabled": True}}, request_checksum_calculation="when_required"),
]
for number, store in enumerate(stores):
    for key in {ODD_KEYS!r}:
        body = f"{{number}} {{key}}".encode()
        store.put_object(Bucket="bucket", Key=key, Body=body, Metadata={{"a": "b  c"}}, ContentType="text/plain")
        assert store.get_object(Bucket="bucket", Key=key)["Body"].read() == body, key
print(client("sts").get_caller_identity()["UserId"])
table = client("dynamodb")
table.put_item(TableName="t", Item={{"id": {{"S": "é" * 10000}}}})
print(len(table.get_item(TableName="t", Key={{"id": {{"S": "x"}}}})["Item"]["id"]["S"]))
"""
    done = world.run("boto3 signed", python("boto3"), "-c", CLIENT + script, also=KEYS)
    assert done.output.split() == [ACCOUNT.access_key_id, "10000"]
    hosts = [entry.host for entry in done.received]
    assert hosts == [S3_HOST] * (2 * 3 * len(ODD_KEYS)) + [STS_HOST] + [TABLE_HOST] * 2
    assert {entry.presence for entry in done.received} == {Presence.EXACT}
    assert {entry.path for entry in done.received if entry.host == S3_HOST} == {f"/bucket/{key}" for key in ODD_KEYS}


def test_c7_boto3_uploads_in_parts(world: World) -> None:
    script = """
import io, os
store = client("s3", s3=path)
body = os.urandom(12 * 1024 * 1024)
by_two = boto3.s3.transfer.TransferConfig(max_concurrency=2)
store.upload_fileobj(io.BytesIO(body), "bucket", "large key", Config=by_two)
print(store.get_object(Bucket="bucket", Key="large key")["Body"].read() == body)
"""
    done = world.run("boto3 parts", python("boto3"), "-c", CLIENT + script, also=KEYS)
    assert done.output.strip() == "True"
    done.assert_injected(S3_HOST, at_least=5)


def test_c1_a_presigned_url_of_boto3_is_signed_anew(world: World) -> None:
    script = """
import urllib.request
store = client("s3", s3=path, signature_version="s3v4")
store.put_object(Bucket="bucket", Key="a b", Body=b"text")
url = store.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "a b"})
assert "X-Amz-Signature=" in url
print(urllib.request.urlopen(url).read().decode())
"""
    done = world.run("boto3 presigned", python("boto3"), "-c", CLIENT + script, also=KEYS)
    assert done.output.strip() == "text"
    done.assert_injected(S3_HOST, at_least=2)


def test_botocore_signs_alike() -> None:
    """All at once, because each start of its interpreter costs half a second."""
    requests: list[dict[str, object]] = []

    @settings(max_examples=300, database=None)
    @given(REQUESTS)
    def collect(request: dict[str, object]) -> None:
        # botocore takes an object's path as its own clients spell it, and is right about no other spelling.
        if request["service"] != "s3" or not set("!'()*,:@=$;") & set(str(request["target"]).partition("?")[0]):
            requests.append(request)

    collect()
    common = {"at": AT, "id": KEY_ID, "secret": KEY, "region": EXAMPLE_REGION, "host": "h.test"}
    theirs = botocore_signatures([request | common for request in requests])
    assert len(theirs) == len(requests) >= 150
    for request, expected in zip(requests, theirs, strict=True):
        ours = signed_by_us(request).decode("latin-1").rpartition("Authorization: ")[2]
        assert ours == f"{expected}\r\n\r\n", json.dumps(request)
