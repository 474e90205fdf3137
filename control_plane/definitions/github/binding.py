"""What a binding of repositories compiles to: git, the API as far as it is wanted, the CLI, the clones.

From GitHub's documentation: "About authentication to GitHub", "HTTPS" (a token is the password, and x-access-token the
username of an App's); git's documentation: gitprotocol-http (`/info/refs`, `/git-upload-pack`, `/git-receive-pack`);
Git LFS: server-discovery.md (`.git/info/lfs` is appended to a remote with and without .git), batch.md, locking.md; `gh
help environment` (GH_TOKEN; GH_ENTERPRISE_TOKEN and GH_HOST for a server).

*Git.* A remote is written with and without `.git`, so both are claimed: with it the whole of the repository's prefix,
without it only what git asks for, because the rest of that prefix are web pages. A binding that only reads leaves out
git-receive-pack and LFS locks. It has LFS' batch, which also announces uploads: there the path does not tell reading
from writing, and only the token can. Objects of LFS are then fetched from storage hosts by signed URLs, without a
credential.

*Names.* GitHub reads paths in any case, a plan does not: a repository is reached as it is spelled in the binding.

*The API.* `repositories` claims `/repos/OWNER/NAME` of each, reading by GET alone. `full` claims the whole API,
GraphQL too, which most commands of gh need: with an App that is as narrow, because its token is, with a personal
access token it is all that the token may. Reading leaves GraphQL out, where a POST may write.

git itself is given no credential and never asks for one: it would only after a 401, which the gateway prevents. Where
a repository is not bound it fails, instead of waiting for someone to type.
"""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from control_plane.definitions.contract import (
    BindingContext,
    Compiled,
    Document,
    FormContext,
    FormField,
    MethodKind,
    Route,
)
from control_plane.definitions.fields import Directory, Repository, distinct
from control_plane.definitions.github.site import GITHUB_COM, Api, Site, TargetConfig
from sallyport.plan.fields import Model, refusal
from sallyport.plan.issue_codes import IssueCode

# As many as a sandbox clones (sallyport/setup.py).
MAX_REPOSITORIES: Final = 32
# As long as a classic token and of its characters, because tools look at both; the same for an App's, so that bindings
# of both agree on the variable.
TOKEN_PLACEHOLDER: Final = f"ghp_{'SallyportPlaceholder':0<36}"
INSTALL_MS: Final = 300_000
# Of an image without gh Debian's is taken: its archive is what such images are made of.
_INSTALL_GH: Final = "gh --version || { apt-get update && apt-get install --yes --no-install-recommends gh; }"


def _check_distinct(repositories: tuple[str, ...]) -> tuple[str, ...]:
    if not distinct(repositories):
        raise refusal(IssueCode.MALFORMED, "a repository is bound once, in one spelling of its letters")
    return repositories


class BindingConfig(Model):
    """The repositories, what the sandbox may do with them, and where they are cloned: DIRECTORY/OWNER/NAME.

    `cli` installs gh where the image lacks it, which needs root, Debian's archive, and a plan that lets it be reached.
    """

    repositories: Annotated[
        tuple[Repository, ...], Field(strict=False, max_length=MAX_REPOSITORIES), AfterValidator(_check_distinct)
    ] = ()
    access: Literal["read", "write"] = "write"
    api: Literal["repositories", "full", "none"] = "repositories"
    cli: bool = False
    clone: bool = True
    directory: Directory = "/workspace"


def compile_binding(context: BindingContext[TargetConfig, Model, BindingConfig]) -> Compiled:
    """Nothing without repositories."""
    site, config = context.target.config.site, context.config
    if not config.repositories:
        return Compiled()
    routes = [_git_route(site, config)]
    if config.api != "none":
        routes.append(_api_route("api", site.api, config))
    if config.api != "none" and config.access == "write":
        routes.append(_api_route("uploads", site.uploads, config))
    return Compiled(
        routes=routes,
        artifacts=_artifacts(site, context.target.key, config),
        workspace_sources=[
            {
                "sourceKind": "git-clone",
                "path": f"{config.directory}/{repository}",
                "originUrl": f"{site.web_url}/{repository}.git",
            }
            for repository in (config.repositories if config.clone else ())
        ],
    )


def _git_route(site: Site, config: BindingConfig) -> Route:
    bare: tuple[str, ...] = ("/info/refs", "/git-upload-pack", "/git-receive-pack")
    with_git: tuple[str, ...] = ("",)
    if config.access == "read":
        bare = ("/info/refs", "/git-upload-pack")
        with_git = (*bare, "/info/lfs/objects/batch")
    return Route(
        key="git",
        hosts=[site.web_host],
        ports=site.web_ports,
        methods=["GET", "POST"],
        path_prefixes=[
            prefix
            for repository in config.repositories
            for prefix in (
                *(f"/{repository}.git{end}" for end in with_git),
                *(f"/{repository}{end}" for end in bare),
            )
        ],
        auth_injection={"type": "basic", "username": "x-access-token"},
    )


def _api_route(key: str, api: Api, config: BindingConfig) -> Route:
    methods = ["GET"] if config.access == "read" else ["GET", "POST", "PUT", "PATCH", "DELETE"]
    narrowed = [f"{api.rest}/repos/{repository}" for repository in config.repositories]
    return Route(
        key=key,
        hosts=[api.host],
        ports=api.ports,
        methods=["POST"] if key == "uploads" else methods,
        path_prefixes=narrowed if config.api == "repositories" else api.everything,
        auth_injection={"type": "bearer"},
        placeholders=[{"value": TOKEN_PLACEHOLDER, "in": ["header"]}],
    )


def _artifacts(site: Site, target_key: str, config: BindingConfig) -> list[Document]:
    """Variables for every program, and gh. Bindings of one target agree on them."""
    git: Document = {
        "artifactKey": "git",
        "name": "git",
        "after": [],
        "env": {"GIT_TERMINAL_PROMPT": "0"},
        "lifecycle": {"install": []},
    }
    if config.api == "none":
        return [git]
    token: Document = {
        "artifactKey": f"gh-token-{target_key}",
        "name": "A token for gh",
        "after": [],
        "env": _gh_variables(site),
        "lifecycle": {"install": []},
    }
    # In its turn: Debian's tools work one at a time, and another artifact may call them.
    gh: Document = {
        "artifactKey": "gh",
        "name": "gh",
        "lifecycle": {"install": [{"op": "exec", "args": ["sh", "-c", _INSTALL_GH], "timeoutMs": INSTALL_MS}]},
    }
    return [git, token, gh] if config.cli else [git, token]


def _gh_variables(site: Site) -> dict[str, str]:
    if site is GITHUB_COM:
        return {"GH_TOKEN": TOKEN_PLACEHOLDER}
    return {"GH_ENTERPRISE_TOKEN": TOKEN_PLACEHOLDER, "GH_HOST": site.web_url.removeprefix("https://")}


def binding_form(context: FormContext[TargetConfig, Model]) -> list[FormField]:
    """What `full` means depends on the connection; gh is offered where it has an API."""
    by_app = context.connection is not None and context.connection.method is MethodKind.GITHUB_APP_INSTALLATION
    bound = "the bound repositories, as its token is" if by_app else "all that the token may, bound or not"
    has_api = context.value.get("api", "repositories") != "none"
    return [
        FormField(name="repositories", label="Repositories", widget="list", help="owner/name, spelled as you use it."),
        FormField(
            name="access",
            label="Access",
            widget="select",
            choices=("read", "write"),
            help="Reading leaves out pushes, and all of the API but GET.",
        ),
        FormField(
            name="api",
            label="API",
            widget="select",
            choices=("repositories", "full", "none"),
            help=f"The REST API of the bound repositories, or the whole API with GraphQL: {bound}.",
        ),
        FormField(name="cli", label="Install gh where it is missing", widget="checkbox", hidden=not has_api),
        FormField(name="clone", label="Clone the repositories", widget="checkbox"),
        FormField(
            name="directory",
            label="Directory",
            help="Repositories are cloned to DIRECTORY/OWNER/NAME.",
            hidden=context.value.get("clone") is False,
        ),
    ]
