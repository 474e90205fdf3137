"""An agent's file gains servers and loses nothing."""

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.compiler.agent_files import AgentFileError, Format, merge_servers, names_in

SERVERS: list[tuple[str, dict[str, object]]] = [
    ("linear", {"url": "https://mcp.linear.app/mcp", "http_headers": {"X-A": "1"}}),
    ("local", {"command": "serve", "args": ["--stdio"]}),
]
TOML = """\
# what the operator wrote
model = "gpt" # keep me

[mcp_servers.foreign] # theirs
command = "theirs"

[profiles.fast]
model = "small"
"""


def test_toml_keeps_its_comments_and_its_foreign_servers() -> None:
    written = merge_servers(TOML, "toml", ["mcp_servers"], SERVERS)
    for line in TOML.splitlines():
        assert line in written
    found = tomllib.loads(written)
    assert list(found["mcp_servers"]) == ["foreign", "linear", "local"]
    assert found["mcp_servers"]["linear"] == dict(SERVERS)["linear"]
    assert found["profiles"] == {"fast": {"model": "small"}}
    assert names_in(written, "toml", ["mcp_servers"]) == ["foreign", "linear", "local"]


def test_json_keeps_the_order_of_its_members() -> None:
    content = '{"z": 1.5, "mcpServers": {"foreign": {"command": "x"}}, "a": "é"}'
    written = merge_servers(content, "json", ["mcpServers"], SERVERS)
    found = json.loads(written)
    assert list(found) == ["z", "mcpServers", "a"]
    assert list(found["mcpServers"]) == ["foreign", "linear", "local"]
    assert "é" in written
    assert written.startswith('{\n  "z": 1.5')


@pytest.mark.parametrize(
    ("content", "format", "path"),
    [
        ("", "toml", ["mcp_servers"]),
        ("", "json", ["mcpServers"]),
        ("{}", "json", ["a", "b"]),
        ("mcp_servers = {}\n", "toml", ["mcp_servers"]),
        ('mcp_servers = { f = {command="x"} }\n', "toml", ["mcp_servers"]),
        ("[mcp_servers]\n", "toml", ["mcp_servers"]),
        ("[a.x]\nb = 1\n[c]\n[a.y]\nd = 1\n", "toml", ["a", "servers"]),
        ("[mcp_servers.a]\nq=1\n[c]\n[mcp_servers.b]\nd=1\n", "toml", ["mcp_servers"]),
        ("[[list]]\na=1\n", "toml", ["mcp_servers"]),
    ],
)
def test_the_place_is_made_where_it_is_not_there(content: str, format: Format, path: list[str]) -> None:
    written = merge_servers(content, format, path, SERVERS)
    found: Any = tomllib.loads(written) if format == "toml" else json.loads(written)
    for step in path:
        found = found[step]
    assert dict(SERVERS).items() <= found.items()
    assert set(names_in(written, format, path)) >= {"linear", "local"}


@pytest.mark.parametrize(
    ("content", "format", "path", "why"),
    [
        ("a = ", "toml", ["m"], "it is not TOML"),
        ("{", "json", ["m"], "it is not JSON"),
        ("[1]", "json", ["m"], "it is not a JSON object"),
        ('{"a": NaN}', "json", ["m"], "it is not JSON"),
        ('{"m": []}', "json", ["m"], "m is no table of servers"),
        ("m = 1", "toml", ["m", "n"], "m.n is no table of servers"),
        ("[" * 100_000, "json", ["m"], "it is not JSON"),
    ],
)
def test_what_cannot_be_read_is_refused(content: str, format: Format, path: list[str], why: str) -> None:
    with pytest.raises(AgentFileError) as refused:
        names_in(content, format, path)
    assert str(refused.value) == why


@pytest.mark.parametrize(
    ("content", "format"),
    [("[a]\nb.c.d = 1\n", "toml"), ("a = {b.c = 1}\n", "toml"), ('{"x": 1e999}', "json")],
)
def test_what_cannot_be_written_rightly_is_not_written(content: str, format: Format) -> None:
    with pytest.raises(AgentFileError):
        merge_servers(content, format, ["a", "b"], SERVERS)


names = st.text(min_size=1, max_size=8)
values = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(names, values, max_size=4), st.dictionaries(names, st.dictionaries(names, values), max_size=3))
def test_json_reads_back_as_what_it_was_and_what_was_added(
    document: dict[str, object], servers: dict[str, dict[str, object]]
) -> None:
    given_names = {name for name in servers if name not in document}
    written = merge_servers(json.dumps(document), "json", [], [(name, servers[name]) for name in sorted(given_names)])
    assert json.loads(written) == document | {name: servers[name] for name in given_names}
