"""The rules of docs/architecture.md, "Who may import whom", as functions over a tree of parsed files.

Beside them what else is counted in the source: where secrets are revealed, and where every exception is caught.
"""

import ast
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

PARTS = ("sallyport", "gateway", "sandboxd", "worker", "control_client", "control_plane", "sallyport_cli")
AROUND = ("demo", "benchmarks", "tests")  # not packaged
PURE = (
    *("sallyport.plan", "sallyport.wire", "gateway.core", "sandboxd.core"),
    *("control_plane.compiler", "control_plane.definitions", "control_plane.feed.merge"),
    *("control_client.feed_state", "control_client.push_signature", "worker.sandboxes.seccomp"),
)
IMPURE = ("asyncio", "socket", "ssl", "threading", "subprocess", "time", "random", "secrets", "uuid", "os", "logging")
# Third-party packages a part of the kernel may import beside the standard library.
FOREIGN = {"sallyport.plan": ("pydantic", "pydantic_core"), "sallyport.wire": ()}
SEPARATE = ("gateway", "sandboxd", "worker", "control_plane")
NOT_IN_SANDBOXD = ("sallyport.plan", "sallyport.secret", "control_client", "gateway")
NO_CONTROL_PLANE_SHELL = ("control_plane.store", "control_plane.api")

# Rule 8: what is imported or called, and where that may stand.
SOCKET_CALLS = {
    *("create_server", "create_unix_server", "create_connection", "create_unix_connection"),
    *("create_datagram_endpoint", "start_server", "start_unix_server", "open_connection", "open_unix_connection"),
    *("sock_accept", "sock_connect"),
}
ONLY_IN: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("socket", "socketserver"): ("sallyport.net",),
    ("aiohttp.web", "http.server", "starlette", "fastapi", "uvicorn"): (
        *("gateway.admin", "control_plane.api", "control_plane.feed", "worker.api", "worker.integrations"),
        *("worker.sandboxes.api", "control_client.push_receiver"),
    ),
    ("aiohttp", "http.client", "urllib.request", "httpx", "httpx2", "requests"): (
        *("control_client", "worker.integrations", "worker.sandboxes.docker_api", "control_plane.oauth"),
        "control_plane.push",
        *("control_plane.webhooks", "control_plane.definitions", "control_plane.outbound"),
    ),
    ("alembic", "asyncpg", "aiosqlite"): ("control_plane.store",),
    ("psycopg",): ("control_plane.store", "worker.integrations.servers"),
    ("sqlite3", "sqlalchemy"): ("control_plane.store", "worker.durable"),
    ("dbos", "pysqlite3"): ("worker.durable",),
    # Not a rule of the document but of decision 0003: 40 MB, and never in a gateway's process.
    ("mitmproxy",): ("gateway.mitm_addon", "sallyport_cli.mitm_flows"),
}
REVEALING = (
    *("gateway.core.inject", "gateway.core.scrub", "control_client.credentials", "control_plane.vault"),
    # The keys and secrets that a client was given: shown to its feed, and signed with.
    *("control_client.feed_key", "control_client.push_signature"),
    *("control_plane.oauth", "control_plane.webhooks", "control_plane.push", "worker.integrations"),
)
EVERYTHING = ("Exception", "BaseException", "CancelledError")


class Violation(NamedTuple):
    """One broken rule: its number or name, where, and what stands there."""

    rule: str
    place: str
    what: str


class Import(NamedTuple):
    """One imported name; of `from a import b` it is `a.b`, whatever b may be."""

    line: int
    name: str


class Module(NamedTuple):
    """One parsed file of the tree."""

    name: str
    path: str
    tree: ast.Module
    imports: tuple[Import, ...]

    def at(self, line: int) -> str:
        return f"{self.path}:{line}"


Tree = Mapping[str, Module]


def read_tree(root: pathlib.Path) -> Tree:
    """Parse every Python file of the parts and of what stands around them."""
    modules = {}
    for top in (*PARTS, *AROUND):
        for path in sorted((root / top).rglob("*.py")):
            relative = path.relative_to(root)
            name = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
            tree = ast.parse(path.read_bytes(), str(relative))
            modules[name] = Module(name, str(relative), tree, tuple(_imports(tree)))
    return modules


def violations(tree: Tree) -> list[Violation]:
    """Return every broken rule of the tree."""
    found = []
    for module in tree.values():
        found += [
            *_form(module),
            *_leaves_plan_wire(module),
            *_purity(tree, module),
            *_cores(module),
            *_neighbours(tree, module),
            *_places(module),
        ]
    return found


def reveals(tree: Tree) -> dict[str, int]:
    """Count, by module of the parts, the places that take a secret out of its `Secret`."""
    counts = {module.name: len(_reveal_lines(module)) for module in tree.values() if _within(module.name, PARTS)}
    return {name: count for name, count in counts.items() if count}


def catch_alls(tree: Tree) -> list[str]:
    """Name the functions of the parts that catch whatever is raised, or a cancellation, and do not raise it again."""
    modules = (module for module in tree.values() if _within(module.name, PARTS))
    return sorted(scope for module in modules for scope, node in _scoped(module.tree, module.name) if _ends_all(node))


def _imports(tree: ast.Module) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (Import(node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def _within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _is_leaf(module: Module) -> bool:
    return module.name.count(".") == 1 and module.path == module.name.replace(".", "/") + ".py" and _kernel(module.name)


def _kernel(name: str) -> bool:
    return _within(name, ("sallyport",))


def _is_pure(module: Module) -> bool:
    return _within(module.name, PURE) or _is_leaf(module)


def _form(module: Module) -> Iterator[Violation]:
    """No re-exports, no `import *`, no relative or computed imports."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield Violation("form", module.at(node.lineno), "relative import")
        elif isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            yield Violation("form", module.at(node.lineno), "import *")
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            yield Violation("form", module.at(node.lineno), "an import that no rule can read")
    if module.path.endswith("__init__.py") and _within(module.name, PARTS):
        yield from _package_docstring(module)


def _package_docstring(module: Module) -> Iterator[Violation]:
    docstring = ast.get_docstring(module.tree)
    if docstring is None or len(module.tree.body) != 1:
        yield Violation("form", module.at(1), "a package's __init__ is its docstring and nothing else")
    elif len(docstring.splitlines()) > 15:
        yield Violation("form", module.at(1), "the docstring of a package has at most 15 lines")


def _leaves_plan_wire(module: Module) -> Iterator[Violation]:
    """Rule 1, and rule 5 beside it: what the parts of the kernel may import."""
    own = next((package for package in FOREIGN if _within(module.name, (package,))), None)
    for line, name in module.imports:
        top = name.partition(".")[0]
        allowed = top in sys.stdlib_module_names
        if own is not None:
            leaf = _kernel(name) and not _within(name, ("sallyport.plan", "sallyport.wire", "sallyport.net"))
            allowed = allowed or leaf or _within(name, (own,)) or top in FOREIGN[own]
        if (own is not None or _is_leaf(module)) and not allowed:
            yield Violation("1", module.at(line), name)
        if _within(module.name, ("sallyport.net",)) and _within(name, ("sallyport.plan",)):
            yield Violation("5", module.at(line), name)


def _purity(tree: Tree, module: Module) -> Iterator[Violation]:
    """Rule 2, through everything a pure module imports, and rule 4, through everything sandboxd imports."""
    if _is_pure(module):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await):
                yield Violation("2", module.at(node.lineno), "async in pure code")
        yield from (Violation("2", *chain) for chain in _reached(tree, module, IMPURE))
    if _within(module.name, ("sandboxd",)):
        yield from (Violation("4", *chain) for chain in _reached(tree, module, NOT_IN_SANDBOXD))


def _reached(tree: Tree, start: Module, forbidden: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield (place in `start`, chain of names) for each forbidden name its imports lead to; each by one way."""
    seen = {start.name}
    ways = [(start.at(line), [name]) for line, name in start.imports]
    while ways:
        place, chain = ways.pop()
        if _within(chain[-1], forbidden):
            yield place, " -> ".join(chain)
            continue
        for module in _loaded(tree, chain[-1]):
            if module.name not in seen:
                seen.add(module.name)
                ways += [(place, [*chain, name]) for _, name in module.imports]


def _loaded(tree: Tree, name: str) -> Iterator[Module]:
    """Yield the modules of the tree that importing `name` runs: itself and the packages it stands in."""
    while name:
        if name in tree:
            yield tree[name]
        name = name.rpartition(".")[0]


def _cores(module: Module) -> Iterator[Violation]:
    """Rule 3: a core does not know its shell, a shell no core of another part."""
    part = module.name.partition(".")[0]
    for line, name in module.imports:
        if _within(module.name, (f"{part}.core",)) and _within(name, (part,)) and not _within(name, (f"{part}.core",)):
            yield Violation("3", module.at(line), name)
        others = tuple(f"{other}.core" for other in PARTS if other != part)
        if part in PARTS and _within(name, others):
            yield Violation("3", module.at(line), name)


def _neighbours(tree: Tree, module: Module) -> Iterator[Violation]:
    """Rules 6 and 7: the parts meet at the kernel and the control client, and nobody looks at what stands on top."""
    part = module.name.partition(".")[0]
    strangers = tuple(other for other in SEPARATE if other != part) if part in SEPARATE else ()
    if part in ("sallyport", "control_client"):
        strangers = tuple(other for other in PARTS if other not in (part, "sallyport"))
    on_top = tuple(top for top in ("sallyport_cli", *AROUND) if top != part) if part != "tests" else ()
    for line, name in module.imports:
        if _within(name, strangers + on_top):
            yield Violation("6", module.at(line), name)
        if _within(module.name, ("control_plane.compiler",)) and _within(name, NO_CONTROL_PLANE_SHELL):
            yield Violation("7", module.at(line), name)


def _places(module: Module) -> Iterator[Violation]:
    """Rule 8 and house rule 14: what only certain files may do."""
    if not _within(module.name, PARTS):
        return
    for line, name in module.imports:
        # The longest name decides: aiohttp.web is a server, the rest of aiohttp a client.
        hits = [(len(hit), places) for names, places in ONLY_IN.items() for hit in names if _within(name, (hit,))]
        if hits and not _within(module.name, max(hits)[1]):
            yield Violation("8", module.at(line), name)
    if not _within(module.name, ("sallyport.net",)):
        calls = (node for node in ast.walk(module.tree) if isinstance(node, ast.Call))
        yield from (
            Violation("8", module.at(call.lineno), _called(call)) for call in calls if _called(call) in SOCKET_CALLS
        )
    if not module.name.endswith(".config"):
        yield from (Violation("8", module.at(line), what) for line, what in _environment(module))
    if not _within(module.name, REVEALING):
        yield from (Violation("reveal", module.at(line), "reveal()") for line in _reveal_lines(module))


def _environment(module: Module) -> Iterator[tuple[int, str]]:
    names = ("environ", "environb", "getenv", "getenvb")
    for line, name in module.imports:
        if name in [f"os.{each}" for each in names]:
            yield line, name
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr in names and ast.unparse(node.value) == "os":
            yield node.lineno, f"os.{node.attr}"


def _reveal_lines(module: Module) -> list[int]:
    return [node.lineno for node in ast.walk(module.tree) if isinstance(node, ast.Attribute) and node.attr == "reveal"]


def _scoped(node: ast.AST, scope: str) -> Iterator[tuple[str, ast.AST]]:
    """Yield everything that stands below a node, with the name of the function or class that it stands in."""
    for child in ast.iter_child_nodes(node):
        yield scope, child
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _scoped(child, f"{scope}.{child.name}")
        else:
            yield from _scoped(child, scope)


def _ends_all(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return _called(node) == "suppress" and any(map(_is_everything, node.args))
    if not isinstance(node, ast.ExceptHandler) or not _is_everything(node.type):
        return False
    leaves = (ast.Return, ast.Break, ast.Continue)
    return not _is_bare_raise(node.body[-1]) or any(isinstance(below, leaves) for below in ast.walk(node))


def _is_everything(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(map(_is_everything, caught.elts))
    return caught is None or ast.unparse(caught).rpartition(".")[2] in EVERYTHING


def _is_bare_raise(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Raise) and statement.exc is None


def _called(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
