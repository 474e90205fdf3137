"""What a sandboxd is told to intercept."""

import json

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.managed_set import interception_sets
from gateway.core.route_table import RouteTable
from sallyport.plan.codec import parse_plan, seal
from sandboxd.core.intake import ManagedSetReader
from tests.support.plan_documents import plan_document, route_document, rule_document


def told(*routes: object, rules: tuple[object, ...] = ()) -> dict[str, object]:
    (only,) = interception_sets(RouteTable(parse_plan(seal(plan_document(routes, rules, revision=5)))))
    return only


def test_every_host_of_a_route_and_of_a_rule_that_reads_requests() -> None:
    routes = (
        route_document("a", match={"hosts": ["b.test", "*.a.test"]}),
        route_document("c", match={"hosts": ["c.test"], "ports": [8443, 443]}),
        route_document("d", match={"hosts": ["b.test"], "ports": [8080], "pathPrefixes": ["/x"]}),
    )
    rules = (
        rule_document("reads", "deny", "reads.test", pathPrefixes=["/x"]),
        rule_document("reads-port", "allow", "port.test", methods=["GET"], ports=[444]),
        rule_document("blind", "deny", "blind.test"),
        rule_document("all", "deny", "*", methods=["DELETE"], ports=[80]),
    )
    assert told(*routes, rules=rules) == {
        "type": "interception.set",
        "revision": 5,
        "hosts": [
            {"pattern": "*", "ports": [80]},
            {"pattern": "*.a.test", "ports": [80, 443]},
            {"pattern": "b.test", "ports": [80, 443, 8080]},
            {"pattern": "c.test", "ports": [443, 8443]},
            {"pattern": "port.test", "ports": [444]},
            {"pattern": "reads.test", "ports": [0]},
        ],
    }


def test_nothing_of_a_route_but_where_it_is() -> None:
    text = json.dumps(told(route_document()))
    for word in ("con_one", "bnd_one", "bearer", "api_key", "route"):
        assert word not in text


def test_a_plan_that_manages_nothing() -> None:
    assert told() == {"type": "interception.set", "revision": 5, "hosts": []}


def test_a_large_set_is_told_in_messages_that_fit() -> None:
    hosts = [f"{'x' * 40}-{number}.example.test" for number in range(3_000)]
    routes = [
        route_document(f"r{index}", match={"hosts": hosts[index : index + 100], "ports": [1, 22, 333, 4444, 55555]})
        for index in range(0, len(hosts), 100)
    ]
    messages = interception_sets(RouteTable(parse_plan(seal(plan_document(routes, revision=5)))))
    assert max(len(json.dumps(message, separators=(",", ":"))) for message in messages) <= 64 * 1024
    assert [message.get("more") for message in messages] == [True] * (len(messages) - 1) + [None]
    reader = ManagedSetReader()
    whole = [reader.take(json.loads(json.dumps(message))) for message in messages][-1]
    assert whole is not None
    assert len(whole.hosts) == len(hosts)


HOSTS = ("a.test", "b.a.test", "c.b.a.test", "d.test")
PORTS = (80, 443, 8443)
PATTERNS = (*HOSTS, "*.a.test", "*.b.a.test")


@st.composite
def rules(draw: st.DrawFn) -> dict[str, object]:
    further = {
        "ports": draw(st.none() | st.lists(st.sampled_from(PORTS), min_size=1, unique=True)),
        "methods": draw(st.none() | st.just(["GET"])),
        "pathPrefixes": draw(st.none() | st.just(["/x"])),
    }
    hosts = draw(st.lists(st.sampled_from((*PATTERNS, "*")), min_size=1, unique=True))
    given_ones = {name: value for name, value in further.items() if value is not None}
    return rule_document("-", draw(st.sampled_from(["allow", "deny"])), *hosts, **given_ones)


@given(
    st.lists(st.tuples(st.sampled_from(PATTERNS), st.none() | st.sampled_from(PORTS)), max_size=4, unique=True),
    st.lists(rules(), max_size=3),
)
def test_property_sandboxd_manages_what_the_gateway_manages(
    routes: list[tuple[str, int | None]], drawn: list[dict[str, object]]
) -> None:
    table = RouteTable(
        parse_plan(
            seal(
                plan_document(
                    [
                        route_document(f"r{index}", match={"hosts": [host], **({"ports": [port]} if port else {})})
                        for index, (host, port) in enumerate(routes)
                    ],
                    [{**rule, "ruleId": f"u{index}"} for index, rule in enumerate(drawn)],
                )
            )
        )
    )
    reader = ManagedSetReader()
    managed = [reader.take(json.loads(json.dumps(message))) for message in interception_sets(table)][-1]
    assert managed is not None
    for host in HOSTS:
        for port in PORTS:
            assert managed.covers(host, port) is table.matcher.manages(host, port)
