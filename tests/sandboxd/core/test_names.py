"""Which address stands for which name, and for how long."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.core.names import POOL, NameTable, TableFull, answer_question
from tests.support.dns_questions import AAAA, ANY, HTTPS, TXT, A, answered, question


def table(most_names: int = 100) -> NameTable:
    return NameTable(most_names=most_names, ttl_seconds=60)


def told(names: NameTable, name: str, now: float = 0.0, kind: int = A) -> list[str]:
    """Ask for a name, and return its addresses."""
    reply = answer_question(question(name, kind), names, now)
    assert reply is not None
    answer = answered(reply)
    assert answer.code == 0
    return [str(IPv4Address(address)) for address, _ in answer.addresses]


def code(message: bytes, names: NameTable) -> int:
    reply = answer_question(message, names, 0.0)
    assert reply is not None
    assert answered(reply).addresses == ()
    return answered(reply).code


def test_a_name_has_one_address_however_it_is_written() -> None:
    names = table()
    first = told(names, "api.test")
    assert first == told(names, "API.test") == told(names, "api.test", 1e6)
    assert IPv4Address(first[0]) in POOL
    assert told(names, "other.test") != first
    assert names.use(IPv4Address(first[0])) == "api.test"


def test_the_ttl_is_told() -> None:
    reply = answer_question(question("api.test"), table(), 0.0)
    assert reply is not None
    assert answered(reply).addresses[0][1] == 60


@pytest.mark.parametrize("kind", [AAAA, TXT, HTTPS, 12, 33])
def test_what_else_is_asked_of_a_name_has_an_empty_answer(kind: int) -> None:
    assert code(question("api.test", kind), table()) == 0


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (question("api.test", ANY), 4),
        (question("api.test", flags=0x2800), 4),  # an update
        (question("version.bind", TXT, space=3), 5),
        (question(""), 3),
        (question("b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.test"), 3),
        (question("a b.test"), 3),
        (question("-a.test"), 3),
        (question("127.0.0.1"), 3),
        (question("0x7f.1"), 3),
        (question("a.test")[:-3], 1),
    ],
)
def test_h4_h6_what_names_nothing_gets_no_address(message: bytes, expected: int) -> None:
    names = table()
    assert code(message, names) == expected
    assert repr(names) == "<NameTable 0 names>"


def test_localhost_is_the_sandbox_itself() -> None:
    names = table()
    assert told(names, "localhost") == told(names, "a.localhost") == ["127.0.0.1"]
    reply = answer_question(question("localhost", AAAA), names, 0.0)
    assert reply is not None
    assert answered(reply).addresses[0][0] == bytes(15) + b"\1"


def test_an_address_that_was_never_told_stands_for_nothing() -> None:
    assert table().use(IPv4Address("198.18.0.9")) is None


def test_an_address_is_another_name_s_only_after_its_time_and_its_connections() -> None:
    names = table(2)
    first, second = told(names, "one.test", 0.0), told(names, "two.test", 30.0)
    assert names.use(IPv4Address(first[0])) == "one.test"
    for now in (30.0, 59.0, 61.0):  # not over; over but in use, and the other's is not over
        reply = answer_question(question("three.test"), names, now)
        assert reply is not None
        assert answered(reply).code == 2
    assert told(names, "three.test", 91.0) == second
    assert names.use(IPv4Address(second[0])) == "three.test"
    names.give_back(IPv4Address(first[0]))
    assert told(names, "four.test", 200.0) == first


def test_where_every_address_is_in_use_a_name_gets_none() -> None:
    names = table(1)
    (first,) = told(names, "one.test", 0.0)
    names.use(IPv4Address(first))
    with pytest.raises(TableFull):
        names.address_of("two.test", 1e6)
    assert told(names, "one.test", 1e6) == [first]


def test_a_name_that_is_asked_for_again_stays_longer() -> None:
    names = table(2)
    told(names, "one.test", 0.0)
    second = told(names, "two.test", 1.0)
    told(names, "one.test", 50.0)
    assert told(names, "three.test", 62.0) == second
    with pytest.raises(TableFull):
        names.address_of("four.test", 63.0)


@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["ask", "use", "back"]), st.floats(0, 40)), max_size=60))
def test_no_open_connection_ever_changes_its_name(acts: list[tuple[int, str, float]]) -> None:
    names, now, held = table(4), 0.0, dict[IPv4Address, tuple[str, int]]()
    last: dict[str, tuple[IPv4Address, float]] = {}
    for number, act, later in acts:
        now += later
        name = f"n{number}.test"
        if act == "ask":
            try:
                address = names.address_of(name, now)
            except TableFull:
                continue
            # Nobody else was promised this address for now, and nobody is connected to it by another name.
            others = [key for key, (other, until) in last.items() if other == address and key != name and until > now]
            assert not others
            assert held.get(address, (name, 0))[0] == name
            last[name] = (address, now + 60)
        elif act == "use" and name in last:
            found = names.use(last[name][0])
            assert found is not None
            if last[name][1] > now:
                assert found == name
            held[last[name][0]] = (found, held.get(last[name][0], ("", 0))[1] + 1)
        elif act == "back" and held:
            address, (kept, count) = next(iter(held.items()))
            names.give_back(address)
            if count == 1:
                del held[address]
            else:
                held[address] = (kept, count - 1)
