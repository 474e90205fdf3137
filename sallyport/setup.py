"""The setup document: the part of a plan that sandboxd carries out (contracts section 1; docs/sandbox-setup.md).

Canonical JSON bytes to frozen values, or to every issue they have. Pure, without pydantic (sandboxd is small) and in
one file, because a leaf imports nothing of ours: first how a member is read, then the values, then the whole. A
field's `metadata` says how its member is read; its name is the member's in snake_case.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, NoReturn, cast
from urllib.parse import urlsplit

MAX_SETUP_BYTES: Final = 2 * 1024 * 1024  # contracts section 2; a plan has the same bound
# Bounds against a runaway document, far above anything real. Together they keep a status within a control message.
MAX_ARTIFACTS: Final = 64
MAX_LIFECYCLE_STEPS: Final = 64  # of one kind of one artifact
MAX_WORKSPACE_SOURCES: Final = 32
MAX_RUNTIME_CLIENTS: Final = 32
MAX_FILES: Final = 256  # over all runtime clients
MAX_FILE_BYTES: Final = 1024 * 1024
MAX_PROCESSES: Final = 64  # over all runtime clients
MAX_ENDPOINTS: Final = 64  # of one runtime client
MAX_MCP_SERVERS: Final = 128
MAX_VARIABLES: Final = 256  # of one environment
MAX_ARGUMENTS: Final = 256
MAX_ARGUMENT_CHARACTERS: Final = 131_072  # Linux MAX_ARG_STRLEN
MAX_PATH_CHARACTERS: Final = 4_096  # Linux PATH_MAX
MAX_TIMEOUT_MS: Final = 86_400_000  # a day
MAX_INTEGER: Final = 2**53 - 1  # RFC 8259 section 6
MAX_ISSUES: Final = 100  # an answer stays readable, whatever the document

type Environment = Mapping[str, str]
type _Read = Callable[[object, str, "_Issues"], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupIssue:
    """One thing wrong with a setup document. `pointer` is an RFC 6901 pointer; "" is the whole document."""

    pointer: str
    message: str

    def to_document(self) -> dict[str, str]:
        """The issue as an API answer carries it."""
        return {"pointer": self.pointer, "message": self.message}

    def __str__(self) -> str:
        return f"{self.pointer or '(document)'}: {self.message}"


class SetupError(Exception):
    """A document that is no setup document, with every issue it has (at least one, at most MAX_ISSUES)."""

    def __init__(self, issues: Sequence[SetupIssue]) -> None:
        super().__init__("; ".join(str(issue) for issue in issues[:3]) + ("; ..." if len(issues) > 3 else ""))
        self.issues = tuple(issues)


# How a member is read ----------------------------------------------------------------------------------------------
# A reader adds to the issues and goes on: what it returns then is never used.


class _Issues:
    def __init__(self) -> None:
        self.found: list[SetupIssue] = []

    def add(self, pointer: str, message: str) -> None:
        if len(self.found) < MAX_ISSUES:
            self.found.append(SetupIssue(pointer=pointer, message=message))


def _below(pointer: str, member: str | int) -> str:
    return f"{pointer}/{str(member)[:128].replace('~', '~0').replace('/', '~1')}"


def _text(pattern: str, expected: str, *, most_bytes: int | None = None) -> _Read:
    compiled = re.compile(pattern, re.DOTALL)

    def read(value: object, pointer: str, issues: _Issues) -> object:
        if not isinstance(value, str) or compiled.fullmatch(value) is None:
            issues.add(pointer, f"{expected} is expected")
        elif most_bytes is not None and len(value.encode("utf-8")) > most_bytes:
            issues.add(pointer, f"at most {most_bytes} bytes are allowed")
        return value

    return read


def _integer(least: int, most: int) -> _Read:
    def read(value: object, pointer: str, issues: _Issues) -> object:
        if type(value) is not int or not least <= value <= most:
            issues.add(pointer, f"an integer from {least} to {most} is expected")
        return value

    return read


def _one_of(*words: str) -> _Read:
    def read(value: object, pointer: str, issues: _Issues) -> object:
        if not isinstance(value, str) or value not in words:
            issues.add(pointer, f"one of these is expected: {', '.join(words)}")
        return value

    return read


def _listed(read_item: _Read, *, most: int, least: int = 0, unique: str | None = None) -> _Read:
    """Read an array; `unique` is the member in which no two items may agree."""

    def read(value: object, pointer: str, issues: _Issues) -> tuple[object, ...]:
        if not isinstance(value, list) or not least <= len(value) <= most:
            issues.add(pointer, f"an array of {least} to {most} items is expected")
            return ()
        seen: set[object] = set()
        for index, item in enumerate(value if unique is not None else ()):
            key = item.get(unique) if isinstance(item, dict) else None
            if isinstance(key, str) and key in seen:
                issues.add(_below(_below(pointer, index), str(unique)), "an earlier item has this already")
            seen.add(key if isinstance(key, str) else None)
        return tuple(read_item(item, _below(pointer, index), issues) for index, item in enumerate(value))

    return read


def _mapped(name_pattern: str, name_expected: str, read_value: _Read) -> _Read:
    compiled = re.compile(name_pattern)

    def read(value: object, pointer: str, issues: _Issues) -> Mapping[str, object]:
        if not isinstance(value, dict) or len(value) > MAX_VARIABLES:
            issues.add(pointer, f"an object of at most {MAX_VARIABLES} members is expected")
            return {}
        for name in value:
            if compiled.fullmatch(name) is None:
                issues.add(_below(pointer, name), f"{name_expected} is expected")
        return MappingProxyType({name: read_value(item, _below(pointer, name), issues) for name, item in value.items()})

    return read


def _record(made: type, check: Callable[[Any, str, _Issues], None] | None = None) -> _Read:
    """Read an object into the dataclass `made`; `check` sees one whose members are all good."""
    members = {_camel(each.name): each for each in dataclasses.fields(made)}

    def read(value: object, pointer: str, issues: _Issues) -> object:
        if not isinstance(value, dict):
            issues.add(pointer, "an object is expected")
            return None
        before = len(issues.found)
        values: dict[str, Any] = {}
        for name in sorted(value.keys() - members.keys()):
            issues.add(_below(pointer, name), "no such member is known here")
        for name, each in members.items():
            if name in value:
                values[each.name] = each.metadata["read"](value[name], _below(pointer, name), issues)
            elif each.default is dataclasses.MISSING:
                issues.add(_below(pointer, name), "this member is missing")
        if len(issues.found) > before or len(issues.found) >= MAX_ISSUES:
            return None
        result = made(**values)
        if check is not None:
            check(result, pointer, issues)
        return result

    return read


def _tagged(member: str, **readers: _Read) -> _Read:
    """Read one of several kinds of object, told apart by `member`."""
    read_tag = _one_of(*(name.replace("_", "-") for name in readers))

    def read(value: object, pointer: str, issues: _Issues) -> object:
        if not isinstance(value, dict) or member not in value:
            issues.add(pointer, f"an object with the member {member} is expected")
            return None
        before = len(issues.found)
        tag = read_tag(value[member], _below(pointer, member), issues)
        return readers[tag.replace("-", "_")](value, pointer, issues) if len(issues.found) == before else None

    return read


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


def _by(read: _Read) -> Mapping[str, _Read]:
    return {"read": read}


class LocalUrl(NamedTuple):
    """A URL in the parts that a connection needs; `target` is what a request line says."""

    scheme: str
    host: str
    port: int
    target: str


def split_url(text: str) -> LocalUrl:
    """Split an http, https, ws or wss URL without userinfo and fragment; raises ValueError."""
    parts = urlsplit(text)
    scheme, port = parts.scheme.lower(), parts.port
    if scheme not in ("http", "https", "ws", "wss") or not parts.hostname or "@" in parts.netloc or "#" in text:
        raise ValueError("no URL with a scheme of the web and a host alone")
    default_port = 443 if scheme in ("https", "wss") else 80
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return LocalUrl(scheme, parts.hostname, default_port if port is None else port, target)


def _url(*schemes: str) -> _Read:
    def read(value: object, pointer: str, issues: _Issues) -> object:
        try:
            is_good = isinstance(value, str) and re.fullmatch(r"[!-~]{1,2048}", value) is not None
            is_good = is_good and split_url(cast(str, value)).scheme in schemes
        except ValueError:
            is_good = False
        if not is_good:
            issues.add(pointer, f"an absolute URL of {' or '.join(schemes)} without userinfo and fragment is expected")
        return value

    return read


# NUL ends a string for the operating system, so no text that reaches it may hold one.
_ID = _text(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", "an id")
_NAME = _text(r"[^\x00-\x1F\x7F]{1,1024}", "one line of text")
_ARGUMENT = _text(rf"[^\x00]{{0,{MAX_ARGUMENT_CHARACTERS}}}", f"text without NUL of up to {MAX_ARGUMENT_CHARACTERS}")
_PROGRAM = _text(rf"[^\x00]{{1,{MAX_PATH_CHARACTERS}}}", "the name or path of a program")
# One spelling for each file: two that mean the same would not be seen to collide, and `..` hides where a path leads.
_PATH = _text(
    rf"(?=[^\x00]{{2,{MAX_PATH_CHARACTERS}}}$)(?:/(?!\.{{1,2}}(?:/|$))[^/]+)+",
    "an absolute path in its plain form, without . and .. and doubled slashes,",
)
_CONTENT = _text(r"[^\x00]*", "text without NUL", most_bytes=MAX_FILE_BYTES)
_ENVIRONMENT = _mapped(r"[A-Za-z_][A-Za-z0-9_]{0,255}", "the name of a variable", _ARGUMENT)
_HEADERS = _mapped(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}", "a header name", _text(r"[\t -~]{0,8192}", "a header value"))
_REVISION = _integer(1, MAX_INTEGER)
_PORT = _integer(1, 65_535)
_TIMEOUT = _integer(1, MAX_TIMEOUT_MS)
_FILE_MODE = _integer(0, 0o777)  # permission bits alone: nothing a document writes is set-uid
_WRITE_MODE = _one_of("overwrite", "if-absent")
_ARGUMENTS = _listed(_ARGUMENT, most=MAX_ARGUMENTS)


def _arguments(value: object, pointer: str, issues: _Issues) -> object:
    """Read a whole command line, whose first word is the program."""
    read = _listed(_ARGUMENT, most=MAX_ARGUMENTS, least=1)(value, pointer, issues)
    if read:
        _PROGRAM(read[0], _below(pointer, 0), issues)
    return read


# What is installed and checked out ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecStep:
    """Run one program, without a shell, for at most `timeout_ms`."""

    op: Literal["exec"] = field(metadata=_by(_one_of("exec")))
    args: tuple[str, ...] = field(metadata=_by(_arguments))
    env: Environment | None = field(default=None, metadata=_by(_ENVIRONMENT))
    cwd: str | None = field(default=None, metadata=_by(_PATH))
    timeout_ms: int = field(metadata=_by(_TIMEOUT))


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStep:
    """Write one file; `mode` is its permission bits as a plain number (420 is 0644)."""

    op: Literal["file"] = field(metadata=_by(_one_of("file")))
    path: str = field(metadata=_by(_PATH))
    mode: int = field(metadata=_by(_FILE_MODE))
    content: str = field(metadata=_by(_CONTENT))
    write_mode: Literal["overwrite", "if-absent"] = field(metadata=_by(_WRITE_MODE))


type LifecycleStep = ExecStep | FileStep
_STEPS = _listed(_tagged("op", exec=_record(ExecStep), file=_record(FileStep)), most=MAX_LIFECYCLE_STEPS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """The steps that install an artifact, bring it up to date and take it away; absent `update` means install."""

    install: tuple[LifecycleStep, ...] = field(metadata=_by(_STEPS))
    update: tuple[LifecycleStep, ...] | None = field(default=None, metadata=_by(_STEPS))
    remove: tuple[LifecycleStep, ...] | None = field(default=None, metadata=_by(_STEPS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Something installed before the runtime clients start. `env` is for its own steps.

    `after` names the earlier artifacts it needs, so it may be installed beside all others; absent, it comes when all
    before it are done with.
    """

    artifact_key: str = field(metadata=_by(_ID))
    name: str = field(metadata=_by(_NAME))
    description: str | None = field(default=None, metadata=_by(_NAME))
    after: tuple[str, ...] | None = field(default=None, metadata=_by(_listed(_ID, most=MAX_ARTIFACTS)))
    env: Environment | None = field(default=None, metadata=_by(_ENVIRONMENT))
    lifecycle: Lifecycle = field(metadata=_by(_record(Lifecycle)))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceSource:
    """A repository cloned into the sandbox."""

    source_kind: Literal["git-clone"] = field(metadata=_by(_one_of("git-clone")))
    path: str = field(metadata=_by(_PATH))
    origin_url: str = field(metadata=_by(_url("http", "https")))


# What runs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupFile:
    """A file a runtime client needs before it starts."""

    file_id: str = field(metadata=_by(_ID))
    path: str = field(metadata=_by(_PATH))
    mode: int = field(metadata=_by(_FILE_MODE))
    content: str = field(metadata=_by(_CONTENT))
    write_mode: Literal["overwrite", "if-absent"] = field(metadata=_by(_WRITE_MODE))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSetup:
    """What a runtime client finds when it starts; `launch_args` follow the arguments of each of its processes."""

    env: Environment = field(metadata=_by(_ENVIRONMENT))
    files: tuple[SetupFile, ...] = field(metadata=_by(_listed(_record(SetupFile), most=MAX_FILES, unique="fileId")))
    launch_args: tuple[str, ...] | None = field(default=None, metadata=_by(_ARGUMENTS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program with its arguments, started without a shell."""

    args: tuple[str, ...] = field(metadata=_by(_arguments))
    env: Environment | None = field(default=None, metadata=_by(_ENVIRONMENT))
    cwd: str | None = field(default=None, metadata=_by(_PATH))


@dataclass(frozen=True, slots=True, kw_only=True)
class NoReadiness:
    """Ready as soon as it has started."""

    kind: Literal["none"] = field(metadata=_by(_one_of("none")))


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpReadiness:
    """Ready when a TCP port of this machine accepts."""

    kind: Literal["tcp"] = field(metadata=_by(_one_of("tcp")))
    host: str = field(metadata=_by(_NAME))
    port: int = field(metadata=_by(_PORT))
    timeout_ms: int = field(metadata=_by(_TIMEOUT))


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpReadiness:
    """Ready when a URL of this machine answers with one status."""

    kind: Literal["http"] = field(metadata=_by(_one_of("http")))
    url: str = field(metadata=_by(_url("http")))
    expected_status: int = field(metadata=_by(_integer(100, 599)))
    timeout_ms: int = field(metadata=_by(_TIMEOUT))


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketReadiness:
    """Ready when a WebSocket of this machine opens."""

    kind: Literal["ws"] = field(metadata=_by(_one_of("ws")))
    url: str = field(metadata=_by(_url("ws")))
    timeout_ms: int = field(metadata=_by(_TIMEOUT))


type Readiness = NoReadiness | TcpReadiness | HttpReadiness | WebSocketReadiness
_READINESS = _tagged(
    "kind",
    none=_record(NoReadiness),
    tcp=_record(TcpReadiness),
    http=_record(HttpReadiness),
    ws=_record(WebSocketReadiness),
)
_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGKILL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """How a process group is asked to end and for how long; what is left gets a SIGTERM, the grace, then SIGKILL."""

    signal: str = field(metadata=_by(_one_of(*_SIGNALS)))
    timeout_ms: int = field(metadata=_by(_TIMEOUT))
    grace_period_ms: int | None = field(default=None, metadata=_by(_TIMEOUT))


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process of a runtime client."""

    process_key: str = field(metadata=_by(_ID))
    command: Command = field(metadata=_by(_record(Command)))
    readiness: Readiness = field(metadata=_by(_READINESS))
    stop: Stop = field(metadata=_by(_record(Stop)))
    restart: Literal["never", "on-failure", "always"] = field(metadata=_by(_one_of("never", "on-failure", "always")))


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointTransport:
    """How an endpoint is reached from inside the sandbox."""

    type: Literal["ws"] = field(metadata=_by(_one_of("ws")))
    url: str = field(metadata=_by(_url("ws", "wss")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A place in the sandbox that is reached through the tunnel."""

    endpoint_key: str = field(metadata=_by(_ID))
    process_key: str | None = field(default=None, metadata=_by(_ID))
    transport: EndpointTransport = field(metadata=_by(_record(EndpointTransport)))
    connection_mode: Literal["dedicated", "shared"] = field(metadata=_by(_one_of("dedicated", "shared")))


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeClient:
    """A program the sandbox exists to run, with its files, processes and endpoints."""

    client_id: str = field(metadata=_by(_ID))
    setup: ClientSetup = field(metadata=_by(_record(ClientSetup)))
    processes: tuple[Process, ...] = field(
        metadata=_by(_listed(_record(Process), most=MAX_PROCESSES, unique="processKey"))
    )
    endpoints: tuple[Endpoint, ...] = field(
        metadata=_by(_listed(_record(Endpoint), most=MAX_ENDPOINTS, unique="endpointKey"))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpMcpTransport:
    """An MCP server spoken to by streamable HTTP."""

    type: Literal["streamable-http"] = field(metadata=_by(_one_of("streamable-http")))
    url: str = field(metadata=_by(_url("http", "https")))
    headers: Mapping[str, str] | None = field(default=None, metadata=_by(_HEADERS))


@dataclass(frozen=True, slots=True, kw_only=True)
class StdioMcpTransport:
    """An MCP server spoken to over its standard input and output."""

    type: Literal["stdio"] = field(metadata=_by(_one_of("stdio")))
    command: str = field(metadata=_by(_PROGRAM))
    args: tuple[str, ...] = field(metadata=_by(_ARGUMENTS))
    env: Environment | None = field(default=None, metadata=_by(_ENVIRONMENT))


_TRANSPORT = _tagged("type", streamable_http=_record(HttpMcpTransport), stdio=_record(StdioMcpTransport))


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServer:
    """An MCP server the sandbox's agent may use."""

    server_id: str = field(metadata=_by(_ID))
    binding_id: str = field(metadata=_by(_ID))
    name: str = field(metadata=_by(_NAME))
    transport: HttpMcpTransport | StdioMcpTransport = field(metadata=_by(_TRANSPORT))


# The whole ---------------------------------------------------------------------------------------------------------


def _check_client(client: RuntimeClient, pointer: str, issues: _Issues) -> None:
    keys = {process.process_key for process in client.processes}
    for index, endpoint in enumerate(client.endpoints):
        if endpoint.process_key is not None and endpoint.process_key not in keys:
            issues.add(f"{pointer}/endpoints/{index}/processKey", "the client has no process of this key")


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupDocument:
    """Everything sandboxd does for one sandbox at one revision. `environment` is for all that runs in it."""

    schema_version: Literal[1] = field(metadata=_by(_integer(1, 1)))
    sandbox_id: str = field(metadata=_by(_text(r"sbx_[A-Za-z0-9_-]{1,124}", "a sandbox id")))
    revision: int = field(metadata=_by(_REVISION))
    artifacts: tuple[Artifact, ...] = field(
        metadata=_by(_listed(_record(Artifact), most=MAX_ARTIFACTS, unique="artifactKey"))
    )
    workspace_sources: tuple[WorkspaceSource, ...] = field(
        metadata=_by(_listed(_record(WorkspaceSource), most=MAX_WORKSPACE_SOURCES, unique="path"))
    )
    runtime_clients: tuple[RuntimeClient, ...] = field(
        metadata=_by(_listed(_record(RuntimeClient, _check_client), most=MAX_RUNTIME_CLIENTS, unique="clientId"))
    )
    # Not unique: two bindings of one integration may each bring its server, and local_streams.py refuses to choose.
    mcp_servers: tuple[McpServer, ...] = field(metadata=_by(_listed(_record(McpServer), most=MAX_MCP_SERVERS)))
    environment: Environment = field(metadata=_by(_ENVIRONMENT))


def _check_whole(document: SetupDocument, pointer: str, issues: _Issues) -> None:
    _check_order(document.artifacts, f"{pointer}/artifacts", issues)
    paths: set[str] = set()
    for number, client in enumerate(document.runtime_clients):
        for index, each in enumerate(client.setup.files):
            if each.path in paths:
                place = f"{pointer}/runtimeClients/{number}/setup/files/{index}/path"
                issues.add(place, "another file has this path")
            paths.add(each.path)
    if sum(len(client.setup.files) for client in document.runtime_clients) > MAX_FILES:
        issues.add(f"{pointer}/runtimeClients", f"all clients together have at most {MAX_FILES} files")
    if sum(len(client.processes) for client in document.runtime_clients) > MAX_PROCESSES:
        issues.add(f"{pointer}/runtimeClients", f"all clients together have at most {MAX_PROCESSES} processes")


def _check_order(artifacts: Sequence[Artifact], pointer: str, issues: _Issues) -> None:
    """Only what stands earlier can be named, so no circle can be written."""
    earlier: set[str] = set()
    for number, artifact in enumerate(artifacts):
        for index, key in enumerate(artifact.after or ()):
            if key not in earlier:
                issues.add(f"{pointer}/{number}/after/{index}", "no earlier artifact has this key")
        earlier.add(artifact.artifact_key)


_DOCUMENT = _record(SetupDocument, _check_whole)
_ARTIFACT = _record(Artifact)
_MEMBERS_OF_A_PLAN = ("sandboxId", "revision", "artifacts", "workspaceSources", "runtimeClients", "mcpServers")
_encoder = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def parse_setup(body: bytes) -> SetupDocument:
    """Read a setup document; raise SetupError, and nothing else, for anything that is not one."""
    if len(body) > MAX_SETUP_BYTES:
        _refuse("", f"a setup document has at most {MAX_SETUP_BYTES} bytes")
    return cast(SetupDocument, _read(_DOCUMENT, body))


def setup_digest(body: bytes) -> str:
    """The digest by which a setup document is announced: over its bytes."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def setup_document(plan_document: Mapping[str, object]) -> bytes:
    """Write the setup document of a plan, given as parsed JSON; raise SetupError for what sandboxd would refuse.

    `environment` is what the artifacts ask for; a variable that two of them set differently is an issue.
    """
    picked = {name: plan_document[name] for name in _MEMBERS_OF_A_PLAN if name in plan_document}
    environment = _merged_environment(picked.get("artifacts"))
    try:
        body = _encode({**picked, "schemaVersion": 1, "environment": environment})
    except (TypeError, ValueError, RecursionError):
        _refuse("", "a plan's JSON is expected")
    parse_setup(body)
    return body


def artifact_text(artifact: Artifact) -> str:
    """Write an artifact as canonical JSON: equal texts are equal artifacts."""
    return _encoder.encode(_plain(artifact))


def parse_artifact(text: str) -> Artifact:
    """Read what `artifact_text` wrote; raises SetupError."""
    return cast(Artifact, _read(_ARTIFACT, text.encode("utf-8", "replace")))


def _refuse(pointer: str, message: str) -> NoReturn:
    raise SetupError([SetupIssue(pointer=pointer, message=message)])


def _read(read: _Read, body: bytes) -> object:
    document: object = None
    try:
        document = _decoder.decode(body.decode("utf-8"))
        # What is written back to the same bytes has no repeated member, no white space and no half of a surrogate.
        if _encode(document) != body:
            _refuse("", "canonical JSON is expected: members in order and named once, no white space, fewest escapes")
    except (ValueError, RecursionError):
        _refuse("", "canonical JSON is expected: UTF-8, integers only, nothing behind it")
    issues = _Issues()
    value = read(document, "", issues)
    if issues.found:
        raise SetupError(issues.found)
    return value


def _no_number(text: str) -> object:
    raise ValueError(f"not an integer: {text[:32]}")


_decoder = json.JSONDecoder(parse_float=_no_number, parse_constant=_no_number)


def _encode(value: object) -> bytes:
    return _encoder.encode(value).encode("utf-8")


def _merged_environment(artifacts: object) -> dict[str, object]:
    merged: dict[str, object] = {}
    issues = _Issues()
    for index, artifact in enumerate(artifacts if isinstance(artifacts, list | tuple) else ()):
        environment = artifact.get("env") if isinstance(artifact, Mapping) else None
        for name, value in (environment if isinstance(environment, Mapping) else {}).items():
            if merged.setdefault(name, value) != value:
                issues.add(f"/artifacts/{index}/env/{name}", "another artifact sets this variable to something else")
    if issues.found:
        raise SetupError(issues.found)
    return merged


def _plain(value: object) -> object:
    """Turn a value of this module back into what JSON knows; what is absent stays absent."""
    if dataclasses.is_dataclass(value):
        members = {_camel(each.name): getattr(value, each.name) for each in dataclasses.fields(value)}
        return {name: _plain(member) for name, member in members.items() if member is not None}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
