"""AWS as a connector: services in regions, with requests that the gateway signs.

From AWS's documentation: "Create a signed AWS API request" (Signature Version 4), "AssumeRole" (900 to 43,200 seconds,
ExternalId, RoleSessionName), "IAM identifiers" (access keys of a user begin with AKIA; ARNs of roles), "Environment
variables to configure the AWS CLI", and of the reference of SDKs "AWS STS Regional endpoints" and "Amazon S3 regional
endpoint for us-east-1", which are both set so that programs go where the routes are.

A program in the sandbox has keys that are none, signs with them, and has its signature replaced.
"""

from typing import Annotated, Final

from pydantic import AfterValidator, Field, StringConstraints

from control_plane.definitions.aws.services import GLOBAL, REGIONAL, SERVICES, Endpoint, Region, regional_endpoint
from control_plane.definitions.contract import (
    AwsSession,
    BindingContext,
    Compiled,
    ConnectionMethod,
    Document,
    FormContext,
    FormField,
    IntegrationDefinition,
    Kind,
    MethodKind,
    Nothing,
    ResolveContext,
    Route,
    SecretField,
)
from control_plane.definitions.fields import distinct
from sallyport.plan.fields import Model, refusal
from sallyport.plan.issue_codes import IssueCode

SESSION_SECRET: Final = "aws_session"
ACCESS_KEY_ID: Final = "access_key_id"
SECRET_ACCESS_KEY: Final = "secret_access_key"
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
# Each service in each region is a route; a plan has 1,000.
MAX_SERVICES: Final = 32
MAX_REGIONS: Final = 16
# Keys in the form of AWS's own (20 and 40 characters), because its programs look at them.
KEY_ID_PLACEHOLDER: Final = "AKIASALLYPORTPLACEHO"
SECRET_KEY_PLACEHOLDER: Final = "SallyportPlaceholder" * 2
# Where STS is asked when no binding says which region matters: it is active in every account.
DEFAULT_REGION: Final = "us-east-1"
MAX_SESSION_NAME: Final = 64


def _check_service(name: str) -> str:
    if name not in SERVICES:
        raise refusal(IssueCode.UNKNOWN_VALUE, "no such service; it is named as its host begins, such as s3 or api.ecr")
    return name


def _check_distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if not distinct(names):
        raise refusal(IssueCode.MALFORMED, "each is named once")
    return names


RoleArn = Annotated[
    str, StringConstraints(max_length=700, pattern=r"^arn:aws:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+$")
]
ExternalId = Annotated[str, StringConstraints(max_length=1_224, pattern=r"^[A-Za-z0-9_+=,.@:/-]{2,}$")]


class ConnectionConfig(Model):
    """The role that is assumed with the connection's keys; without one they are used as they are."""

    role_arn: RoleArn | None = None
    external_id: ExternalId | None = None
    duration_seconds: Annotated[int, Field(ge=900, le=43_200)] = 3_600


class BindingConfig(Model):
    """The services, and the regions they may be used in; the first is the sandbox's own."""

    services: Annotated[
        tuple[Annotated[str, AfterValidator(_check_service)], ...],
        Field(strict=False, min_length=1, max_length=MAX_SERVICES),
        AfterValidator(_check_distinct),
    ]
    regions: Annotated[
        tuple[Region, ...],
        Field(strict=False, min_length=1, max_length=MAX_REGIONS),
        AfterValidator(_check_distinct),
    ]


type Context = BindingContext[Nothing, ConnectionConfig, BindingConfig]


def compile_binding(context: Context) -> Compiled:
    """One route for each service in each region, one for what is global, and keys that start AWS's programs."""
    config = context.config
    routes = [
        _route(f"{service}.{region}", regional_endpoint(service, region), with_subdomains=True)
        for service in config.services
        if service in REGIONAL
        for region in config.regions
    ]
    routes += [
        _route(service, GLOBAL[service], with_subdomains=False) for service in config.services if service in GLOBAL
    ]
    region = config.regions[0]
    keys: Document = {
        "artifactKey": "aws",
        "name": "AWS",
        "after": [],
        "env": {
            "AWS_ACCESS_KEY_ID": KEY_ID_PLACEHOLDER,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY_PLACEHOLDER,
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            # There is no instance to be asked, and asking costs every program seconds.
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_STS_REGIONAL_ENDPOINTS": "regional",
            "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "regional",
        },
        "lifecycle": {"install": []},
    }
    return Compiled(routes=routes, artifacts=[keys])


def _route(key: str, endpoint: Endpoint, *, with_subdomains: bool) -> Route:
    return Route(
        key=key,
        hosts=[endpoint.host, f"*.{endpoint.host}"] if with_subdomains else [endpoint.host],
        methods=METHODS,
        # A bucket's name, an account's id and an API's id stand before the service's host; paths say nothing.
        path_prefixes=["/"],
        auth_injection={"type": "aws_sigv4", "region": endpoint.region, "service": endpoint.service},
    )


def session(context: ResolveContext[Nothing, ConnectionConfig, BindingConfig]) -> AwsSession:
    """The connection's own keys, or its role's, asked for in the binding's first region."""
    config = context.connection.config
    region = DEFAULT_REGION if context.binding is None else context.binding.regions[0]
    return AwsSession(
        role_arn=config.role_arn,
        external_id=config.external_id,
        # Seen in CloudTrail: whose request it was.
        session_name=f"sallyport-{context.connection.id}"[:MAX_SESSION_NAME],
        duration_seconds=config.duration_seconds,
        sts_url=f"https://sts.{region}.amazonaws.com/",
        region=region,
    )


def connection_form(context: FormContext[Nothing, ConnectionConfig]) -> list[FormField]:
    """What only a role has is asked where there is one."""
    has_role = bool(context.value.get("roleArn"))
    return [
        FormField(name="roleArn", label="Role", help="Its ARN. Assumed with the keys, which then need no other right."),
        FormField(name="externalId", label="External ID", help="What its trust policy asks for.", hidden=not has_role),
        FormField(
            name="durationSeconds",
            label="Duration",
            widget="number",
            help="900 to 43200 seconds; as long as the role allows.",
            hidden=not has_role,
        ),
    ]


def binding_form(context: FormContext[Nothing, ConnectionConfig]) -> list[FormField]:
    """Services are chosen of a list; regions are too many and too new for one."""
    return [
        FormField(
            name="services",
            label="Services",
            widget="list",
            choices=SERVICES,
            help="As their hosts begin: s3, api.ecr, bedrock-runtime.",
        ),
        FormField(
            name="regions", label="Regions", widget="list", help="Such as eu-west-1; the first is the sandbox's."
        ),
    ]


DEFINITION: Final = IntegrationDefinition(
    family_id="aws",
    variant_id="aws-default",
    kind=Kind.CONNECTOR,
    display_name="AWS",
    description="Services of an AWS account, with requests signed outside the sandbox.",
    logo_key="aws",
    target_config=Nothing,
    target_secrets=Nothing,
    connection_config=ConnectionConfig,
    binding_config=BindingConfig,
    connection_form=connection_form,
    binding_form=binding_form,
    connection_methods=[
        ConnectionMethod(
            kind=MethodKind.API_KEY,
            label="Access key",
            secret_type=SESSION_SECRET,
            secrets=[
                SecretField(
                    secret_type=ACCESS_KEY_ID,
                    label="Access key ID",
                    help="Of a user who may do little, or only assume the role.",
                    pattern=r"AKIA[A-Z2-7]{16}",
                ),
                SecretField(secret_type=SECRET_ACCESS_KEY, label="Secret access key", pattern=r"[A-Za-z0-9/+=]{40}"),
            ],
        )
    ],
    credential_resolvers={SESSION_SECRET: session},
    compile_binding=compile_binding,
)
