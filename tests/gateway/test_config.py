"""The gateway's settings: defaults, both ways to write them, bounds, and a documentation that says the same."""

import dataclasses
import operator
import os
import re
from ipaddress import ip_network
from pathlib import Path

import pytest

from gateway.config import GatewayConfig, describe_settings, load_config, process_environment, read_config
from gateway.setting_kinds import EnvironmentPlace, FilePlace
from sallyport.host import parse_host_pattern
from sallyport.net.setting_kinds import HostPort
from sallyport.settings import ConfigError, NamedSetting, Shape
from tests.support.setting_rows import documented, row

BASE = Path("/etc/sallyport")
MINIMAL = {"tokens": {"public_key": "token.pub"}}

WHOLE = """
listen: {proxy: "0.0.0.0:3128", admin: "[::1]:9901"}
plans: [plans/one.json, /srv/two.json]
credentials:
  con_1: {env: OPENAI_API_KEY}
  con_2/api_key: {file: secrets/github}
  con_2/api_key/deploy: {file: /run/secrets/deploy}
tokens: {jwks: keys.json, issuer: elsewhere}
interception: {ca_dir: ca, passthrough_hosts: ["*.pinned.example.com"]}
upstream:
  ca_file: roots.pem
  connect_to: {"api.example.com:443": "127.0.0.1:8443"}
  proxy: http://proxy.example.com:3128
network: {allow: [10.0.0.0/8, "fd00::/8"]}
scrub: {enabled: false}
audit: {path: off}
log: {level: debug, format: console}
timeouts: {connect: 2s, drain: 0s}
limits: {head_bytes: 16KiB, open_streams: 5000}
"""


def issues(document: dict[str, object], environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load_config(document, environ or {}, BASE)
    return [str(issue) for issue in refused.value.issues]


def test_the_whole_of_standalone_mode(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(WHOLE)
    config = read_config(path, {"SALLYPORT_TIMEOUTS_CONNECT": "3s"})
    assert config.listen.proxy == ("0.0.0.0", 3128)
    assert config.listen.admin == ("::1", 9901)
    assert config.plans == (tmp_path / "plans/one.json", Path("/srv/two.json"))
    assert config.credentials == {
        ("con_1",): EnvironmentPlace(variable="OPENAI_API_KEY"),
        ("con_2", "api_key"): FilePlace(path=tmp_path / "secrets/github"),
        ("con_2", "api_key", "deploy"): FilePlace(path=Path("/run/secrets/deploy")),
    }
    assert (config.tokens.jwks, config.tokens.issuer) == (tmp_path / "keys.json", "elsewhere")
    assert config.interception.ca_dir == tmp_path / "ca"
    assert config.interception.passthrough_hosts == (parse_host_pattern("*.pinned.example.com"),)
    assert config.upstream.ca_file == tmp_path / "roots.pem"
    assert config.upstream.connect_to == {HostPort("api.example.com", 443): HostPort("127.0.0.1", 8443)}
    assert config.upstream.proxy == ("proxy.example.com", 3128)
    assert config.network.allow == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert (config.scrub.enabled, config.audit.path) == (False, "off")
    assert (config.log.level, config.log.format) == ("debug", "console")
    assert (config.timeouts.connect, config.timeouts.drain, config.timeouts.head) == (3.0, 0.0, 10.0)
    assert (config.limits.head_bytes, config.limits.open_streams) == (16384, 5000)


def test_a_configuration_cannot_be_changed() -> None:
    config = load_config(MINIMAL, {}, BASE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.timeouts.head = 1.0  # type: ignore[misc]  # what is tested
    with pytest.raises(TypeError):
        config.credentials["con_1",] = EnvironmentPlace(variable="A")  # type: ignore[index]  # what is tested


def test_keys_are_needed_one_way() -> None:
    told = ["/tokens: write either public_key or jwks, a file; `sallyport token keygen` makes a pair of keys"]
    assert issues({}) == told
    assert issues({"tokens": {"public_key": "a", "jwks": "b"}}) == told
    assert issues({"tokens": {"public_key": 3}}) == ["/tokens/public_key: write a non-empty text"]
    assert load_config({}, {"SALLYPORT_TOKENS_JWKS": "/k"}, BASE).tokens.jwks == Path("/k")


@pytest.mark.parametrize("admin", ["0.0.0.0:9900", "10.1.2.3:9900", "[::]:9900", "gateway.example.com:9900"])
def test_admin_leaves_loopback_only_by_tls(admin: str) -> None:
    abroad: dict[str, object] = {**MINIMAL, "listen": {"admin": admin}}
    assert issues(abroad) == [
        "/listen/admin: it can change plans, so off loopback it needs admin.tls; or write 127.0.0.1:9900"
    ]
    both = {"certificate_file": "admin.pem", "key_file": "admin.key"}
    config = load_config({**abroad, "admin": {"tls": both}}, {}, BASE)
    assert (config.admin.tls.is_given, config.admin.tls.key_file) == (True, BASE / "admin.key")
    for name in both:
        half: dict[str, object] = {**abroad, "admin": {"tls": {name: "x"}}}
        assert issues(half) == ["/admin/tls: write both certificate_file and key_file, or neither"]
    control: dict[str, object] = {"url": "https://control.test", "token_file": "t", "gateway_id": "gw_1"}
    controlled: dict[str, object] = {"listen": {"admin": admin}, "admin": {"tls": both}, "control": control}
    assert issues(controlled) == [
        "/control/admin_url: is missing; write the https:// name that the certificate of admin.tls has"
    ]
    control["admin_url"] = "https://gateway.test:9900"
    assert load_config(controlled, {}, BASE).control.admin_url == "https://gateway.test:9900"


def test_tunnels_leave_loopback_only_by_tls() -> None:
    abroad: dict[str, object] = {**MINIMAL, "listen": {"tunnel": "0.0.0.0:8443"}}
    assert issues(abroad) == [
        "/listen/tunnel: off loopback tunnels need TLS; write tunnel.tls, or 127.0.0.1:8443, or off"
    ]
    both = {"tls": {"certificate_file": "tunnel.pem", "key_file": "tunnel.key"}}
    config = load_config({**abroad, "tunnel": both}, {}, BASE)
    assert (config.listen.tunnel, config.tunnel.tls.key_file) == (HostPort("0.0.0.0", 8443), BASE / "tunnel.key")
    for name in both["tls"]:
        half: dict[str, object] = {**MINIMAL, "tunnel": {"tls": {name: "x"}}}
        assert issues(half) == ["/tunnel/tls: write both certificate_file and key_file, or neither"]
    assert load_config({**MINIMAL, "listen": {"tunnel": "off"}}, {}, BASE).listen.tunnel is None
    assert issues({**MINIMAL, "listen": {"tunnel": "127.0.0.1:3128"}}) == [
        "/listen/tunnel: is the same as /listen/proxy; give one of them another port"
    ]


def test_settings_that_contradict_each_other() -> None:
    document = {
        **MINIMAL,
        "listen": {"proxy": "127.0.0.1:9900"},
        "limits": {"links_per_key": 8, "open_streams": 100, "sandbox_burst": 5, "lookups": 2, "credential_fetches": 2},
    }
    assert issues(document) == [
        "/listen/admin: is the same as /listen/proxy; give one of them another port",
        "/limits/idle_links_per_key: is more than links_per_key; lower it",
        "/limits/credential_fetches_per_sandbox: is more than credential_fetches; lower it",
        "/limits/lookups_per_sandbox: is more than lookups; lower it",
        "/limits/sandbox_burst: means nothing without sandbox_requests_per_minute; write that too",
        "/limits/streams_per_sandbox: is more than open_streams; lower it",
    ]


def test_every_fault_is_told_at_once() -> None:
    document: dict[str, object] = {
        "listen": {"proxi": "x", "admin": "0.0.0.0:1"},
        "credentials": {"con_1": "canary"},
        "timeouts": {"connect": 10},
    }
    told = issues(document, {"SALLYPORT_LIMITS_HEAD": "1", "SALLYPORT_TOKEN_FILE": "sandboxd's, not ours"})
    assert [line.partition(":")[0] for line in told] == [
        "/listen/proxi",
        "/credentials/con_1",
        "/timeouts/connect",
        "SALLYPORT_LIMITS_HEAD",
        "/tokens",
        "/listen/admin",
    ]
    assert "did you mean 'proxy'?" in told[0]
    assert "did you mean 'SALLYPORT_LIMITS_HEAD_BYTES'?" in told[3]
    assert "canary" not in "".join(told)


# A value for each setting that has no default and is no path.
WRITTEN = {
    "upstream.proxy": "http://proxy.example.com:1",
    "control.url": "https://control.example.com:7500",
    "control.gateway_id": "gw_1",
    "control.admin_url": "https://gateway.example.com:9900",
}
CONTROLLED_BY_VARIABLES = {
    "SALLYPORT_CONTROL_URL": "http://127.0.0.1:7500",
    "SALLYPORT_CONTROL_TOKEN_FILE": "token",
    "SALLYPORT_CONTROL_GATEWAY_ID": "gw_1",
}


@pytest.mark.parametrize(
    "named", [n for n in describe_settings() if n.setting.shape is Shape.ONE], ids=lambda n: n.name
)
def test_each_setting_takes_its_default_from_the_environment(named: NamedSetting) -> None:
    text = named.setting.default or WRITTEN.get(named.name, "x.pem")
    environ = {"SALLYPORT_TOKENS_PUBLIC_KEY": "k", named.variable: text}
    if named.name.startswith("control."):
        environ = {**CONTROLLED_BY_VARIABLES, named.variable: text}
    if named.name == "tokens.jwks":
        del environ["SALLYPORT_TOKENS_PUBLIC_KEY"]
    if named.name.startswith(("tunnel.tls.", "admin.tls.")):
        start = named.variable.partition("_TLS_")[0]
        environ = {f"{start}_TLS_CERTIFICATE_FILE": "x.pem", f"{start}_TLS_KEY_FILE": "x.pem"} | environ
    config = load_config({}, environ, BASE)
    assert operator.attrgetter(named.name)(config) == named.setting.kind.parse(text, BASE)


def test_numbers_have_bounds_on_both_sides() -> None:
    for named in describe_settings():
        if named.name.startswith(("timeouts.", "limits.")):
            low, _, high = named.setting.kind.bounds.partition(",")[0].partition(" to ")
            named.setting.kind.parse(low, BASE)
            named.setting.kind.parse(high, BASE)
            too_much = re.sub(r"^\d+", lambda digits: str(int(digits[0]) + 1), high)
            with pytest.raises(ValueError, match="out of bounds"):
                named.setting.kind.parse(too_much, BASE)


def test_the_documentation_has_a_row_for_each_setting_and_no_other() -> None:
    assert documented("the gateway") == [row(named) for named in describe_settings()]


def test_every_setting_says_what_it_means_and_why() -> None:
    for named in describe_settings():
        assert named.setting.meaning.endswith("."), named.name
        assert named.setting.reason.endswith("."), named.name


CONTROL = {"url": "https://control.example.com", "token_file": "token", "gateway_id": "gw_1"}


def test_a_gateway_under_a_control_plane() -> None:
    control = load_config({"control": CONTROL}, {}, BASE).control
    assert (control.url, control.gateway_id) == ("https://control.example.com:443", "gw_1")
    assert (control.token_file, control.state_dir) == (BASE / "token", BASE / "gateway-state")
    assert control.max_stale == 3600


def test_what_a_control_plane_provides_is_not_given_twice() -> None:
    told = issues(
        {
            "control": CONTROL,
            "plans": ["plan.json"],
            "credentials": {"con_1": {"env": "NAME"}},
            "tokens": {"public_key": "k", "jwks": "j"},
        }
    )
    pointers = [issue.partition(": ")[0] for issue in told]
    assert pointers == ["/plans", "/credentials", "/tokens/public_key", "/tokens/jwks"]


def test_half_a_control_plane_is_refused() -> None:
    told = issues({"control": {"url": "https://control.example.com"}})
    assert [issue.partition(": ")[0] for issue in told] == ["/control/token_file", "/control/gateway_id"]
    assert issues({"control": {"token_file": "token"}})[0].startswith("/control/url: is missing")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://control.example.com", "cleartext off loopback"),
        ("https://user:canary@control.example.com", "user and password"),
        ("https://control.example.com/base", "not a base URL"),
        ("control.example.com", "not a base URL"),
        ("https://", "not a base URL"),
        ("ftp://control.example.com", "not a base URL"),
    ],
)
def test_where_a_control_plane_cannot_be(url: str, reason: str) -> None:
    told = "\n".join(issues({"control": CONTROL | {"url": url}}))
    assert told.startswith("/control/url: ")
    assert reason in told
    assert "canary" not in told


def test_defaults_hold_without_a_document() -> None:
    assert load_config({}, {"SALLYPORT_TOKENS_JWKS": "k"}, Path()).timeouts == GatewayConfig().timeouts


def test_the_environment_of_the_process_is_handed_out_here() -> None:
    assert process_environment() is os.environ
