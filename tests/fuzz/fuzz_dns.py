"""A question for a name, from a sandbox.

Allowed outcomes, for any bytes: no answer, but only to what is shorter than a head or is an answer itself; an answer
with the question's number that fits a datagram, whose address is of the pool, or loopback's, and stands for the name
that was asked for.
"""

from ipaddress import ip_address

from sandboxd.core.names import POOL, NameTable, answer_question
from tests.support.dns_questions import AAAA, TXT, answered, question
from tests.support.fuzzing import run

SEEDS = (
    question("api.example.com"),
    question("API.example.com", AAAA),
    question("localhost", AAAA),
    question("_dmarc.example.com", TXT),
    question("127.0.0.1"),
    question("a" * 63 + ".test")[:10] + b"\0\1" + question("a" * 63 + ".test")[12:] + b"\0\0\x29\x10\0\0\0\0\0\0\0",
)


def check(data: bytes) -> None:
    """Check one input."""
    names = NameTable(most_names=4, ttl_seconds=60)
    answer = answer_question(data, names, 0.0)
    if answer is None:
        assert len(data) < 12 or data[2] & 0x80
        return
    assert len(answer) <= 512
    read = answered(answer)
    assert read.number == int.from_bytes(data[:2], "big")
    assert data[12:].startswith(read.question)
    for packed, _ in read.addresses:
        address = ip_address(packed)
        if address.is_loopback:
            continue
        assert address in POOL
        name = names.use(address)  # type: ignore[arg-type]  # of the pool, so of IPv4
        assert name is not None
        wanted = b"".join(bytes((len(label),)) + label for label in name.encode().split(b"."))
        assert read.question.lower().startswith(wanted)


if __name__ == "__main__":
    run(check, SEEDS)
