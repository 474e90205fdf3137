"""Names as addresses: what a sandbox without proxy variables is told a name's address is, and which name that was.

The addresses mean something in this sandbox alone. They are from the network that RFC 2544 sets aside for measurements,
which no route of the internet leads to and the gateway never dials. So an address that a connection goes to says which
name its program meant, and nothing is asked of any name server.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from sallyport.host import HostError, normalize_host
from sallyport.wire.dns import INTERNET, Kind, Question, Reply, read_question, write_malformed, write_reply
from sallyport.wire.errors import RemoteProtocolError

POOL: Final = IPv4Network("198.18.0.0/15")
# Some programs take .0 and .255 for something else than a host: the first and the last address stay unused.
MOST_NAMES: Final = POOL.num_addresses - 2

_LOOPBACK: Final = {Kind.A.value: bytes((127, 0, 0, 1)), Kind.AAAA.value: bytes(15) + b"\x01"}


class TableFull(Exception):
    """Every address stands for a name that was told too lately, or that a connection is open to."""


@dataclass(slots=True, eq=False)
class _Entry:
    """A name with its address, until when it may be believed, and how many connections are open to it."""

    name: str
    address: int
    valid_until: float
    uses: int = 0


class NameTable:
    """Which address stands for which name. Always: one address for a name, one name for an address.

    The entries stand in the order in which they were told last, so the first is the first whose time is over.
    """

    def __init__(self, *, most_names: int, ttl_seconds: float) -> None:
        self._most_names = min(most_names, MOST_NAMES)
        self._ttl_seconds = ttl_seconds
        self._by_name: dict[str, _Entry] = {}
        self._by_address: dict[int, _Entry] = {}

    @property
    def ttl_seconds(self) -> int:
        """For how long an answer is told to be good."""
        return int(self._ttl_seconds)

    def address_of(self, name: str, now: float) -> IPv4Address:
        """Give a normalized name its address, good for the TTL from now; raises TableFull."""
        entry = self._by_name.pop(name, None)
        if entry is None:
            entry = _Entry(name, self._free_address(now), 0.0)
            self._by_address[entry.address] = entry
        self._by_name[name] = entry
        entry.valid_until = now + self._ttl_seconds
        return IPv4Address(entry.address)

    def use(self, address: IPv4Address) -> str | None:
        """Say what an address stands for and keep it so until it is given back; None for one that was never told.

        A program may have kept it beyond its time: while no other name has it, it still means the same.
        """
        entry = self._by_address.get(int(address))
        if entry is None:
            return None
        entry.uses += 1
        return entry.name

    def give_back(self, address: IPv4Address) -> None:
        """One connection to the address is over."""
        self._by_address[int(address)].uses -= 1

    def _free_address(self, now: float) -> int:
        if len(self._by_name) < self._most_names:
            return int(POOL.network_address) + 1 + len(self._by_name)
        for entry in self._by_name.values():
            if entry.valid_until > now:
                break
            if not entry.uses:
                del self._by_name[entry.name], self._by_address[entry.address]
                return entry.address
        raise TableFull

    def __repr__(self) -> str:
        return f"<NameTable {len(self._by_name)} names>"


def answer_question(message: bytes, names: NameTable, now: float) -> bytes | None:
    """Answer what was sent to a name server; None for what deserves no answer.

    A name has one address here, of the pool, and none by IPv6; what else is known of names is not known here, so the
    answer to it is that there is nothing.
    """
    try:
        question = read_question(message)
    except RemoteProtocolError:
        return write_malformed(message)
    if not question.is_query or question.kind == Kind.ANY:
        return write_reply(question, Reply.NOT_IMPLEMENTED)
    if question.space != INTERNET:
        return write_reply(question, Reply.REFUSED)
    try:
        host = normalize_host(question.name)
    except HostError:
        return write_reply(question, Reply.NO_SUCH_NAME)
    return _answer(question, host, names, now)


def _answer(question: Question, host: str, names: NameTable, now: float) -> bytes:
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 section 6.3
        address = _LOOPBACK.get(question.kind)
        return write_reply(question, Reply.DONE, [] if address is None else [address])
    if ":" in host or host.replace(".", "").isdigit():
        return write_reply(question, Reply.NO_SUCH_NAME)  # an address, which nobody needs to ask for
    if question.kind != Kind.A:
        return write_reply(question, Reply.DONE)
    try:
        address = names.address_of(host, now).packed
    except TableFull:
        return write_reply(question, Reply.FAILED)
    return write_reply(question, Reply.DONE, [address], names.ttl_seconds)
