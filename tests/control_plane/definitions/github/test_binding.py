"""What a binding lets through, asked of the plan it compiles to, request by request."""

from typing import Any

import pytest
from pydantic import ValidationError

from control_plane.compiler.emit import emit
from control_plane.definitions.contract import BindingContext, Connection, FormContext, MethodKind, Nothing, Target
from control_plane.definitions.github import cloud, enterprise_server
from control_plane.definitions.github.binding import MAX_REPOSITORIES, BindingConfig, binding_form
from sallyport.plan.codec import parse_plan
from sallyport.plan.explain import explain
from sallyport.plan.match import AnswerKind
from tests.support.gateway_plans import plan

GIT = "https://github.com/acme/web"
API = "https://api.github.com"
SERVER = "https://ghe.example:8443"


def rule_of(method: str, url: str, **binding: object) -> str | None:
    """Return the key of the route that injects into a request, by a plan with this one binding."""
    definition, target = (
        (enterprise_server.DEFINITION, {"baseUrl": SERVER}) if SERVER in url else (cloud.DEFINITION, {})
    )
    context: Any = BindingContext(
        target=Target(key=definition.target_key, config=definition.target_config.model_validate(target)),
        connection=Connection(id="con_1", method=MethodKind.API_KEY, config=Nothing()),
        binding_id="bnd_1",
        config=BindingConfig.model_validate({"repositories": ["acme/web"], **binding}),
    )
    routes = emit(definition, context, definition.compile_binding(context)).egress_routes
    answer = explain(parse_plan(plan(routes)), method, url)
    if answer.decision is not AnswerKind.INJECT:
        return None
    assert answer.egress_rule_id is not None
    return answer.egress_rule_id.removeprefix("bnd_1.")


PULL = [
    ("GET", f"{GIT}.git/info/refs?service=git-upload-pack"),
    ("POST", f"{GIT}.git/git-upload-pack"),
    ("POST", f"{GIT}.git/info/lfs/objects/batch"),
    ("GET", f"{GIT}/info/refs?service=git-upload-pack"),
    ("POST", f"{GIT}/git-upload-pack"),
]
PUSH = [
    ("POST", f"{GIT}.git/git-receive-pack"),
    ("POST", f"{GIT}/git-receive-pack"),
    ("POST", f"{GIT}.git/info/lfs/locks"),
    ("POST", f"{GIT}.git/info/lfs/locks/verify"),
]


@pytest.mark.parametrize(("method", "url"), PULL)
@pytest.mark.parametrize("access", ["read", "write"])
def test_a_bound_repository_is_pulled_by_either_spelling(method: str, url: str, access: str) -> None:
    assert rule_of(method, url, access=access) == "git"


@pytest.mark.parametrize(("method", "url"), PUSH)
def test_only_a_binding_that_writes_pushes(method: str, url: str) -> None:
    assert rule_of(method, url, access="write") == "git"
    assert rule_of(method, url, access="read") is None


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", "https://github.com/acme/web2.git/info/refs"),
        ("GET", "https://github.com/acme/web.gitx/info/refs"),
        ("GET", "https://github.com/other/web.git/info/refs"),
        ("GET", "https://github.com/acme/Web.git/info/refs"),  # a plan reads case, though GitHub does not
        ("GET", GIT),
        ("GET", f"{GIT}/settings"),
        ("GET", f"{GIT}/archive/refs/heads/main.zip"),
        ("DELETE", f"{GIT}.git"),
        ("GET", "https://github.com:8443/acme/web.git/info/refs"),
        ("GET", f"{API}/repos/acme/web2"),
        ("GET", f"{API}/repos/acme"),
        ("GET", f"{API}/user"),
        ("GET", f"{API}/user/keys"),
        ("POST", f"{API}/graphql"),
        ("GET", "https://uploads.github.com/repos/acme/web/releases/1/assets"),
        ("POST", "https://uploads.github.com/repos/acme/api/releases/1/assets"),
    ],
)
def test_nothing_beside_the_bound_repositories_gets_the_credential(method: str, url: str) -> None:
    assert rule_of(method, url) is None


@pytest.mark.parametrize(
    ("method", "url", "api", "access", "expected"),
    [
        ("GET", "/repos/acme/web/issues", "repositories", "read", "api"),
        ("POST", "/repos/acme/web/issues", "repositories", "read", None),
        ("POST", "/repos/acme/web/issues", "repositories", "write", "api"),
        ("DELETE", "/repos/acme/web/git/refs/heads/x", "repositories", "write", "api"),
        ("POST", "/graphql", "full", "write", "api"),
        ("POST", "/graphql", "full", "read", None),
        ("GET", "/user", "full", "read", "api"),
        ("GET", "/repos/acme/web", "none", "write", None),
    ],
)
def test_the_api_is_as_wide_as_it_is_asked_for(
    method: str, url: str, api: str, access: str, expected: str | None
) -> None:
    assert rule_of(method, f"{API}{url}", api=api, access=access) == expected
    on_server = f"{SERVER}/api/graphql" if url == "/graphql" else f"{SERVER}/api/v3{url}"
    assert rule_of(method, on_server, api=api, access=access) == expected


def test_assets_are_uploaded_where_the_binding_writes() -> None:
    for url in (
        "https://uploads.github.com/repos/acme/web/releases/1/assets?name=a",
        f"{SERVER}/api/uploads/repos/acme/web/releases/1/assets?name=a",
    ):
        assert rule_of("POST", url) == "uploads"
        assert rule_of("POST", url, access="read") is None
        assert rule_of("POST", url, api="none") is None


def test_a_server_s_git_has_its_port() -> None:
    assert rule_of("POST", f"{SERVER}/acme/web.git/git-receive-pack") == "git"


@pytest.mark.parametrize(
    "members",
    [
        {"repositories": ["acme/web", "Acme/WEB"]},
        {"repositories": ["acme/web.git"]},
        {"repositories": ["https://github.com/acme/web"]},
        {"repositories": [f"acme/r{number}" for number in range(MAX_REPOSITORIES + 1)]},
        {"directory": "workspace"},
        {"directory": "/src/../etc"},
        {"directory": "/"},
        {"directory": "/src/"},
        {"access": "admin"},
        {"api": True},
    ],
)
def test_a_faulty_binding_is_refused(members: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BindingConfig.model_validate(members)


@pytest.mark.parametrize(
    ("method", "meaning"),
    [(MethodKind.API_KEY, "all that the token may"), (MethodKind.GITHUB_APP_INSTALLATION, "the bound repositories")],
)
def test_the_form_says_what_the_whole_api_is(method: MethodKind, meaning: str) -> None:
    connection = Connection(id="con_1", method=method, config=Nothing())
    fields = binding_form(FormContext(target=None, connection=connection, value={}))
    assert meaning in next(field.help for field in fields if field.name == "api")


def test_the_form_hides_what_plays_no_part() -> None:
    def hidden(value: dict[str, object]) -> set[str]:
        fields = binding_form(FormContext(target=None, connection=None, value=value))
        return {field.name for field in fields if field.hidden}

    assert hidden({}) == set()
    assert hidden({"api": "none"}) == {"cli"}
    assert hidden({"clone": False}) == {"directory"}
