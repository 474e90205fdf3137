"""Claims in order of precedence, compiled so that the first hit is the answer.

What claims a request is compared by host (exact, then the longer wildcard, then the shorter, then `*`), then port
(listed before default), then path prefix (longer before shorter), then method (listed before any). Hosts and ports
choose a `Level`; inside it a tree of path segments holds prefixes and methods. Two claims that fall into one slot of
one tree are exactly the claims that tie.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from sallyport.host import HostPattern
from sallyport.request_path import without_needless_escapes


class Claimant(Protocol):
    """The part of a route or a rule that claims requests."""

    @property
    def hosts(self) -> tuple[HostPattern, ...]: ...
    @property
    def ports(self) -> tuple[int, ...] | None: ...
    @property
    def methods(self) -> tuple[str, ...] | None: ...
    @property
    def path_prefixes(self) -> tuple[str, ...] | None: ...


class Node[Answer]:
    """One path prefix: who answers each listed method here, who answers any, and the longer prefixes."""

    __slots__ = ("any_method", "children", "methods")

    def __init__(self) -> None:
        self.children: dict[str, Node[Answer]] = {}
        self.methods: dict[str, Answer] = {}
        self.any_method: Answer | None = None


class Level[Answer]:
    """All claims on one host pattern and one port (or the default port)."""

    __slots__ = ("depth", "root")

    def __init__(self) -> None:
        self.root: Node[Answer] = Node()
        self.depth = 0  # segments of the longest prefix

    def put(self, prefix: str, methods: tuple[str, ...] | None, answer: Answer) -> None:
        """Claim a prefix for these methods, or for any. A slot that is taken stays with its holder."""
        segments = prefix.split("/")[1:] if prefix != "/" else []  # "/" claims every path, as no prefix does
        self.depth = max(self.depth, len(segments))
        node = self.root
        for segment in segments:
            node = node.children.setdefault(segment, Node())
        for method in methods or ():
            node.methods.setdefault(method, answer)
        if methods is None and node.any_method is None:
            node.any_method = answer

    @property
    def reads_requests(self) -> bool:
        """Whether an answer here depends on the method or the path."""
        return bool(self.root.children or self.root.methods)


class ClaimIndex[Answer]:
    """Levels by host pattern and port."""

    def __init__(self) -> None:
        self._levels: dict[str, dict[int | None, Level[Answer]]] = {}

    def put(self, claimant: Claimant, answer: Answer) -> None:
        """Let `answer` take every slot of a claimant that is still free."""
        self._put(claimant, claimant.path_prefixes or ("/",), answer)

    def put_unescaped(self, claimant: Claimant, answer: Answer) -> None:
        """Let it take also those of its prefixes as upstreams may read them: of `/%40a`, those of `/@a`."""
        prefixes = claimant.path_prefixes or ()
        self._put(claimant, [read for each in prefixes if (read := without_needless_escapes(each)) != each], answer)

    def _put(self, claimant: Claimant, prefixes: Sequence[str], answer: Answer) -> None:
        for host in claimant.hosts if prefixes else ():
            by_port = self._levels.setdefault(str(host), {})
            for port in claimant.ports or (None,):
                level = by_port.setdefault(port, Level())
                for prefix in prefixes:
                    level.put(prefix, claimant.methods, answer)

    def levels(self, host: str, port: int, *, by_default: bool) -> tuple[Level[Answer], ...]:
        """The levels that claim a host and port in order of precedence, as far as requests can reach them.

        `by_default` says whether claims without listed ports claim this port.
        """
        ports = (port, None) if by_default else (port,)
        found: list[Level[Answer]] = []
        for pattern in patterns_claiming(host):
            by_port = self._levels.get(pattern)
            if by_port is None:
                continue
            for listed in ports:
                level = by_port.get(listed)
                if level is None:
                    continue
                found.append(level)
                if level.root.any_method is not None:
                    return tuple(found)  # answers everything, so nothing behind it is ever asked
        return tuple(found)


def first_answer[Answer](levels: Sequence[Level[Answer]], method: str, segments: Sequence[str]) -> Answer | None:
    """Who answers a request, or None. `segments` are those behind the path's first slash.

    On the hot path of every request: per level one step for each segment that some prefix shares with the path.
    """
    for level in levels:
        node = level.root
        answer = node.methods.get(method, node.any_method)
        for segment in segments:
            child = node.children.get(segment)
            if child is None:
                break
            node = child
            found = node.methods.get(method, node.any_method)
            if found is not None:
                answer = found
        if answer is not None:
            return answer
    return None


def claims_of(claimant: Claimant) -> Iterator[tuple[HostPattern, int | None, str, str | None]]:
    """Every slot a route or rule takes: host pattern, port or None for the default, prefix, method or None for any."""
    for host in claimant.hosts:
        for port in claimant.ports or (None,):
            for prefix in claimant.path_prefixes or ("/",):
                for method in claimant.methods or (None,):
                    yield host, port, prefix, method


def count_claims(claimant: Claimant) -> int:
    """How many slots a route or rule takes, without making them."""
    lists = (claimant.hosts, claimant.ports, claimant.path_prefixes, claimant.methods)
    count = 1
    for items in lists:
        count *= len(items or (None,))
    return count


def patterns_claiming(host: str) -> list[str]:
    """The text of every pattern that claims a host, most specific first."""
    patterns = [host]
    rest = host
    while (dot := rest.find(".")) >= 0:
        rest = rest[dot + 1 :]
        patterns.append(f"*.{rest}")
    patterns.append("*")
    return patterns
