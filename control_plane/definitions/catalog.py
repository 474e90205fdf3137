"""The definitions that come with Sallyport."""

from typing import Final

from control_plane.definitions.anthropic import default as anthropic
from control_plane.definitions.atlassian import default as atlassian
from control_plane.definitions.aws import default as aws
from control_plane.definitions.contract import AnyDefinition
from control_plane.definitions.github import cloud, enterprise_server
from control_plane.definitions.linear import default as linear
from control_plane.definitions.notion import default as notion
from control_plane.definitions.openai import default as openai
from control_plane.definitions.slack import default as slack

CATALOG: Final[tuple[AnyDefinition, ...]] = (
    anthropic.DEFINITION,
    atlassian.DEFINITION,
    aws.DEFINITION,
    cloud.DEFINITION,
    enterprise_server.DEFINITION,
    linear.DEFINITION,
    notion.DEFINITION,
    openai.DEFINITION,
    slack.DEFINITION,
)
