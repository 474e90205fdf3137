"""What a manifest may say, and that every fault is told by its pointer."""

import pytest

from worker.integrations.errors import Category, IntegrationError
from worker.integrations.manifest import read_manifest

STDIO: dict[str, object] = {"type": "stdio", "command": "serve"}
HTTP: dict[str, object] = {"type": "streamable-http", "url": "https://mcp.example.com/mcp"}


def issues(document: dict[str, object]) -> list[str]:
    with pytest.raises(IntegrationError) as caught:
        read_manifest(document)
    assert caught.value.category is Category.VALIDATION_ERROR
    details = caught.value.details
    assert details is not None
    found = details["issues"]
    assert isinstance(found, list)
    return [f"{issue['pointer']}: {issue['message']}" for issue in found]


def test_the_least_of_one() -> None:
    manifest = read_manifest({"id": "x", "transport": STDIO})
    assert (manifest.tier, manifest.package, manifest.secrets) == ("admin", None, {})


def test_every_fault_is_told_at_once() -> None:
    found = issues({"id": "../x", "transport": STDIO, "tier": "root", "extra": 1})
    assert [issue.partition(":")[0] for issue in found] == ["/id", "/tier", "/extra"]


@pytest.mark.parametrize("name", ["LD_PRELOAD", "ld_library_path", "SALLYPORT_INTEGRATION", "DYLD_X"])
def test_what_decides_whose_code_runs_is_not_a_manifests_to_set(name: str) -> None:
    assert "is not a server's to set" in issues({"id": "x", "transport": STDIO, "environment": {name: "v"}})[0]
    assert "is not a server's to set" in issues({"id": "x", "transport": STDIO, "secrets": {name: {"env": "A"}}})[0]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://mcp.example.com/mcp", "cleartext off loopback"),
        ("ftp://mcp.example.com/", "write http"),
        ("https://user:pass@mcp.example.com/", "without a user"),
        ("mcp.example.com", "write http"),
    ],
)
def test_a_url_that_no_secret_goes_to(url: str, message: str) -> None:
    assert message in issues({"id": "x", "transport": HTTP | {"url": url}})[0]


def test_loopback_may_be_cleartext() -> None:
    assert read_manifest({"id": "x", "transport": HTTP | {"url": "http://127.0.0.1:8000/mcp"}})


@pytest.mark.parametrize(
    "package",
    [
        {"registry": "npm", "name": "../../etc"},
        {"registry": "npm", "name": "--script"},
        {"registry": "npm", "name": "https://evil.example/x.tgz"},
        {"registry": "npm", "name": "x", "version": "latest --foo"},
        {"registry": "pypi", "name": "-r/etc/passwd"},
        {"registry": "pypi", "name": "x @ https://evil.example/x.whl"},
        {"registry": "cargo", "name": "x"},
    ],
)
def test_a_package_is_a_name_and_a_version_and_nothing_an_installer_reads_otherwise(package: dict[str, str]) -> None:
    assert issues({"id": "x", "transport": {"type": "stdio"}, "package": package})


def test_what_does_not_go_together() -> None:
    npm = {"registry": "npm", "name": "x"}
    assert "needs a command" in issues({"id": "x", "transport": {"type": "stdio"}})[0]
    assert "no package" in issues({"id": "x", "transport": HTTP, "package": npm})[0]
    assert "no environment" in issues({"id": "x", "transport": HTTP, "environment": {"A": "b"}})[0]


def test_a_secret_written_where_its_place_belongs_is_not_repeated() -> None:
    with pytest.raises(IntegrationError) as caught:
        read_manifest({"id": "x", "transport": STDIO, "secrets": {"TOKEN": "ghp_plain_secret"}})
    assert "ghp_plain_secret" not in str(caught.value.to_document())
