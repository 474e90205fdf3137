"""Where things are: at github.com by fixed hosts, at an Enterprise Server by paths of one host.

From GitHub's documentation: REST API, "Getting started" (api.github.com; `/api/v3` on a server), GraphQL, "Forming
calls" (`/graphql`; `/api/graphql` on a server), releases' `upload_url` (uploads.github.com; `/api/uploads` on a
server), and "Installing your own GitHub App" (`/apps/NAME`; `/github-apps/NAME` on a server).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import AfterValidator, StringConstraints

from sallyport.plan.fields import BaseUrl, Model, read_base_url, refusal
from sallyport.plan.issue_codes import IssueCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """One host with an API: everything of it is below `everything` (None: the whole host), REST below `rest`."""

    host: str
    ports: Sequence[int] | None
    rest: str
    everything: Sequence[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One GitHub. `web_url` is where git and people go, `rest_url` what a path of the REST API is appended to."""

    web_url: str
    web_host: str
    web_ports: Sequence[int] | None
    rest_url: str
    api: Api
    uploads: Api
    app_pages: str


GITHUB_COM: Final = Site(
    web_url="https://github.com",
    web_host="github.com",
    web_ports=None,
    rest_url="https://api.github.com",
    api=Api(host="api.github.com", ports=None, rest="", everything=None),
    uploads=Api(host="uploads.github.com", ports=None, rest="", everything=None),
    app_pages="apps",
)


def server_site(base_url: str) -> Site:
    """Return the site of an Enterprise Server by its base URL."""
    destination = read_base_url(base_url)
    host, ports = destination.host, (None if destination.port == 443 else (destination.port,))
    return Site(
        web_url=destination.origin,
        web_host=host,
        web_ports=ports,
        rest_url=f"{destination.origin}/api/v3",
        api=Api(host=host, ports=ports, rest="/api/v3", everything=("/api/v3", "/api/graphql")),
        uploads=Api(host=host, ports=ports, rest="/api/uploads", everything=("/api/uploads",)),
        app_pages="github-apps",
    )


def _check_https(base_url: str) -> str:
    if read_base_url(base_url).scheme != "https":
        raise refusal(IssueCode.INVALID_URL, "a server is reached by https")
    return base_url


class TargetConfig(Model):
    """A target at github.com. `app_slug` is the name of the operator's App in its URL, where there is one."""

    app_slug: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,99}$")] | None = None

    @property
    def site(self) -> Site:
        """Where this GitHub is."""
        return GITHUB_COM


class ServerTargetConfig(TargetConfig):
    """A target at an Enterprise Server."""

    base_url: Annotated[BaseUrl, AfterValidator(_check_https)]

    @property
    def site(self) -> Site:
        """Where this GitHub is."""
        return server_site(self.base_url)
