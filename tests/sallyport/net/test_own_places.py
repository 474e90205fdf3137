"""What the gateway never dials because it is its own: by listener, by name, by what a name leads to, by interface."""

from ipaddress import ip_network

import pytest

from sallyport.address_policy import AddressPolicy
from sallyport.net.own_places import OwnPlaces
from sallyport.net.transports import is_local_address

EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))
# Documentation addresses stand for this machine's interfaces.
INTERFACE = "192.0.2.7"
LATER = "198.51.100.7"
OTHER = "203.0.113.9"


class Interfaces:
    """The addresses of a machine, which come and go."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = {"127.0.0.1", "::1", *addresses}

    def __call__(self, address: str) -> bool:
        return address in self.addresses


def refuses(places: OwnPlaces, address: str, port: int) -> bool:
    """Say whether a policy that allows everything refuses the address with these places."""
    policy = AddressPolicy(allow=EVERYTHING, own=places.among([address], port))
    return policy.check(address, port) is not None


def test_a_listener_on_one_address_is_refused_there_and_nowhere_else() -> None:
    places = OwnPlaces([(INTERFACE, 3128)], is_local=Interfaces(INTERFACE, LATER))
    assert refuses(places, INTERFACE, 3128)
    assert not refuses(places, INTERFACE, 3129)
    assert not refuses(places, LATER, 3128)


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::"])
def test_a_listener_on_a_wildcard_is_refused_at_every_address_of_the_machine(wildcard: str) -> None:
    interfaces = Interfaces(INTERFACE, "2001:db8::7")
    places = OwnPlaces([(wildcard, 3128)], is_local=interfaces)
    for address in (INTERFACE, f"::ffff:{INTERFACE}", "64:ff9b::c000:207", "2001:db8::7", "127.0.0.1", "0.0.0.0"):
        assert refuses(places, address, 3128), address
        assert not refuses(places, address, 3129), address
    assert not refuses(places, OTHER, 3128)


def test_an_interface_that_comes_up_later_is_refused_from_then_on() -> None:
    interfaces = Interfaces()
    places = OwnPlaces([("0.0.0.0", 3128)], is_local=interfaces)
    assert not refuses(places, LATER, 3128)
    interfaces.addresses.add(LATER)
    assert refuses(places, LATER, 3128)
    interfaces.addresses.remove(LATER)
    assert not refuses(places, LATER, 3128)


def test_a_named_place_is_ours_by_its_name_at_its_port() -> None:
    places = OwnPlaces(named=[("control.test", 443)])
    assert places.hold("control.test", 443)
    assert not places.hold("control.test", 80)
    assert not places.hold("other.test", 443)
    assert list(places.hosts_at(443)) == ["control.test"]
    assert list(places.hosts_at(80)) == []


def test_a_named_place_is_ours_wherever_its_name_leads_now() -> None:
    places = OwnPlaces(named=[("control.test", 443)], is_local=Interfaces())
    assert not places.knows("control.test")
    places.learn("control.test", (OTHER, "2001:db8::9"))
    assert places.knows("control.test")
    assert refuses(places, OTHER, 443)
    assert refuses(places, "2001:db8::9", 443)
    assert not refuses(places, OTHER, 80)
    places.learn("control.test", (LATER,))
    assert refuses(places, LATER, 443)
    assert not refuses(places, OTHER, 443)


def test_a_named_place_on_this_machine_is_refused_at_every_address_of_it() -> None:
    places = OwnPlaces(named=[("127.0.0.1", 7500)], is_local=Interfaces(INTERFACE))
    places.learn("127.0.0.1", ("127.0.0.1",))
    assert refuses(places, INTERFACE, 7500)
    assert refuses(places, "::1", 7500)
    assert not refuses(places, OTHER, 7500)


def test_what_is_not_canonical_is_left_to_the_policy() -> None:
    places = OwnPlaces([("0.0.0.0", 3128)], is_local=Interfaces(INTERFACE))
    assert places.among(["fe80::1%eth0", "0x7f.1"], 3128) == {("0.0.0.0", 3128)}


def test_the_machine_itself_is_asked_where_nothing_else_is_said() -> None:
    places = OwnPlaces([("0.0.0.0", 3128)])
    assert ("127.9.9.9", 3128) in places.among(["127.9.9.9"], 3128)
    assert is_local_address("127.9.9.9")


def test_it_shows_what_it_holds() -> None:
    assert repr(OwnPlaces([("127.0.0.1", 1)], [("control.test", 2)])) == "<OwnPlaces 127.0.0.1:1 control.test:2>"
