import pytest

from sallyport.trust_env import NAMES, REMOVED, java_options, variables, with_token

PROXY = "http://x:token@127.0.0.1:3128"


def made(**more: str) -> dict[str, str]:
    return variables(proxy_url=PROXY, ca_file="/trust/ca.pem", bundle_file="/trust/all.pem", **more)  # type: ignore[arg-type]  # str where str | None


def test_every_spelling_of_a_proxy_variable_names_the_proxy() -> None:
    values = made()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        assert values[name] == PROXY


def test_loopback_does_not_go_through_the_proxy() -> None:
    values = made()
    assert values["NO_PROXY"] == values["no_proxy"] == "localhost,127.0.0.1,::1"


@pytest.mark.parametrize(
    "name",
    [
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "PIP_CERT",
        "AWS_CA_BUNDLE",
        "CARGO_HTTP_CAINFO",
        "NIX_SSL_CERT_FILE",
        "NPM_CONFIG_CAFILE",
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
        "BUNDLE_SSL_CA_CERT",
    ],
)
def test_what_replaces_the_roots_gets_the_full_bundle(name: str) -> None:
    assert made()[name] == "/trust/all.pem"


@pytest.mark.parametrize("name", ["NODE_EXTRA_CA_CERTS", "DENO_CERT"])
def test_what_adds_to_the_roots_gets_the_ca_alone(name: str) -> None:
    assert made()[name] == "/trust/ca.pem"


def test_switches() -> None:
    values = made()
    assert values["NODE_USE_ENV_PROXY"] == "1"
    assert values["UV_SYSTEM_CERTS"] == "1"
    assert "NODE_OPTIONS" not in values


def test_without_a_proxy_only_trust_is_named() -> None:
    values = variables(
        proxy_url=None, ca_file="/trust/ca.pem", bundle_file="/trust/all.pem", java_trust_store="/trust/java.p12"
    )
    assert not [name for name in values if "proxy" in name.lower()]
    assert "proxy" not in values["JAVA_TOOL_OPTIONS"].lower()
    assert values["SSL_CERT_FILE"] == "/trust/all.pem"


def test_no_variable_is_both_set_and_removed() -> None:
    assert REMOVED == ("SSL_CERT_DIR",)
    assert not set(REMOVED) & NAMES


def test_names_are_those_that_can_be_set() -> None:
    assert (
        set(made(node_preload="/trust/proxy.cjs", java_trust_store="/trust/java.p12", wgetrc="/trust/wgetrc")) == NAMES
    )


def test_java_gets_host_port_and_trust_store_and_never_the_token() -> None:
    options = made(java_trust_store="/trust/java.p12")["JAVA_TOOL_OPTIONS"].split(" ")
    assert "-Dhttp.proxyHost=127.0.0.1" in options
    assert "-Dhttps.proxyHost=127.0.0.1" in options
    assert "-Dhttps.proxyPort=3128" in options
    assert "-Djavax.net.ssl.trustStore=/trust/java.p12" in options
    assert "token" not in " ".join(options)


def test_java_without_a_trust_store_names_none() -> None:
    assert "trustStore" not in java_options(PROXY, None)


def test_java_reaches_an_ipv6_proxy() -> None:
    assert "-Dhttps.proxyHost=::1 " in java_options("http://[::1]:3128", None)


def test_white_space_in_a_path_is_quoted_for_the_jvm() -> None:
    assert '"-Djavax.net.ssl.trustStore=/my trust/java.p12"' in java_options(PROXY, "/my trust/java.p12")


def test_a_quotation_mark_is_refused_because_no_quoting_carries_it() -> None:
    with pytest.raises(ValueError, match="quotation mark"):
        java_options(PROXY, '/a"b')


def test_options_that_were_there_stay_in_front() -> None:
    values = variables(
        proxy_url=PROXY,
        ca_file="/c",
        bundle_file="/b",
        node_preload="/my trust/proxy.cjs",
        inherited={"JAVA_TOOL_OPTIONS": "-Xmx1g", "NODE_OPTIONS": "--no-warnings", "PATH": "/bin"},
    )
    assert values["JAVA_TOOL_OPTIONS"].startswith("-Xmx1g -Dhttp.proxyHost=")
    assert values["NODE_OPTIONS"] == '--no-warnings "--require=/my trust/proxy.cjs"'
    assert "PATH" not in values


def test_a_proxy_s_url_carries_the_token_as_password() -> None:
    assert with_token("http://gateway.test:3128", "a/b") == "http://x:a%2Fb@gateway.test:3128"


@pytest.mark.parametrize(
    "proxy", ["https://h:1", "http://h", "http://u@h:1", "http://h:1/path", "http://h:1?q", "http://h:1/#f", "h:1"]
)
def test_what_is_no_address_of_a_proxy_gets_no_token(proxy: str) -> None:
    with pytest.raises(ValueError, match="write http://host:port"):
        with_token(proxy, "token")
