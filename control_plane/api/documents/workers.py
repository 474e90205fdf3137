"""Workers, and what they have declared and serve."""

from typing import Literal

from pydantic import JsonValue

from sallyport.plan.fields import Model


class WorkerTaken(Model):
    """How long a worker's report is believed."""

    expires_in_seconds: int


class ServerDeclared(Model):
    """A server that is to be installed on a worker, as its install request has it."""

    server_id: str
    source: JsonValue
    tier: Literal["standard", "admin"]
    desired: Literal["running", "stopped"]
    arguments: list[str]
    environment: dict[str, str]
    secrets: dict[str, JsonValue]


class Declared(Model):
    """What is to be installed on a worker."""

    servers: list[ServerDeclared]


class ServerShown(Model):
    """An integration server of a worker, as it was reported last."""

    server_id: str
    tier: str
    status: str
    tools: list[str]
    sandbox_id: str | None = None


class WorkerShown(Model):
    """A worker, and what it runs."""

    worker_id: str
    state: Literal["live", "lost", "withdrawn"]
    epoch: int
    api_url: str
    front_url: str | None = None
    expires_at: int
    servers: list[ServerShown]
