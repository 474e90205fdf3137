"""What an integration server is: where its program comes from, how it is spoken to, which secrets it is given.

A manifest never holds a secret, only where one is; it may be printed, stored and answered.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from sallyport.host import is_loopback
from worker.integrations.errors import IntegrationError, invalid

MAX_ARGUMENTS: Final = 64
MAX_VARIABLES: Final = 64

# It is a folder's name, a step of a path, and with `__` in it the name of a feed's entry.
INTEGRATION_ID: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"
IntegrationId = Annotated[str, StringConstraints(pattern=INTEGRATION_ID)]
# RFC 9110 tokens, and what a shell can name.
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")]
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
# No NUL: an argument ends there.
Text = Annotated[str, StringConstraints(max_length=4096, pattern=r"^[^\x00]*$")]
# A name and no option, path, URL or range: what an installer reads as anything else is not asked of it.
NpmName = Annotated[str, StringConstraints(pattern=r"^(@[a-z0-9][a-z0-9._-]{0,63}/)?[a-z0-9][a-z0-9._-]{0,127}$")]
PypiName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$")]
Version = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+!-]{0,63}$")]

# What decides whose code runs or whom it trusts belongs to the worker, and no manifest may set it.
RESERVED_VARIABLES: Final = ("LD_", "DYLD_", "SALLYPORT_")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class EnvironmentReference(_Strict):
    """A variable of the worker."""

    env: VariableName
    prefix: Text = ""


class FileReference(_Strict):
    """A file that the worker may read; one newline at its end is not part of the secret."""

    file: Annotated[str, StringConstraints(max_length=4096, pattern=r"^/[^\x00]*$")]
    prefix: Text = ""


class CredentialReference(_Strict):
    """A file of the worker's `integrations.credentials_dir`, by its name."""

    credential: IntegrationId
    prefix: Text = ""


type SecretReference = EnvironmentReference | FileReference | CredentialReference


class NpmPackage(_Strict):
    """A package of npm's registry."""

    registry: Literal["npm"]
    name: NpmName
    version: Version | None = None


class PypiPackage(_Strict):
    """A package of Python's."""

    registry: Literal["pypi"]
    name: PypiName
    version: Version | None = None


class OwnPackage(_Strict):
    """A server that comes with Sallyport (`worker/integrations/servers`) and needs no installation."""

    registry: Literal["own"]
    name: Literal["postgresql"]


type Package = Annotated[NpmPackage | PypiPackage | OwnPackage, Field(discriminator="registry")]


class StdioTransport(_Strict):
    """A program that speaks MCP on its standard input and output. Without a command it is the package's own."""

    type: Literal["stdio"]
    command: Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")] | None = None
    args: tuple[Text, ...] = Field(default=(), max_length=MAX_ARGUMENTS)


class HttpTransport(_Strict):
    """A server that runs elsewhere and speaks streamable HTTP."""

    type: Literal["streamable-http"]
    url: Text
    headers: dict[HeaderName, Text] = Field(default_factory=dict, max_length=MAX_VARIABLES)

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.hostname is None or parts.username is not None:
            raise ValueError("write http://host/path or https://host/path, without a user")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ValueError("cleartext off loopback: write https://")
        return url


class Manifest(_Strict):
    """One integration server. `secrets` are variables of a program, or headers sent to a URL."""

    id: IntegrationId
    description: Annotated[str, StringConstraints(max_length=1000)] = ""
    # Who may call it by the front. A server nobody thought about is not for everybody.
    tier: Literal["standard", "admin"] = "admin"
    package: Package | None = None
    transport: Annotated[StdioTransport | HttpTransport, Field(discriminator="type")]
    environment: dict[VariableName, Text] = Field(default_factory=dict, max_length=MAX_VARIABLES)
    secrets: dict[HeaderName, SecretReference] = Field(default_factory=dict, max_length=MAX_VARIABLES)

    @model_validator(mode="after")
    def _check_together(self) -> "Manifest":
        match self.transport:
            case HttpTransport():
                if self.package is not None or self.environment:
                    raise ValueError("a server at a URL has no package and no environment")
            case StdioTransport(command=None) if self.package is None:
                raise ValueError("without a package the transport needs a command")
            case StdioTransport():
                for name in (*self.environment, *self.secrets):
                    if name.upper().startswith(RESERVED_VARIABLES):
                        raise ValueError(f"the variable {name} is not a server's to set")
        return self


def read_manifest(document: Mapping[str, object]) -> Manifest:
    """Return the manifest a JSON object holds; raises IntegrationError with every issue and its pointer."""
    try:
        # Through JSON's own rules: tuples are lists there.
        return Manifest.model_validate(document, strict=False)
    except ValidationError as error:
        raise _refused(error) from None


def _refused(error: ValidationError) -> IntegrationError:
    # Without the input: what was meant as a reference may be a secret.
    issues = [
        {"pointer": "".join(f"/{step}" for step in fault["loc"]), "message": fault["msg"]}
        for fault in error.errors(include_input=False, include_url=False)
    ]
    return invalid("the manifest is not one", issues)
