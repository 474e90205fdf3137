import pytest
from pydantic import TypeAdapter, ValidationError

from sallyport.destination import Destination
from sallyport.plan import fields


@pytest.mark.parametrize("name", ["X-Api-Key", "x", "!#$%&'*+.^_`|~09"])
def test_header_names_are_tokens(name: str) -> None:
    assert TypeAdapter(fields.InjectedHeader).validate_python(name) == name


@pytest.mark.parametrize("name", ["", "X Y", "X:", "X\r\nY", "é", "X\n", "x" * 257])
def test_other_header_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="token"):
        TypeAdapter(fields.HeaderName).validate_python(name)


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Content-Length",
        "transfer-encoding",
        "TE",
        "Trailer",
        "Connection",
        "Keep-Alive",
        "Upgrade",
        "Expect",
        "HTTP2-Settings",
        "Proxy-Authorization",
        "proxy-x",
        "Sallyport-Stream",
    ],
)
def test_framing_and_routing_headers_are_not_injected(name: str) -> None:
    with pytest.raises(ValidationError, match="cannot be injected"):
        TypeAdapter(fields.InjectedHeader).validate_python(name)
    assert TypeAdapter(fields.HeaderName).validate_python(name) == name


@pytest.mark.parametrize("value", ["", "a", "a b\tc", "ÿ", "!~"])
def test_header_values_are_visible_latin_1(value: str) -> None:
    assert TypeAdapter(fields.HeaderValue).validate_python(value) == value


@pytest.mark.parametrize("value", ["a\r\nb", "a\0", " a", "a ", "\ta", "a\n", "Ā", "\x7f"])
def test_other_header_values_are_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="latin-1"):
        TypeAdapter(fields.HeaderValue).validate_python(value)


def test_a_prefix_may_end_in_a_space() -> None:
    prefix = TypeAdapter(fields.HeaderPrefix)
    assert prefix.validate_python("Token ") == "Token "
    for refused in ("", " Token", "Token\n"):
        with pytest.raises(ValidationError, match="prefix"):
            prefix.validate_python(refused)


@pytest.mark.parametrize("prefix", ["/", "/v1", "/v1/x", "/a//b", "/a%2Fb", "/v1;x"])
def test_path_prefixes_are_canonical(prefix: str) -> None:
    assert TypeAdapter(fields.PathPrefix).validate_python(prefix) == prefix


@pytest.mark.parametrize("prefix", ["", "v1", "/v1/", "//", "/%61", "/a%2fb", "/../x", "/v1?x", "/ü", "/a b", "/\\"])
def test_other_path_prefixes_are_refused(prefix: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(fields.PathPrefix).validate_python(prefix)


@pytest.mark.parametrize("value", ["GET", "get", "M-SEARCH", "X!"])
def test_methods_are_tokens(value: str) -> None:
    assert TypeAdapter(fields.Method).validate_python(value) == value


def test_a_placeholder_is_long_enough_not_to_appear_by_accident() -> None:
    placeholder = TypeAdapter(fields.PlaceholderValue)
    assert placeholder.validate_python("x" * fields.MIN_PLACEHOLDER_BYTES)
    for refused in ("x" * (fields.MIN_PLACEHOLDER_BYTES - 1), "x" * 513, "xxxx xxxx", "xxxxxxxé", "xxxxxxxx\n"):
        with pytest.raises(ValidationError):
            placeholder.validate_python(refused)


@pytest.mark.parametrize(
    ("text", "destination"),
    [
        ("https://api.example.com", Destination("https", "api.example.com", 443)),
        ("http://[::1]:8080", Destination("http", "::1", 8080)),
    ],
)
def test_a_base_url_is_a_destination(text: str, destination: Destination) -> None:
    assert fields.read_base_url(text) == destination
    assert TypeAdapter(fields.BaseUrl).validate_python(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "https://a.test/",
        "https://a.test/v1",
        "https://a.test?x",
        "https://a.test?",
        "https://a.test#x",
        "wss://a.test",
        "https://u@a.test",
        "a.test",
        "https://127.1",
        "https://a.test:0",
    ],
)
def test_other_base_urls_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(fields.BaseUrl).validate_python(text)


def test_lists_hold_their_items_to_strictness_and_their_bound() -> None:
    ports: TypeAdapter[tuple[int, ...]] = TypeAdapter(fields.Listed[fields.Port])
    assert ports.validate_python([1, 2], strict=None) == (1, 2)
    with pytest.raises(ValidationError):
        ports.validate_python([1] * (fields.MAX_LISTED + 1))
