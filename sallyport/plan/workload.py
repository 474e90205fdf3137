"""The sandbox's part of a plan: its image, what is installed and checked out in it, and what runs there.

The gateway carries this part and never acts on it; sandboxd and the worker do.
"""

from typing import Annotated, Literal

from pydantic import Field

from sallyport.plan.fields import (
    Argument,
    BindingId,
    Content,
    FileMode,
    FilePath,
    HeaderName,
    HeaderValue,
    HttpUrl,
    Id,
    Listed,
    Map,
    Model,
    NonEmpty,
    Port,
    Positive,
    Status,
    Text,
    TimeoutMs,
    VariableName,
    WebSocketUrl,
)

Environment = Map[VariableName, Argument]
WriteMode = Literal["overwrite", "if-absent"]


class BaseImage(Model):
    """An image as it was published."""

    source: Literal["base"]
    image_ref: Text


class ProfileImage(Model):
    """An image made for one version of a sandbox profile."""

    source: Literal["profile-base"]
    image_ref: Text
    sandbox_profile_id: Id
    version: Positive


Image = Annotated[BaseImage | ProfileImage, Field(discriminator="source")]


class ExecStep(Model):
    """Run one program, without a shell, for at most `timeout_ms`."""

    op: Literal["exec"]
    args: NonEmpty[Argument]
    env: Environment | None = None
    cwd: FilePath | None = None
    timeout_ms: TimeoutMs


class FileStep(Model):
    """Write one file; `mode` is its permission bits as a plain number (420 is 0644)."""

    op: Literal["file"]
    path: FilePath
    mode: FileMode
    content: Content
    write_mode: WriteMode


Step = Annotated[ExecStep | FileStep, Field(discriminator="op")]


class ArtifactLifecycle(Model):
    """The steps that install an artifact, bring it up to date and take it away again."""

    install: Listed[Step]
    update: Listed[Step] | None = None
    remove: Listed[Step] | None = None


class Artifact(Model):
    """Something installed into the sandbox before its runtime clients start.

    `after` names the earlier artifacts it needs; absent, it comes when all before it are done with.
    """

    artifact_key: Id
    name: Text
    description: Text | None = None
    after: Listed[Id] | None = None
    env: Environment | None = None
    lifecycle: ArtifactLifecycle


class WorkspaceSource(Model):
    """A repository cloned into the sandbox."""

    source_kind: Literal["git-clone"]
    path: FilePath
    origin_url: HttpUrl


class SetupFile(Model):
    """A file a runtime client needs before it starts."""

    file_id: Id
    path: FilePath
    mode: FileMode
    content: Content
    write_mode: WriteMode


class ClientSetup(Model):
    """What a runtime client finds when it starts."""

    env: Environment
    files: Listed[SetupFile]
    launch_args: Listed[Argument] | None = None


class Command(Model):
    """A program with its arguments, started without a shell."""

    args: NonEmpty[Argument]
    env: Environment | None = None
    cwd: FilePath | None = None


class NoReadiness(Model):
    """Ready as soon as it has started."""

    kind: Literal["none"]


class TcpReadiness(Model):
    """Ready when a TCP port accepts."""

    kind: Literal["tcp"]
    host: Text
    port: Port
    timeout_ms: TimeoutMs


class HttpReadiness(Model):
    """Ready when a URL answers with one status."""

    kind: Literal["http"]
    url: HttpUrl
    expected_status: Status
    timeout_ms: TimeoutMs


class WebSocketReadiness(Model):
    """Ready when a WebSocket opens."""

    kind: Literal["ws"]
    url: WebSocketUrl
    timeout_ms: TimeoutMs


Readiness = Annotated[
    NoReadiness | TcpReadiness | HttpReadiness | WebSocketReadiness,
    Field(discriminator="kind"),
]


class Stop(Model):
    """How a process is asked to end, and how long it may take before it is killed."""

    signal: Literal["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGKILL"]
    timeout_ms: TimeoutMs
    grace_period_ms: TimeoutMs | None = None


class Process(Model):
    """A process of a runtime client."""

    process_key: Id
    command: Command
    readiness: Readiness
    stop: Stop
    restart: Literal["never", "on-failure", "always"]


class EndpointTransport(Model):
    """How an endpoint is reached from inside the sandbox."""

    type: Literal["ws"]
    url: WebSocketUrl


class Endpoint(Model):
    """A place in the sandbox that is reached through the tunnel; `dedicated` opens one connection per caller."""

    endpoint_key: Id
    process_key: Id | None = None
    transport: EndpointTransport
    connection_mode: Literal["dedicated", "shared"]


class RuntimeClient(Model):
    """A program the sandbox exists to run, with its files, processes and endpoints."""

    client_id: Id
    setup: ClientSetup
    processes: Listed[Process]
    endpoints: Listed[Endpoint]


class AgentRuntime(Model):
    """Says which endpoint of which runtime client an agent binding speaks to."""

    binding_id: BindingId
    runtime_key: Id
    client_id: Id
    endpoint_key: Id
    adapter_key: Id


class HttpMcpTransport(Model):
    """An MCP server spoken to by streamable HTTP."""

    type: Literal["streamable-http"]
    url: HttpUrl
    headers: Map[HeaderName, HeaderValue] | None = None


class StdioMcpTransport(Model):
    """An MCP server spoken to over its standard input and output."""

    type: Literal["stdio"]
    command: Argument
    args: Listed[Argument]
    env: Environment | None = None


McpTransport = Annotated[HttpMcpTransport | StdioMcpTransport, Field(discriminator="type")]


class McpServer(Model):
    """An MCP server the sandbox's agent may use."""

    server_id: Id
    binding_id: BindingId
    name: Text
    transport: McpTransport
