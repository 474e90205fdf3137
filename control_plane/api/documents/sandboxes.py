"""Sandboxes, their profiles and plans, tokens and revocations, and what was denied."""

from typing import Literal

from pydantic import JsonValue

from control_plane.api.documents.problems import Issue
from control_plane.definitions.contract import Kind
from control_plane.denials import Denial
from sallyport.plan.fields import Model
from sallyport.plan.model import Egress
from sallyport.plan.workload import Image

# A plan is told by docs/runtime-plan.md; its schema would be larger than all the others.
PlanDocument = dict[str, JsonValue]
# What explaining and comparing find is told by docs/compiling.md.
Findings = dict[str, JsonValue]


class PlanShown(Model):
    """The plan in force."""

    revision: int
    digest: str


class SandboxShown(Model):
    """A sandbox."""

    sandbox_id: str
    organization_id: str
    sandbox_profile_id: str | None = None
    version: int | None = None
    status: Literal["active"]
    created_at: int
    plan: PlanShown | None = None
    compile_issues: list[Issue] | None = None


class ProfileShown(Model):
    """A sandbox profile; latestVersion is absent while it has none."""

    sandbox_profile_id: str
    organization_id: str
    display_name: str | None = None
    created_at: int
    latest_version: int | None = None


class VersionShown(Model):
    """One version of a profile."""

    sandbox_profile_id: str
    version: int
    image: Image | None = None
    egress: Egress | None = None
    created_at: int


class PlanAccepted(Model):
    """A plan that was taken in, or put in force."""

    sandbox_id: str
    revision: int
    digest: str


class PlanListed(Model):
    """One revision of a sandbox's plan."""

    revision: int
    digest: str
    created_at: int


class TokenMinted(Model):
    """A token; a tunnel's comes with one that renews it."""

    token: str
    expires_at: int
    renewal_token: str | None = None
    renewal_expires_at: int | None = None


class BindingShown(Model):
    """A connection as a version of a profile uses it."""

    binding_id: str
    connection_id: str
    kind: Kind
    config: dict[str, JsonValue]
    created_at: int
    updated_at: int


class BindingsShown(Model):
    """All bindings of a version; `revision` counts their edits."""

    sandbox_profile_id: str
    version: int
    revision: int
    bindings: list[BindingShown]


class Compiled(Model):
    """What bindings compile to, and whether it was put in force for a sandbox that was named."""

    plan: PlanDocument
    sandbox_id: str | None = None
    revision: int | None = None
    digest: str | None = None
    changed: bool | None = None


class Simulated(Model):
    """What would become of recorded requests, those that change first."""

    items: list[Findings]
    changed: int


class RevocationShown(Model):
    """What is out of service, and until when; without an organization all that bear the id."""

    kind: str
    id: str
    until: int
    organization_id: str | None = None


class DenialShown(Denial):
    """An answer that a gateway made instead of the destination, and why."""

    gateway_id: str


class GatewayAsked(Model):
    """Whether a gateway has told its denials."""

    id: str
    state: Literal["asked", "away", "not_asked"]
    reason: str | None = None


class DenialsShown(Model):
    """The newest denials of a sandbox after a cursor, the oldest first."""

    items: list[DenialShown]
    next_cursor: str
    gateways: list[GatewayAsked]
