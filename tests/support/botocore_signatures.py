"""Signatures by botocore's own signer, for requests that a test makes up: it lives in the clients' environment."""

import json
import subprocess
from collections.abc import Sequence

from tests.support.client_world import python

# Reads requests, one JSON object a line; writes an Authorization for each.
_SCRIPT = """
import json, sys
from datetime import datetime, timezone
from botocore import auth, awsrequest, credentials

for line in sys.stdin:
    asked = json.loads(line)
    auth.get_current_datetime = lambda: datetime.fromtimestamp(asked["at"], timezone.utc).replace(tzinfo=None)
    keys = credentials.Credentials(asked["id"], asked["secret"], asked["token"])
    kind = auth.S3SigV4Auth if asked["service"] == "s3" else auth.SigV4Auth
    # Over http the payload's hash is always signed.
    url = "http://" + asked["host"] + asked["target"]
    request = awsrequest.AWSRequest(asked["method"], url, headers=dict(asked["fields"]), data=asked["body"].encode())
    kind(keys, asked["service"], asked["region"]).add_auth(request)
    print(json.dumps(request.headers["Authorization"]))
"""


def botocore_signatures(requests: Sequence[dict[str, object]]) -> list[str]:
    """Return the Authorization of each; skips the test where botocore is not here."""
    given = "".join(json.dumps(request) + "\n" for request in requests)
    ended = subprocess.run(
        [python("botocore"), "-c", _SCRIPT], input=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]
