"""Open streams by sandbox: what drain, revocation and limits look into."""

import pytest

from gateway.open_streams import OpenStream, StreamIndex
from sallyport.claims import Claims


class Stream(OpenStream):
    def __init__(self, claims: Claims | None = None) -> None:
        self.claims = claims


class Aborted(Stream):
    is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True


def claims_of(sandbox_id: str) -> Claims:
    return Claims(
        issuer="i",
        audience="a",
        sandbox_id=sandbox_id,
        organization_id="org_one",
        lineage="l",
        issued_at=0,
        not_before=0,
        expires_at=1,
        token_id="t",
    )


MANY = 100
ONE, TWO = claims_of("sbx_one"), claims_of("sbx_two")


def add(index: StreamIndex, claims: Claims | None) -> Stream:
    return add_as(index, Stream(claims))


def add_as[S: OpenStream](index: StreamIndex, stream: S) -> S:
    index.add(stream)
    if stream.claims is not None:
        index.claim(stream, None, stream.claims)
    return stream


def test_a_stream_is_nobody_s_until_it_is_claimed() -> None:
    index = StreamIndex(MANY)
    stream = add(index, None)
    assert (index.open, list(index.all()), list(index.of_sandbox("sbx_one"))) == (1, [stream], [])
    assert index.claim(stream, None, ONE) == 1
    stream.claims = ONE
    assert (index.open, list(index.all()), list(index.of_sandbox("sbx_one"))) == (1, [stream], [stream])


def test_t1_streams_of_one_sandbox_are_not_another_s() -> None:
    index = StreamIndex(MANY)
    mine = {add(index, ONE), add(index, ONE)}
    theirs = add(index, TWO)
    assert set(index.of_sandbox("sbx_one")) == mine
    assert list(index.of_sandbox("sbx_two")) == [theirs]
    assert list(index.of_sandbox("sbx_three")) == []
    assert set(index.all()) == {*mine, theirs}
    assert index.open == 3


def test_a_claim_counts_the_sandbox_s_streams_and_moves_between_them() -> None:
    index = StreamIndex(MANY)
    first, second = add(index, ONE), Stream()
    index.add(second)
    assert index.claim(second, None, ONE) == 2
    assert index.claim(second, ONE, ONE) == 2
    assert index.claim(second, ONE, TWO) == 1
    assert list(index.of_sandbox("sbx_one")) == [first]
    assert list(index.all()).count(second) == 1


def test_a_sandbox_s_tunnels_are_not_counted_among_its_streams() -> None:
    class Tunnel(Stream):
        is_of_sandbox = False

    index = StreamIndex(MANY)
    tunnels = [Tunnel(ONE), Tunnel(ONE)]
    for tunnel in tunnels:
        index.add(tunnel)
        assert index.claim(tunnel, None, ONE) == 0
    stream = Stream(ONE)
    index.add(stream)
    assert (index.claim(stream, None, ONE), index.claim(stream, ONE, ONE), index.open) == (1, 1, 3)
    index.remove(tunnels[0])
    index.remove(tunnels[0])
    assert index.claim(stream, ONE, ONE) == 1
    for left in (tunnels[1], stream):
        index.remove(left)
    assert (index._by_sandbox, index._apart) == ({}, {})


def test_what_has_ended_is_forgotten() -> None:
    index = StreamIndex(MANY)
    streams = [add(index, claims) for claims in (None, ONE, ONE, TWO)]
    for stream in streams:
        index.remove(stream)
    assert (index.open, list(index.all()), index._by_sandbox) == (0, [], {})


def test_s10_one_anonymous_stream_too_many_ends_the_one_that_is_so_for_longest() -> None:
    index = StreamIndex(max_anonymous=2)
    streams = [Aborted() for _ in range(5)]
    mine = add(index, ONE)
    for stream in streams[:3]:
        index.add_anonymous(stream)
    assert [stream.is_aborted for stream in streams] == [True, False, False, False, False]
    index.claim(streams[1], None, ONE)  # it has shown a token, and is no longer looked at
    streams[1].claims = ONE
    for stream in streams[3:]:
        index.add_anonymous(stream)
    assert [stream.is_aborted for stream in streams] == [True, False, True, False, False]
    # Those that were ended are open until their transports say so, and nobody's place is taken by them.
    assert (index.open, index.admitted, index.dropped, len(list(index.all()))) == (6, 2, 2, 4)
    index.remove(streams[0])
    index.remove(streams[2])
    assert (index.open, index.admitted) == (4, 2)
    for left in (mine, streams[1], streams[3], streams[4]):
        index.remove(left)
    assert (index.open, index.admitted, list(index.all())) == (0, 0, [])


def test_s10_a_stream_too_many_takes_no_place_and_makes_room_as_an_anonymous_one() -> None:
    index = StreamIndex(max_anonymous=2)
    mine = add(index, ONE)
    refused = [Aborted(ONE) for _ in range(3)]
    for stream in refused:
        index.add(stream)
        assert index.claim(stream, None, ONE) == 2
        index.disown(stream, ONE)
        assert (index.admitted, list(index.of_sandbox("sbx_one"))) == (1, [mine])
    assert ([stream.is_aborted for stream in refused], index.dropped) == ([True, False, False], 1)
    assert (index.open, set(index.all())) == (4, {mine, *refused[1:]})
    for left in (*refused, mine):
        index.remove(left)
    assert (index.open, index.admitted, list(index.all()), index._by_sandbox) == (0, 0, [], {})


def test_s10_a_tunnel_that_was_replaced_takes_no_place_and_is_still_none_of_its_sandbox_s_streams() -> None:
    class Tunnel(Stream):
        is_of_sandbox = False

    index = StreamIndex(MANY)
    replaced, newer = add_as(index, Tunnel(ONE)), add_as(index, Tunnel(ONE))
    mine = add(index, ONE)
    index.disown(replaced, ONE)
    index.disown(replaced, ONE)
    assert (index.open, index.admitted, index.of_sandboxes) == (3, 2, 1)
    assert list(index.of_sandbox("sbx_one")) == [newer, mine]
    assert set(index.all()) == {replaced, newer, mine}
    index.remove(replaced)
    assert (index.open, index.admitted, index.of_sandboxes) == (2, 2, 1)
    for left in (newer, mine):
        index.remove(left)
    assert (index.open, index.admitted, index.of_sandboxes, index._by_sandbox, index._apart) == (0, 0, 0, {}, {})


def test_s10_streams_that_are_claimed_at_once_end_no_anonymous_one() -> None:
    index = StreamIndex(max_anonymous=1)
    anonymous = Stream()
    index.add_anonymous(anonymous)
    add(index, ONE)
    assert (index.dropped, index.admitted, set(index.all()) >= {anonymous}) == (0, 1, True)
    assert index.claim(next(iter(index.of_sandbox("sbx_one"))), ONE, TWO) == 1
    assert index.admitted == 1


def test_forgetting_twice_disturbs_no_other_stream() -> None:
    index = StreamIndex(MANY)
    gone, stays = add(index, ONE), add(index, TWO)
    index.remove(gone)
    index._discard(gone, ONE)
    assert list(index.all()) == [stays]


def test_a_list_of_streams_may_be_walked_while_they_end() -> None:
    index = StreamIndex(MANY)
    for claims in (None, ONE, ONE):
        add(index, claims)
    for stream in index.all():
        index.remove(stream)
    assert {add(index, ONE), add(index, ONE)} == set(index.of_sandbox("sbx_one"))
    for stream in index.of_sandbox("sbx_one"):
        index.remove(stream)
    assert index.open == 0


def test_what_every_stream_must_say_for_itself() -> None:
    stream = Stream()
    assert not stream.carries("connection", "con_one", None)
    with pytest.raises(NotImplementedError):
        stream.drain()
    with pytest.raises(NotImplementedError):
        stream.abort()


def test_sandboxes_with_an_open_stream() -> None:
    index = StreamIndex(MANY)
    stream = add(index, ONE)
    add(index, TWO)
    add(index, None)
    assert sorted(index.sandboxes()) == ["sbx_one", "sbx_two"]
    index.remove(stream)
    assert list(index.sandboxes()) == ["sbx_two"]


def test_a_revoked_stream_ends_as_an_aborted_one_does_unless_it_says_why() -> None:
    class Aborted(Stream):
        count = 0

        def abort(self) -> None:
            self.count += 1

    stream = Aborted(ONE)
    stream.revoke()
    assert stream.count == 1
