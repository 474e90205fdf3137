"""What a server is started with: its own variables, its secrets, the way out through the gateway."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from sallyport.net.trust_files import trust_files
from worker.integrations.errors import Category, IntegrationError
from worker.integrations.launch import MARK, Call, Launch, Outbound, Surroundings, prepare
from worker.integrations.manifest import read_manifest

ENVIRON = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "API_TOKEN": "t0ken-value", "EMPTY": "", "OTHER": "x"}


def around(tmp_path: Path, *, proxied: bool = False, programs_dir: Path | None = None) -> Surroundings:
    (tmp_path / "credentials").mkdir(exist_ok=True)
    (tmp_path / "token").write_text("proxy-t0ken\n")
    outbound = Outbound(proxy="http://127.0.0.1:3128", token_file=tmp_path / "token", trust=trust_files(tmp_path))
    return Surroundings(
        environ=ENVIRON,
        credentials_dir=tmp_path / "credentials",
        outbound=outbound if proxied else None,
        programs_dir=programs_dir,
    )


def launch(tmp_path: Path, *, proxied: bool = False, program: str | None = None, **manifest: object) -> Launch:
    document = {"id": "x", "transport": {"type": "stdio", "command": "sh", "args": ["-c", "id"]}} | manifest
    made = prepare(read_manifest(document), tmp_path / "x", program, "mark.x", around(tmp_path, proxied=proxied))
    assert isinstance(made, Launch)
    return made


def refused(tmp_path: Path, **manifest: Any) -> IntegrationError:  # noqa: ANN401  (members of a manifest)
    with pytest.raises(IntegrationError) as caught:
        launch(tmp_path, **manifest)
    return caught.value


def test_nothing_of_the_workers_own_is_passed_on_but_what_programs_need(tmp_path: Path) -> None:
    made = launch(tmp_path, environment={"MODE": "a"})
    assert set(made.env) == {"PATH", "HOME", "LANG", "MODE", MARK}
    assert made.env["PATH"].split(os.pathsep)[0] == str(tmp_path / "x" / "env" / "bin")
    assert (made.args[0].endswith("/sh"), made.args[1:], made.cwd) == (True, ("-c", "id"), tmp_path / "x" / "home")
    assert repr(made) == f"<Launch {made.args[0]}>"


def test_secrets_of_every_kind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from-a-file\n\n")
    around(tmp_path)
    (tmp_path / "credentials" / "db").write_bytes(b"from-a-credential")
    made = launch(
        tmp_path,
        secrets={
            "A": {"env": "API_TOKEN", "prefix": "Bearer "},
            "B": {"file": str(tmp_path / "file")},
            "C": {"credential": "db"},
        },
    )
    assert [made.env[name] for name in "ABC"] == ["Bearer t0ken-value", "from-a-file\n", "from-a-credential"]
    assert set(made.hidden) == {"Bearer t0ken-value", "t0ken-value", "from-a-file\n", "from-a-credential"}


@pytest.mark.parametrize(
    ("reference", "named"),
    [
        ({"env": "NOT_THERE"}, "NOT_THERE"),
        ({"env": "EMPTY"}, "EMPTY"),
        ({"file": "/no/such/file"}, "/no/such/file"),
        ({"credential": "nothing"}, "credentials/nothing"),
        ({"credential": "empty"}, "is empty"),
        ({"credential": "binary"}, "not a text"),
        ({"credential": "latin"}, "is not UTF-8"),
    ],
)
def test_a_missing_one_is_named(tmp_path: Path, reference: dict[str, str], named: str) -> None:
    around(tmp_path)
    for name, content in (("empty", b"\n"), ("binary", b"a\0b"), ("latin", b"\xff\xfe")):
        (tmp_path / "credentials" / name).write_bytes(content)
    error = refused(tmp_path, secrets={"TOKEN": reference})
    assert error.category is Category.INVALID_STATE
    assert named in str(error)
    assert "TOKEN" in str(error)


def test_the_way_out_is_the_gateways_and_no_manifest_can_change_it(tmp_path: Path) -> None:
    made = launch(tmp_path, proxied=True, environment={"HTTPS_PROXY": "http://evil.example:1", "HOME": "/root"})
    assert made.env["HTTPS_PROXY"] == made.env["http_proxy"] == "http://x:proxy-t0ken@127.0.0.1:3128"
    assert made.env["SSL_CERT_FILE"] == str(tmp_path / "bundle.pem")
    assert made.env["NODE_EXTRA_CA_CERTS"] == str(tmp_path / "ca.pem")
    assert made.env["HOME"] == str(tmp_path / "x" / "home")
    assert "proxy-t0ken" in made.hidden


def test_a_server_of_our_own_needs_no_installation(tmp_path: Path) -> None:
    made = launch(tmp_path, package={"registry": "own", "name": "postgresql"}, transport={"type": "stdio"})
    assert made.args == (sys.executable, "-P", "-m", "worker.integrations.servers.postgresql")
    assert (Path(made.env["PYTHONPATH"]) / "worker").is_dir()


def test_a_packages_own_program(tmp_path: Path) -> None:
    package = {"registry": "npm", "name": "x"}
    assert launch(tmp_path, program="/bin/sh", package=package, transport={"type": "stdio"}).args == ("/bin/sh",)
    error = refused(tmp_path, package=package, transport={"type": "stdio"})
    assert (error.category, "no program of its own" in str(error)) == (Category.PROVIDER_ERROR, True)
    assert "there is no program gone" in str(refused(tmp_path, transport={"type": "stdio", "command": "gone"}))


def test_a_url_and_its_headers(tmp_path: Path) -> None:
    url = "https://mcp.example.com/mcp"
    document: dict[str, object] = {
        "id": "x",
        "transport": {"type": "streamable-http", "url": url, "headers": {"X-A": "1"}},
        "secrets": {"Authorization": {"env": "API_TOKEN", "prefix": "Bearer "}},
    }
    made = prepare(read_manifest(document), tmp_path, None, "m", around(tmp_path, proxied=True))
    assert isinstance(made, Call)
    assert made.headers == {"X-A": "1", "Authorization": "Bearer t0ken-value"}
    assert (made.proxy_url, repr(made)) == ("http://x:proxy-t0ken@127.0.0.1:3128", f"<Call {url}>")
    (tmp_path / "two").write_text("a\nX-Evil: b")
    document["secrets"] = {"Authorization": {"file": str(tmp_path / "two")}}
    with pytest.raises(IntegrationError, match="contains a line feed"):
        prepare(read_manifest(document), tmp_path, None, "m", around(tmp_path))
