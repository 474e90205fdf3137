"""The variables that lead a program through the gateway and let it trust the sandbox's certificate authority.

Contracts section 10, last paragraph. Every ecosystem reads its own names; this file is the one list of them.
"""

from collections.abc import Mapping
from urllib.parse import quote, urlsplit

REMOVED = ("SSL_CERT_DIR",)
"""Variables that must not reach the program: it would read this directory beside the bundle we name, or instead."""

NO_PROXY = "localhost,127.0.0.1,::1"
"""What never goes through the gateway. Not `[::1]`: httpx, and so the OpenAI and Anthropic SDKs, fail to start on it
(docs/decisions/0006)."""

_PROXY = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")

_FULL_BUNDLE = (
    "SSL_CERT_FILE",  # OpenSSL, Python's ssl, Go, rustls-native-certs
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
)
"""These replace the roots of the program, so the file they name holds the system's roots as well."""

_CA_ALONE = ("NODE_EXTRA_CA_CERTS", "DENO_CERT")
"""These add to the roots of the program."""

NAMES = frozenset(
    {*_PROXY, *(name.lower() for name in _PROXY), "NO_PROXY", "no_proxy", "NODE_USE_ENV_PROXY", "NODE_OPTIONS"}
    | {*_FULL_BUNDLE, *_CA_ALONE, "JAVA_TOOL_OPTIONS", "UV_SYSTEM_CERTS", "WGETRC"}
)
"""Every name that `variables` may set."""


def variables(
    *,
    proxy_url: str | None,
    ca_file: str,
    bundle_file: str,
    java_trust_store: str | None = None,
    node_preload: str | None = None,
    wgetrc: str | None = None,
    inherited: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the variables to set for a sandbox process, in a stable order.

    `proxy_url` may carry the proxy token as its password; then so does what is returned. Without one the program goes
    out by itself, and what it sends is redirected. `bundle_file` holds the
    system's roots and the CA, `ca_file` the CA alone (both PEM); `java_trust_store` is a PKCS12 file without a
    password; `wgetrc` is a settings file of wget that names the bundle, because a wget built with GnuTLS (Debian's)
    reads its roots from nowhere else. `node_preload` is a script for a Node older than 22.21, which does not know
    NODE_USE_ENV_PROXY.
    `inherited` is the environment these are added to: its JAVA_TOOL_OPTIONS and NODE_OPTIONS are kept in front.
    """
    before = inherited or {}
    values: dict[str, str] = {}
    if proxy_url is not None:
        values.update(dict.fromkeys(_PROXY, proxy_url))
        values["NO_PROXY"] = NO_PROXY
        values.update({name.lower(): value for name, value in values.items()})
        values["NODE_USE_ENV_PROXY"] = "1"
    values.update(dict.fromkeys(_FULL_BUNDLE, bundle_file))
    values.update(dict.fromkeys(_CA_ALONE, ca_file))
    values["UV_SYSTEM_CERTS"] = "1"
    values["JAVA_TOOL_OPTIONS"] = _joined(before.get("JAVA_TOOL_OPTIONS"), java_options(proxy_url, java_trust_store))
    if wgetrc is not None:
        values["WGETRC"] = wgetrc
    if node_preload is not None:
        values["NODE_OPTIONS"] = _joined(before.get("NODE_OPTIONS"), _quoted(f"--require={node_preload}"))
    return values


def with_token(proxy: str, token: str) -> str:
    """Return the URL of a proxy with the token as its password; the user's name means nothing.

    Raises ValueError for what is no address of a proxy.
    """
    parts = urlsplit(proxy)
    usable = parts.scheme == "http" and parts.hostname and parts.port and "@" not in parts.netloc
    if not usable or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("write http://host:port, without user and password")
    return f"http://x:{quote(token, safe='')}@{parts.netloc}"


def java_options(proxy_url: str | None, trust_store: str | None) -> str:
    """Return the options for JAVA_TOOL_OPTIONS: where the proxy is and which trust store to read.

    The token is not among them: a JVM prints this variable to stderr whenever it starts. A Java program that needs
    one reads it from HTTPS_PROXY. The last option lets it answer the 407 of a CONNECT by Basic, which a JVM refuses
    by default. Raises ValueError for a path with a quotation mark, which no quoting carries through.
    """
    options = [] if proxy_url is None else _java_proxy(proxy_url)
    if trust_store is not None:
        options.append(f"-Djavax.net.ssl.trustStore={trust_store}")
        options.append("-Djavax.net.ssl.trustStoreType=PKCS12")
    return " ".join(_quoted(option) for option in options)


def _java_proxy(proxy_url: str) -> list[str]:
    parts = urlsplit(proxy_url)
    host, port = parts.hostname or "", parts.port or 80
    options = [
        f"-D{scheme}.proxy{name}={value}"
        for scheme in ("http", "https")
        for name, value in (("Host", host), ("Port", port))
    ]
    return [*options, "-Dhttp.nonProxyHosts=localhost|127.*|[::1]", "-Djdk.http.auth.tunneling.disabledSchemes="]


def _joined(before: str | None, ours: str) -> str:
    return f"{before} {ours}" if before else ours


def _quoted(word: str) -> str:
    """Quote a word as the JVM and Node both read it: white space ends a word unless it stands in double quotes."""
    if '"' in word:
        raise ValueError(f"a quotation mark cannot stand in an option: {word}")
    return f'"{word}"' if any(character.isspace() for character in word) else word
