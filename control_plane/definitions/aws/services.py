"""Where services of AWS answer, and as what requests to them are signed.

From AWS's documentation: "AWS service endpoints" (SERVICE.REGION.amazonaws.com, and the services that are global),
"Create a signed AWS API request" (the scope names service and region), and from botocore's data the names by which
services are signed where their host says another. China and GovCloud are partitions of their own and not offered.
"""

from collections.abc import Mapping
from typing import Annotated, Final, NamedTuple

from pydantic import StringConstraints

DOMAIN: Final = "amazonaws.com"

# Regions are opened every year; they are all of this form, and one that is not there has no host.
Region = Annotated[str, StringConstraints(pattern=r"^(?:us|eu|ap|sa|ca|me|af|il|mx)-[a-z]{4,12}-[1-9]$")]


class Endpoint(NamedTuple):
    """A host, and the region and service a request to it is signed for."""

    host: str
    region: str
    service: str


# A service is called as its host is. Only what is listed: another's host below amazonaws.com may be anybody's.
REGIONAL: Final = frozenset(
    {
        *("acm", "acm-pca", "airflow", "amplify", "api.detective", "api.ecr", "api.pricing", "api.sagemaker"),
        *("apigateway", "appconfig", "appconfigdata", "application-autoscaling", "appsync", "athena", "autoscaling"),
        *("backup", "batch", "bedrock", "bedrock-agent", "bedrock-agent-runtime", "bedrock-agentcore"),
        *("bedrock-agentcore-control", "bedrock-runtime", "cassandra", "cloudcontrolapi", "cloudformation"),
        *("cloudtrail", "codeartifact", "codebuild", "codecommit", "codeconnections", "codedeploy", "codepipeline"),
        *("cognito-identity", "cognito-idp", "comprehend", "config", "connect", "data-ats.iot", "data.jobs.iot"),
        *("databrew", "dataexchange", "datasync", "dlm", "dms", "ds", "dynamodb", "ebs", "ec2", "ecs", "eks"),
        *("elasticache", "elasticbeanstalk", "elasticfilesystem", "elasticloadbalancing", "elasticmapreduce"),
        *("email", "emr-containers", "emr-serverless", "es", "events", "execute-api", "firehose", "fis", "forecast"),
        *("fsx", "glacier", "globalaccelerator", "glue", "grafana", "greengrass", "guardduty", "identitystore"),
        *("imagebuilder", "inspector2", "iot", "kafka", "kendra", "kinesis", "kinesisanalytics", "kinesisvideo"),
        *("kms", "lakeformation", "lambda", "lightsail", "logs", "macie2", "mediaconvert", "memory-db", "mgn"),
        *("monitoring", "mq", "oidc", "osis", "personalize", "pinpoint", "pipes", "polly", "portal.sso"),
        *("quicksight", "ram", "rds", "rds-data", "redshift", "redshift-data", "redshift-serverless", "rekognition"),
        *("resource-groups", "rolesanywhere", "route53resolver", "runtime.sagemaker", "s3", "s3-control", "s3tables"),
        *("scheduler", "schemas", "sdb", "secretsmanager", "securityhub", "serverlessrepo", "servicecatalog"),
        *("servicediscovery", "servicequotas", "snowball", "sns", "sqs", "ssm", "sso", "states", "storagegateway"),
        *("streams.dynamodb", "sts", "swf", "synthetics", "tagging", "textract", "transcribe", "transfer"),
        *("translate", "verifiedpermissions", "vpc-lattice", "wafv2", "wellarchitected", "workmail", "workspaces"),
        *("xray",),
    }
)

# Services with one endpoint for all regions, beside `sts`, which has regional ones too.
GLOBAL: Final[Mapping[str, Endpoint]] = {
    "account": Endpoint("account.us-east-1.amazonaws.com", "us-east-1", "account"),
    "budgets": Endpoint("budgets.amazonaws.com", "us-east-1", "budgets"),
    "ce": Endpoint("ce.us-east-1.amazonaws.com", "us-east-1", "ce"),
    "cloudfront": Endpoint("cloudfront.amazonaws.com", "us-east-1", "cloudfront"),
    "health": Endpoint("global.health.amazonaws.com", "us-east-1", "health"),
    "iam": Endpoint("iam.amazonaws.com", "us-east-1", "iam"),
    "networkmanager": Endpoint("networkmanager.us-west-2.amazonaws.com", "us-west-2", "networkmanager"),
    "organizations": Endpoint("organizations.us-east-1.amazonaws.com", "us-east-1", "organizations"),
    "route53": Endpoint("route53.amazonaws.com", "us-east-1", "route53"),
    "savingsplans": Endpoint("savingsplans.amazonaws.com", "us-east-1", "savingsplans"),
    "shield": Endpoint("shield.us-east-1.amazonaws.com", "us-east-1", "shield"),
    "sts": Endpoint("sts.amazonaws.com", "us-east-1", "sts"),
    "waf": Endpoint("waf.amazonaws.com", "us-east-1", "waf"),
}

# Signed by another name than the host's.
_SIGNED_AS: Final[Mapping[str, str]] = {
    "api.detective": "detective",
    "api.ecr": "ecr",
    "api.pricing": "pricing",
    "api.sagemaker": "sagemaker",
    "appconfigdata": "appconfig",
    "bedrock-agent": "bedrock",
    "bedrock-agent-runtime": "bedrock",
    "bedrock-agentcore-control": "bedrock-agentcore",
    "bedrock-runtime": "bedrock",
    "data-ats.iot": "iotdata",
    "data.jobs.iot": "iot-jobs-data",
    "email": "ses",
    "memory-db": "memorydb",
    "oidc": "sso-oauth",
    "pinpoint": "mobiletargeting",
    "portal.sso": "awsssoportal",
    "runtime.sagemaker": "sagemaker",
    "s3-control": "s3",
    "streams.dynamodb": "dynamodb",
}

SERVICES: Final = tuple(sorted(REGIONAL | set(GLOBAL)))


def regional_endpoint(service: str, region: str) -> Endpoint:
    """Return where a service answers in a region."""
    return Endpoint(f"{service}.{region}.{DOMAIN}", region, _SIGNED_AS.get(service, service))
