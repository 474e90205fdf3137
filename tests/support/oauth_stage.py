"""An integration that is connected in every way, and what connects it, by a clock of a test's own.

Its provider is tests.support.authorization_server.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from ipaddress import ip_network
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import orjson
from sqlalchemy import delete

from control_plane import sandboxes
from control_plane.authorizations import AuthorizationDesk, Wanted
from control_plane.config import ControlPlaneConfig
from control_plane.connections import ConnectionDesk, Typed
from control_plane.definitions.contract import (
    AnyDefinition,
    AuthorizationRequest,
    AwsSession,
    Compiled,
    ConfigToProve,
    ConnectionMethod,
    CredentialSource,
    Document,
    GitHubInstallationToken,
    Grant,
    IntegrationDefinition,
    Issue,
    Kind,
    MethodKind,
    OAuth2Access,
    OAuth2AuthorizationCode,
    OAuth2ClientCredentials,
    OAuthContext,
    RedirectHandler,
    ResolveContext,
    SecretField,
    TokenCall,
)
from control_plane.definitions.fields import FromProvider, Repository, SecretPem, SecretText
from control_plane.definitions.registry import Registry
from control_plane.foundation import Foundation, foundation
from control_plane.keeper import CredentialKeeper
from control_plane.oauth.provider_session import ProviderSession
from control_plane.offered import target_secret_place
from control_plane.plans import PlanDesk
from control_plane.resolution import Resolver
from control_plane.resolution import Wanted as WantedCredential
from control_plane.store.database import Database
from control_plane.store.models import Binding, Connection, Credential, Profile, ProfileVersion, Target, TargetSecret
from control_plane.vault.envelope import Vault
from sallyport.address_policy import AddressPolicy
from sallyport.net.dial import Dialer
from sallyport.net.resolve import Resolver as NameResolver
from sallyport.net.tls import client_context
from sallyport.plan.fields import Listed, Model, Text
from sallyport.secret import Secret
from tests.support.authorization_server import (
    APP_ID,
    APP_KEY_PEM,
    CLIENT_ID,
    CLIENT_SECRET,
    AuthorizationServer,
)
from tests.support.control_plane import CONNECTION, NOW, ORGANIZATION, SANDBOX, sealed_plan
from tests.support.plan_documents import route_document

VARIANT = "acme-default"
OAUTH, CLIENT, APP, AWS, KEY = "oauth2_access_token", "client_token", "installation_token", "aws_session", "api_key"
PUBLIC_URL = "https://sallyport.test"
BINDING = "bnd_one"


class TargetConfig(Model):
    """Where the provider is."""

    base_url: Text


class TargetSecrets(Model):
    """The operator's client and App."""

    client_id: SecretText | None = None
    client_secret: SecretText | None = None
    app_id: SecretText | None = None
    private_key: SecretPem | None = None


class Config(Model):
    """What a connection of any method may have."""

    scopes: Listed[Text] | None = None
    workspace: Annotated[Text | None, FromProvider] = None
    note: Text | None = None
    client_id: Text | None = None
    installation_id: Text | None = None
    role_arn: Text | None = None


class Bound(Model):
    """Repositories of a binding."""

    repositories: Listed[Repository] = ()


type Context = OAuthContext[TargetConfig, Config]
type Resolving = ResolveContext[TargetConfig, Config, Bound]


def _installation(context: Resolving) -> CredentialSource:
    return GitHubInstallationToken(
        api_base_url=context.target.config.base_url,
        installation_id=context.connection.config.installation_id or "",
        app_id="app_id",
        private_key="private_key",
        repositories=context.binding.repositories if context.binding is not None else (),
        permissions={"contents": "read"},
    )


def _aws(context: Resolving) -> CredentialSource:
    return AwsSession(
        role_arn=context.connection.config.role_arn,
        external_id="external",
        session_name="sallyport",
        duration_seconds=900,
        sts_url=context.target.config.base_url + "/",
        region="eu-central-1",
    )


def _token_call(context: Context) -> TokenCall:
    return TokenCall(url=context.target.config.base_url + "/token")


def _complete_redirect(context: Context, query: Mapping[str, str]) -> Document | ConfigToProve | Sequence[Issue]:
    found = query.get("installation_id")
    if found is None or not found.isdecimal():
        return [Issue("acme.no_installation", "/installation_id", "no installation came back")]
    if "code" not in query:
        return {"installationId": found}
    base = context.target.config.base_url
    token = TokenCall(url=f"{base}/token", client_authentication="post")
    url = f"{base}/user/installations/{found}"
    return ConfigToProve(config={"installationId": found}, code=query["code"], token=token, url=url)


def _fields(*types: str, pattern: str | None = None) -> list[SecretField]:
    return [SecretField(secret_type=each, label=each, pattern=pattern) for each in types]


def acme(**changes: Any) -> AnyDefinition:  # noqa: ANN401  whatever a definition has
    """Return the definition."""
    given: dict[str, Any] = {
        "family_id": "acme",
        "variant_id": VARIANT,
        "kind": Kind.CONNECTOR,
        "display_name": "Acme",
        "description": "Everything at once.",
        "logo_key": "acme",
        "target_config": TargetConfig,
        "target_secrets": TargetSecrets,
        "connection_config": Config,
        "binding_config": Bound,
        "connection_methods": [
            ConnectionMethod(
                kind=MethodKind.API_KEY,
                label="Key",
                secret_type=KEY,
                secrets=[*_fields(KEY, pattern="key-[a-z]+"), *_more_keys()],
            ),
            ConnectionMethod(
                kind=MethodKind.OAUTH2_AUTHORIZATION_CODE,
                label="OAuth",
                secret_type=OAUTH,
                requires=("client_id", "client_secret"),
            ),
            ConnectionMethod(
                kind=MethodKind.OAUTH2_CLIENT_CREDENTIALS,
                label="Client",
                secret_type=CLIENT,
                secrets=_fields("client_secret"),
            ),
            ConnectionMethod(kind=MethodKind.GITHUB_APP_INSTALLATION, label="App", secret_type=APP),
        ],
        "compile_binding": lambda context: Compiled(),
        "credential_resolvers": {
            OAUTH: lambda context: OAuth2Access(),
            CLIENT: lambda context: OAuth2Access(),
            APP: _installation,
            AWS: _aws,
        },
        "oauth2_authorization_code": OAuth2AuthorizationCode(
            start_authorization=lambda context: AuthorizationRequest(
                url=context.target.config.base_url + "/authorize?v=2",
                scopes=context.config.scopes or ("read", "write"),
                parameters={"prompt": "consent", "state": "never this"},
            ),
            complete_authorization_code_grant=_token_call,
            refresh_access_token=_token_call,
            read_grant=lambda answer: Grant(config={"workspace": answer["workspace"]} if "workspace" in answer else {}),
        ),
        "oauth2_client_credentials": OAuth2ClientCredentials(
            exchange_client_credentials=_token_call,
            client_id=lambda config: config.client_id or "",
            scopes=lambda context: context.config.scopes or (),
        ),
        "redirect_handler": RedirectHandler(
            start=lambda context: context.target.config.base_url + "/install",
            complete=_complete_redirect,
            state_parameter="custom_state",
        ),
    }
    return IntegrationDefinition(**(given | changes))


def _more_keys() -> list[SecretField]:
    names = ("access_key_id", "secret_access_key", "app_id", "private_key")
    return [SecretField(secret_type=each, label=each, required=False) for each in names]


def typed(value: str, secret_type: str = KEY, slot_key: str = "") -> Typed:
    """Return a secret as if a member had typed it in."""
    pointer = f"/secrets/{secret_type}"
    return Typed(secret_type, slot_key, Secret(value.encode()), pointer, pointer)


async def offer_target(
    database: Database, vault: Vault, base_url: str, *, key: str = VARIANT, enabled: bool = True, secrets: bool = True
) -> None:
    """Make the target, as an operator would."""
    values = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "app_id": APP_ID, "private_key": APP_KEY_PEM}
    async with database.write() as tx:
        await tx.run(delete(Target).where(Target.key == key))  # that of a control plane which runs
        await tx.add(
            Target(
                key=key,
                family_id="acme",
                variant_id=VARIANT,
                enabled=enabled,
                config=orjson.dumps({"baseUrl": base_url}).decode(),
                display_name=None,
                description=None,
                logo_key=None,
                revision=1,
                created_at=1,
                updated_at=1,
            )
        )
        for name, value in values.items() if secrets else ():
            sealed = await vault.seal(tx, target_secret_place(key, name), Secret(value.encode()))
            await tx.add(TargetSecret(target_key=key, name=name, value=sealed, updated_at=1))


async def offer_target_of(config: ControlPlaneConfig, base_url: str) -> None:
    """Make the target in the database of a control plane that runs."""
    async with foundation(config, now=NOW, prepare=False) as base:
        await offer_target(base.database, base.vault, base_url)


class OAuthStage:
    """The parts, by one clock; `elsewhere` is a second replica on the same database."""

    def __init__(self, base: Foundation, server: AuthorizationServer, *, owner: str = "replica-1") -> None:
        self.base = base
        self.server = server
        self.now = NOW
        self.registry = registry = Registry([acme()])
        database, vault = base.database, base.vault
        policy = AddressPolicy(allow=(ip_network("127.0.0.0/8"),))
        self.session = ProviderSession(Dialer(policy, NameResolver()), client_context(str(server.ca_file)))
        self.keeper = CredentialKeeper(database, vault, registry, self.session, lambda: self.now, owner)
        self.desk = ConnectionDesk(database, vault, registry)
        self.authorizations = AuthorizationDesk(database, vault, registry, self.session, PUBLIC_URL)
        self.resolver = Resolver(database, vault, registry, self.keeper)

    # What a member does -----------------------------------------------------------------------------------------------

    async def authorize(self, connection_id: str | None = None) -> dict[str, Any]:
        """Go to the provider and back."""
        state, code = await self.visit(connection_id)
        return await self.authorizations.complete_oauth(state, code, self.now)

    async def visit(self, connection_id: str | None = None) -> tuple[str, str]:
        """Go to the provider; return the state and the code it gives."""
        wanted = Wanted(VARIANT, ORGANIZATION, None, None, connection_id, "cli")
        started = await self.authorizations.start_oauth(wanted, self.now)
        query = await browse(self.server, str(started["authorizationUrl"]))
        return query["state"], query.get("code", "")

    async def connect(self, method: MethodKind, *secrets: Typed, **config: str) -> str:
        """Make the connection CONNECTION by typed secrets."""
        given: dict[str, Any] = {"config": config, "connection_id": CONNECTION, "for_operator": False}
        await self.desk.add(VARIANT, ORGANIZATION, method, secrets, **given, now=self.now)
        return CONNECTION

    # What an operator does --------------------------------------------------------------------------------------------

    async def use(self, connection_id: str, secret_type: str, *repositories: str, sandbox_id: str = SANDBOX) -> None:
        """Make a sandbox whose plan uses a credential, with a binding behind it."""
        database = self.base.database
        how = {"kind": "integration_connection", "connectionId": connection_id, "secretType": secret_type}
        await sandboxes.create_sandbox(
            database, ORGANIZATION, sandbox_id=sandbox_id, profile_id=None, version=None, now=self.now
        )
        binding = f"bnd_{sandbox_id}"
        route = route_document(credentialResolver=how, bindingId=binding)
        await PlanDesk(database).put(sandbox_id, sealed_plan(sandbox_id=sandbox_id, routes=[route]), self.now)
        async with database.write() as tx:
            profile = f"sbp_{sandbox_id}"
            await tx.add(Profile(id=profile, organization_id=ORGANIZATION, display_name=None, created_at=1))
            await tx.add(ProfileVersion(profile_id=profile, version=1, image=None, egress=None, created_at=1))
            config = orjson.dumps({"repositories": list(repositories)}).decode()
            row = Binding(id=binding, profile_id=profile, version=1, position=0, connection_id=connection_id)
            row.kind, row.config, row.created_at, row.updated_at = "connector", config, 1, 1
            await tx.add(row)

    async def resolve(self, connection_id: str, secret_type: str, sandbox_id: str = SANDBOX) -> dict[str, Any]:
        """Resolve as a gateway would."""
        binding = f"bnd_{sandbox_id}"
        wanted = WantedCredential(sandbox_id, 1, "route", binding, connection_id, secret_type, None, None)
        return dict(orjson.loads(await self.resolver.resolve(wanted, "gateway", self.now)))

    # What a test looks at ---------------------------------------------------------------------------------------------

    async def connection(self, connection_id: str) -> Connection:
        """Return a connection's row."""
        async with self.base.database.read() as tx:
            found = await tx.get(Connection, connection_id)
        assert found is not None
        return found

    async def kept(self, connection_id: str, secret_type: str, slot_key: str = "") -> Credential:
        """Return a credential's row."""
        async with self.base.database.read() as tx:
            found = await tx.get(Credential, (connection_id, secret_type, slot_key))
        assert found is not None
        return found


async def browse(server: AuthorizationServer, url: str) -> dict[str, str]:
    """Open a provider's page as a browser does; return what it sends back with."""
    async with httpx.AsyncClient(verify=client_context(str(server.ca_file)), trust_env=False) as browser:
        answer = await browser.get(url)
    assert answer.status_code == 302, answer.text
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    return {name: values[0] for name, values in query.items()}


def bare_desk(base: Foundation) -> ConnectionDesk:
    """Return a desk that knows no definition."""
    return ConnectionDesk(base.database, base.vault, Registry([]))


def bare_resolver(base: Foundation) -> Resolver:
    """Return a resolver of what is stored: it asks no provider."""
    registry = Registry([])
    asking = _AsksNobody()
    keeper = CredentialKeeper(base.database, base.vault, registry, asking, lambda: NOW, "replica")
    return Resolver(base.database, base.vault, registry, keeper)


class _AsksNobody(ProviderSession):
    def __init__(self) -> None:
        """Open nothing."""


@contextlib.asynccontextmanager
async def oauth_stage(base: Foundation, server: AuthorizationServer) -> AsyncIterator[OAuthStage]:
    """Put the parts together, with the target offered."""
    stage = OAuthStage(base, server)
    server.now = lambda: stage.now
    await offer_target(base.database, base.vault, server.url)
    try:
        yield stage
    finally:
        await stage.session.close()
