"""AWS: services and regions of a list and a form, and a role assumed for a time within bounds."""

import re

import pytest
from pydantic import ValidationError

from control_plane.definitions.aws.default import (
    DEFINITION,
    KEY_ID_PLACEHOLDER,
    MAX_SESSION_NAME,
    SECRET_KEY_PLACEHOLDER,
    BindingConfig,
    ConnectionConfig,
    connection_form,
    session,
)
from control_plane.definitions.contract import Connection, FormContext, MethodKind, Nothing, ResolveContext, Target

ROLE = "arn:aws:iam::123456789012:role/agent"
BINDING: dict[str, object] = {"services": ["s3"], "regions": ["eu-west-1"]}


def context(
    config: dict[str, object], binding: dict[str, object] | None, connection_id: str = "con_1"
) -> ResolveContext[Nothing, ConnectionConfig, BindingConfig]:
    return ResolveContext(
        target=Target(key="aws-default", config=Nothing()),
        connection=Connection(
            id=connection_id, method=MethodKind.API_KEY, config=ConnectionConfig.model_validate(config)
        ),
        binding=None if binding is None else BindingConfig.model_validate(binding),
    )


def test_a_role_is_assumed_in_the_bindings_first_region() -> None:
    found = session(context({"roleArn": ROLE, "externalId": "x1", "durationSeconds": 43_200}, BINDING))
    assert (found.role_arn, found.external_id, found.duration_seconds) == (ROLE, "x1", 43_200)
    assert (found.sts_url, found.region) == ("https://sts.eu-west-1.amazonaws.com/", "eu-west-1")
    assert found.session_name == "sallyport-con_1"


def test_keys_without_a_role_are_used_as_they_are() -> None:
    assert session(context({}, BINDING)).role_arn is None


def test_outside_a_binding_the_region_is_one_that_every_account_has() -> None:
    assert session(context({"roleArn": ROLE}, None)).region == "us-east-1"


def test_a_session_is_named_as_aws_takes_it() -> None:
    name = session(context({"roleArn": ROLE}, BINDING, f"con_{'x' * 124}")).session_name
    assert len(name) == MAX_SESSION_NAME
    assert re.fullmatch(r"[\w+=,.@-]{2,64}", name, re.ASCII)


@pytest.mark.parametrize(
    "config",
    [
        {"durationSeconds": 899},
        {"durationSeconds": 43_201},
        {"durationSeconds": "900"},
        {"roleArn": "arn:aws:iam::123456789012:user/agent"},
        {"roleArn": "arn:aws:iam::12345:role/agent"},
        {"roleArn": f"{ROLE}\n"},
        {"roleArn": f"{ROLE}ü"},
        {"externalId": "x"},
        {"externalId": "a b"},
    ],
)
def test_a_faulty_role_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ConnectionConfig.model_validate(config)


@pytest.mark.parametrize(
    "binding",
    [
        {},
        BINDING | {"services": []},
        BINDING | {"services": ["s3", "s3"]},
        BINDING | {"services": ["evil.example"]},
        BINDING | {"services": ["elb"]},  # anybody's balancers
        BINDING | {"services": ["s3."]},
        BINDING | {"regions": []},
        BINDING | {"regions": ["eu-west-1", "eu-west-1"]},
        BINDING | {"regions": ["cn-north-1"]},
        BINDING | {"regions": ["us-gov-west-1"]},
        BINDING | {"regions": ["eu-west-1.evil"]},
    ],
)
def test_a_faulty_binding_is_refused(binding: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BindingConfig.model_validate(binding)


@pytest.mark.parametrize(("value", "hidden"), [({}, True), ({"roleArn": ROLE}, False)])
def test_what_only_a_role_has_is_asked_where_there_is_one(value: dict[str, object], hidden: bool) -> None:
    fields = connection_form(FormContext(target=None, connection=None, value=value))
    assert [field.hidden for field in fields] == [False, hidden, hidden]


def test_the_placeholders_look_like_keys() -> None:
    [method] = DEFINITION.connection_methods
    patterns = [secret.pattern or "" for secret in method.secrets]
    assert re.fullmatch(patterns[0], KEY_ID_PLACEHOLDER)
    assert re.fullmatch(patterns[1], SECRET_KEY_PLACEHOLDER)
