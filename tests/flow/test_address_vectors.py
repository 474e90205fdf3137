"""Published disguises of addresses, and names that rebind, against a gateway: by the explicit listener and by a tunnel.

Egress cases H6 to H8. The gateway is a whole one on real sockets; below its Dialer stands a network of the test's, so
that what would be dialled can be told (tests/support/staged_network.py). Each test counts how many it tries.
"""

import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sallyport.host import HostError, split_authority
from tests.support.figures import RecordProperty
from tests.support.gateway_plans import plan, route
from tests.support.in_process import GatewayInProcess, in_process_gateway
from tests.support.origin import Answer, RecordingOrigin, recording_origin
from tests.support.sides import CLEARTEXT, PASSTHROUGH, PLAIN, SIDES, Side, Told, side_of
from tests.support.staged_network import PUBLIC, StagedNetwork

# Both sides hand the same heads to the same code, and 179 cases take seconds.
QUICK_SIDES = [pytest.param("explicit", marks=pytest.mark.full), "tunnel"]
SECRET = "canary-7f00a9fec0a8+/=Zq"
OK = Told(200, "")
NO_PROXY_S_SCHEME = Told(400, "invalid_request")
# Every link carries one exchange, so that each request is a dial of its own.
ONE_EACH = Answer(parts=(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",))

# Where the names of the cheat sheet lead that are no public ones. Everything else is public.
INWARD = {
    "localhost": ("127.0.0.1", "::1"),
    "ip6-localhost": ("::1",),
    "ip6-loopback": ("::1",),
    "169.254.169.254.nip.io": ("169.254.169.254",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one request.

    What it was answered, the host in the one audit record, what was looked up, what would have been dialled.
    """

    told: Told
    audited: object
    asked: tuple[str, ...]
    reached: tuple[tuple[str, int], ...]

    @property
    def host(self) -> str:
        """The one host that was looked up, or dialled by its address. The one that the rules saw, or it is a fault."""
        ((address, _),) = self.reached
        (host,) = self.asked or (address,)
        assert host == self.audited, self
        return host

    @property
    def is_refused(self) -> bool:
        """Whether the gateway refused it and would have dialled nothing; an answer of its own is all there is."""
        is_refused = self.told != OK
        assert (self.told.code != "") == is_refused, self
        assert (self.reached == ()) == is_refused, self
        return is_refused


@dataclass(slots=True, kw_only=True)
class Scene:
    """One side of a gateway with a network below it."""

    gateway: GatewayInProcess
    network: StagedNetwork
    origin: RecordingOrigin
    side: Side

    async def ask(self, target: bytes, host: bytes, *, method: bytes = b"GET", mode: str = PLAIN) -> Outcome:
        """Send one head on a stream of its own; where the mode is CLEARTEXT, and it was admitted, a request inside."""
        self.network.forget()
        audit = self.gateway.audit
        audit.entries.clear()
        inside = b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host if mode == CLEARTEXT else b""
        told = await self.side.told(target, host, method=method, mode=mode, inside=inside)
        (record,) = await audit.until(1)
        assert (record["code"] or "") == told.code, record
        return Outcome(
            told=told,
            audited=record["host"],
            asked=tuple(self.network.asked),
            reached=tuple(self.network.reached),
        )

    async def ask_for(self, url: str) -> Outcome:
        """Send a URL in absolute form, as it is."""
        return await self.ask(url.encode(), naive_authority(url))

    async def connect_to(self, url: str, mode: str = PASSTHROUGH) -> Outcome:
        """Send a CONNECT to the authority of a URL, as it stands there."""
        authority = with_port(naive_authority(url), url)
        return await self.ask(authority, authority, method=b"CONNECT", mode=mode)

    async def ask_beside(self, url: str) -> Outcome:
        """Ask for another URL with the authority of this one as the Host."""
        return await self.ask(b"http://beside.test/", naive_authority(url))


@contextlib.asynccontextmanager
async def scene(
    folder: Path,
    side: str,
    document: bytes,
    lookup: Callable[[str], tuple[str, ...]],
    *,
    allow: Iterable[str] = (),
) -> AsyncIterator[Scene]:
    """Run a gateway with this plan over a network in which names lead where `lookup` says."""
    async with (
        recording_origin() as origin,
        in_process_gateway(
            folder, plan=document, credentials={"con_one": SECRET}, further={"network": {"allow": list(allow)}}
        ) as gateway,
    ):
        origin.default = ONE_EACH
        network = StagedNetwork(lookup, origin.port)
        network.below(gateway)
        async with side_of(gateway, side) as opened:
            yield Scene(gateway=gateway, network=network, origin=origin, side=opened)


def inward(host: str) -> tuple[str, ...]:
    return INWARD.get(host, (PUBLIC,))


def naive_authority(url: str) -> bytes:
    """Cut the authority out of a URL as a client without a URL library does."""
    rest = url.partition("://")[2] or url.partition(":")[2]
    cut = min((rest.find(mark) for mark in "/?#" if mark in rest), default=len(rest))
    return rest[:cut].encode()


def with_port(authority: bytes, url: str) -> bytes:
    """Name the port that a CONNECT must have."""
    has_port = authority.rpartition(b":")[2].isdigit() and not authority.endswith(b"]")
    return authority if has_port else authority + (b":443" if url.startswith("https:") else b":80")


def claimed(urls: Iterable[str]) -> tuple[list[str], list[int]]:
    """Return every host and every port of the URLs that a plan can name."""
    hosts, ports = set(), set()
    for url in urls:
        with contextlib.suppress(HostError):
            host, port = split_authority(with_port(naive_authority(url), url).decode(), None)
            hosts.add(host)
            ports.add(port)
    return sorted(hosts), sorted(ports)


# ---- disguised loopback, private and metadata addresses (ssrf_patt_urls.json)

# The cases that are no disguise: public hosts, or names that lead to one here. What they redirect to, or what their
# own server fetches, is that server's: a gateway follows no redirect.
PUBLIC_HOSTS = {
    "1.1.1.1",
    "307.r3dir.me",
    "4d0cf09b9b2d761a7d87be99d17507bce8b86f3b.flaws.cloud",
    "62epax5fhvj3zzmzigyoe5ipkbn7fysllvges3a.302.r3dir.me",
    "attacker",
    "azure.microsoft.com",
    "developers.digitalocean.com",
    "docs.microsoft.com",
    "domain",
    "evil.com",
    "example.com",
    "foo",
    "google.com",
    "help.redacted.com",
    "nicob.net",
    "redirect-server",
    "test",
    "www.googleapis.com",
}
# Of those, the ones that are refused in absolute form all the same: no proxy is asked for another scheme than http, and
# https goes by CONNECT.
PUBLIC_AND_NOT_HTTP = {
    "https://307.r3dir.me/--to/?url=http://localhost",
    "https://62epax5fhvj3zzmzigyoe5ipkbn7fysllvges3a.302.r3dir.me",
    "https://azure.microsoft.com/en-us/blog/what-just-happened-to-my-vm-in-vm-metadata-service/",
    "https://developers.digitalocean.com/documentation/metadata/",
    "https://docs.microsoft.com/en-us/azure/virtual-machines/windows/instance-metadata-service",
    "https://example.com/ssrf.php?url=http://brutelogic.com.br/poc.svg",
    "https://help.redacted.com/plugins/servlet/oauth/users/icon-uri"
    "?consumerUri=http://169.254.169.254/metadata/v1/maintenance",
    "https://www.googleapis.com/auth/compute",
    "https://www.googleapis.com/auth/devstorage.read_write",
    "https://www.googleapis.com/auth/logging.write",
    "https://www.googleapis.com/auth/monitoring",
    "https://www.googleapis.com/compute/v1/projects/1042377752888/setCommonInstanceMetadata",
    "https://www.googleapis.com/oauth2/v1/tokeninfo?access_token=ya29.XXXXXKuXXXXXXXkGT0rJSA",
    "dict://attacker:11111/",
    "jar:scheme://domain/path!/",
    "sftp://evil.com:11111/",
    "tftp://evil.com:12346/TESTUDPPACKET",
}


DISGUISED = pytest.mark.counted("disguised addresses", "led inwards")


@pytest.fixture(scope="module")
def disguises(corpus: Callable[[str], Any]) -> list[str]:
    return [entry["url"] for entry in corpus("ssrf_patt_urls.json")]


def host_of(url: str) -> str:
    return with_port(naive_authority(url), url).decode().rpartition(":")[0]


@DISGUISED
@pytest.mark.parametrize("side", QUICK_SIDES)
async def test_h6_h7_under_deny_every_disguise_is_refused_and_nothing_asked_for(
    tmp_path: Path, disguises: list[str], side: str, record_property: RecordProperty
) -> None:
    record_property("tried", ["disguised addresses", len(disguises)])
    refused = 0
    async with scene(tmp_path, side, plan([], default="deny"), inward) as on:
        connected: dict[str, Outcome] = {}
        for url in disguises:
            if host_of(url) not in connected:
                connected[host_of(url)] = await on.connect_to(url)
            outcomes = [await on.ask_for(url), connected[host_of(url)]]
            assert {(each.asked, each.reached) for each in outcomes} == {((), ())}, url
            refused += all(each.is_refused for each in outcomes)
    assert (refused, len(disguises)) == (179, 179), f"{refused} of {len(disguises)} refused"


@DISGUISED
@pytest.mark.parametrize("mode", ["forwarded and passed through", "injected"])
@pytest.mark.parametrize("side", QUICK_SIDES)
async def test_h6_h7_only_what_is_public_is_reached_whatever_the_plan_lets_through(
    tmp_path: Path, disguises: list[str], side: str, mode: str, record_property: RecordProperty
) -> None:
    record_property("tried", ["disguised addresses", len(disguises)])
    document = plan([], default="passthrough")
    if mode == "injected":
        hosts, ports = claimed(disguises)
        assert {"169.254.169.254", "metadata.google.internal", "127.0.0.1"} <= set(hosts)
        document = plan([route("all", hosts, "con_one", match={"hosts": hosts, "ports": ports}, allowCleartext=True)])
    reached: set[str] = set()
    connected: dict[str, Outcome] = {}
    refused = 0
    async with scene(tmp_path, side, document, inward) as on:
        for url in disguises:
            host = host_of(url)
            is_public = host in PUBLIC_HOSTS
            plain = await on.ask_for(url)
            if host not in connected:
                connected[host] = await on.connect_to(url, CLEARTEXT if mode == "injected" else PASSTHROUGH)
            assert plain.is_refused == (not is_public or url in PUBLIC_AND_NOT_HTTP), (url, plain)
            if url in PUBLIC_AND_NOT_HTTP:
                assert plain.told == NO_PROXY_S_SCHEME, (url, plain)
            assert connected[host].is_refused == (not is_public), (url, connected[host])
            reached |= {address for each in (plain, connected[host]) for address, _ in each.reached}
            refused += plain.is_refused and connected[host].is_refused
        assert (SECRET.encode() in on.origin.received) == (mode == "injected")
    assert reached == {PUBLIC, "1.1.1.1"}
    assert (refused, len(disguises)) == (153, 179), f"{refused} of {len(disguises)} refused"


def test_the_tables_of_what_is_public_name_nothing_else(disguises: list[str]) -> None:
    assert {host_of(url) for url in disguises} >= PUBLIC_HOSTS
    assert {url for url in disguises if host_of(url) in PUBLIC_HOSTS} > PUBLIC_AND_NOT_HTTP


# ---- what a URL names (urltestdata.json)

EVERYTHING = ("0.0.0.0/0", "::/0")
URLS = pytest.mark.counted("URLs", "led to another host")

# Hosts and ports that the URL standard accepts and writes so, and that are refused.
REFUSED_ALL_THE_SAME = {
    "http://!\"$&'()*+,-.;=_`{}~/": "H4: letters, digits, `-` and `_` are what a label has",
    "http://./": "H5: an empty label",
    "http://../": "H5: an empty label",
    "http://foo.09../": "H1: two trailing dots",
    "http://f:0/c": "no port 0",
}
# In these no host stands: the URL standard takes it from the page's. Who reads one in them sends a CONNECT to that.
WITHOUT_A_HOST = {"http:foo.com", "http:example.com/", "https:example.com/"}


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlCase:
    """One published case: what a client is given, and what the URL standard makes of it, or None."""

    text: str
    host: str | None
    href: str | None

    @property
    def is_http(self) -> bool:
        """Whether a proxy is asked for it at all."""
        return self.text.strip().lower().startswith(("http:", "https:"))


@pytest.fixture(scope="module")
def urls(corpus: Callable[[str], Any]) -> list[UrlCase]:
    entries = [entry for entry in corpus("urltestdata.json") if isinstance(entry, dict)]
    return [
        UrlCase(
            text=entry["input"],
            # Ours is without brackets, and without the one trailing dot.
            host=None if "failure" in entry else entry["hostname"].strip("[]").removesuffix("."),
            href=None if "failure" in entry else entry["href"],
        )
        for entry in entries
        # With a line end in it, it would be another request.
        if not {"\r", "\n"} & set(entry["input"])
    ]


@URLS
@pytest.mark.full
@pytest.mark.parametrize("side", SIDES)
async def test_h3_h6_the_host_that_a_url_names_is_dialled_or_the_url_is_refused(
    tmp_path: Path, urls: list[UrlCase], side: str, record_property: RecordProperty
) -> None:
    record_property("tried", ["URLs", len(urls)])
    tried: Counter[tuple[object, ...]] = Counter()
    answered: dict[tuple[str, bytes], Outcome] = {}
    async with scene(tmp_path, side, plan([], default="passthrough"), inward, allow=EVERYTHING) as on:
        for case in urls:
            authority = naive_authority(case.text)
            forms = {"absolute form": (case.text.encode(), on.ask_for)}
            if case.is_http:
                forms["CONNECT"] = (with_port(authority, case.text), on.connect_to)
                forms["Host"] = (authority, on.ask_beside)
            for form, (sent, send) in forms.items():
                outcome = answered.get((form, sent))
                if outcome is None:
                    outcome = answered[form, sent] = await send(case.text)
                tried[form, case.host is None] += 1
                if outcome.is_refused:
                    tried[form, case.host is None, "refused"] += 1
                elif form != "CONNECT" or case.text not in WITHOUT_A_HOST:
                    assert form != "Host", case
                    assert case.is_http, case
                    assert outcome.host == case.host, (form, case, outcome)
    for form in ("absolute form", "CONNECT", "Host"):
        failures, refused = tried[form, True], tried[form, True, "refused"]
        assert refused == failures, f"{refused} of {failures} refused, {form}"
    assert tried["absolute form", True] == 267, tried
    assert tried["absolute form", False] > tried["absolute form", False, "refused"], tried


@URLS
@pytest.mark.full
@pytest.mark.parametrize("side", SIDES)
async def test_h1_h3_what_the_standard_makes_of_a_url_reaches_its_host(
    tmp_path: Path, urls: list[UrlCase], side: str, record_property: RecordProperty
) -> None:
    hosts = {case.href: case.host for case in urls if case.href is not None and case.href.startswith("http")}
    record_property("tried", ["URLs", len(hosts)])
    refused = 0
    async with scene(tmp_path, side, plan([], default="passthrough"), inward, allow=EVERYTHING) as on:
        for href, host in hosts.items():
            url = re.sub("//[^/@]*@", "//", href)  # P6: userinfo is the client's, and goes into a field
            outcomes = [await on.connect_to(url)]
            if url.startswith("http:"):
                outcomes.append(await on.ask_for(url.partition("#")[0]))  # P7: the fragment too is the client's
            for outcome in outcomes:
                assert outcome.is_refused == (url in REFUSED_ALL_THE_SAME), (url, outcome)
                assert outcome.is_refused or outcome.host == host, (url, outcome)
            refused += url in REFUSED_ALL_THE_SAME
    assert refused == len(REFUSED_ALL_THE_SAME), f"{refused} of {len(hosts)} refused"


# ---- names that rebind (H8)

PRIVATE = "10.0.0.1"


def _alternating(count: int) -> tuple[str, ...]:
    return (PUBLIC,) if count % 2 else (PRIVATE,)


def _mixed(count: int) -> tuple[str, ...]:
    return (PUBLIC, PRIVATE) if count % 2 else (PRIVATE, PUBLIC)


def _changing_after_the_check(count: int) -> tuple[str, ...]:
    """Public to whoever asks first; whoever asked again before connecting would be led inwards."""
    return (PUBLIC,) if count % 3 == 1 else (PRIVATE, "169.254.169.254")


def _hidden(count: int) -> tuple[str, ...]:
    """The private address inside others."""
    inside = ("::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "2001:0:808:808::f5ff:fffe", "::a00:1", "fe80::1%2")
    return (PUBLIC, inside[count % len(inside)])


REBINDERS = {
    "alternating.test": _alternating,
    "mixed.test": _mixed,
    "changing.test": _changing_after_the_check,
    "hidden.test": _hidden,
}


@pytest.mark.counted("rebinding names", "led inwards")
@pytest.mark.parametrize("tries", [40, pytest.param(1_000, marks=pytest.mark.full)])
@pytest.mark.parametrize("side", SIDES)
async def test_h8_a_name_that_rebinds_never_leads_inwards(
    tmp_path: Path, side: str, tries: int, record_property: RecordProperty
) -> None:
    record_property("tried", ["rebinding names", tries])
    asked: Counter[str] = Counter()

    def rebind(host: str) -> tuple[str, ...]:
        asked[host] += 1
        return REBINDERS[host](asked[host])

    injected = [route("injected", ["mixed.test", "changing.test"], "con_one", allowCleartext=True)]
    reached: Counter[str] = Counter()
    dials = 0
    async with scene(tmp_path, side, plan(injected, default="passthrough"), rebind) as on:
        for number in range(tries):
            host = list(REBINDERS)[number % len(REBINDERS)]
            is_connect = number % 8 >= len(REBINDERS) and host in ("alternating.test", "hidden.test")
            outcome = await (on.connect_to if is_connect else on.ask_for)(f"http://{host}/")
            assert outcome.asked == (host,), "a name is looked up once for each dial"
            reached.update(address for address, _ in outcome.reached)
            dials += not outcome.is_refused
    inwards = reached.total() - reached[PUBLIC]
    assert inwards == 0, f"{inwards} of {tries} tries led inwards: {reached}"
    assert reached == {PUBLIC: dials}
    assert 0 < dials < tries
    assert asked.total() == tries


@pytest.mark.parametrize("side", SIDES)
async def test_h8_t5_an_answer_of_thousands_of_addresses_is_refused_as_a_whole(tmp_path: Path, side: str) -> None:
    """None of them is dialled, and who asks again at once has the name looked up no second time."""
    thousands = tuple(f"93.184.{number // 250}.{number % 250 + 1}" for number in range(6_410))
    unreachable = Told(502, "upstream_unreachable")
    async with scene(tmp_path, side, plan([], default="passthrough"), lambda host: thousands) as on:
        for ask, asked in ((on.ask_for, ("many.test",)), (on.connect_to, ())):
            outcome = await ask("http://many.test/")
            assert (outcome.told, outcome.asked, outcome.reached) == (unreachable, asked, ())
