"""A sandbox that runs follows its bindings: what was refused is injected within seconds, and the other way round.

Every part is a process of its own. Both ways in: the explicit listener, and a tunnel with sandboxd.
"""

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo.certificates import write_origin_files
from tests.support.background import in_background
from tests.support.bound_versions import LINEAR, LINEAR_CONNECTION, LINEAR_KEY
from tests.support.figures import figure
from tests.support.gateway_plans import ORGANIZATION, plan
from tests.support.gateway_process import Setting
from tests.support.load_origin import load_origin
from tests.support.operator import Operator
from tests.support.sandbox_program import ConnectRefused, Program
from tests.support.sandboxd_process import sandboxd_process
from tests.support.up_process import UpProcess, up_process

pytestmark = pytest.mark.timeout(120)

HOST = "api.linear.app"
WAIT_SECONDS = 20.0
INJECTED = (200, "linear")
DENIED = (403, "denied_by_plan")
WITHHELD = (502, "credential_unavailable")
BINDING: dict[str, object] = {"connectionId": LINEAR_CONNECTION, "kind": "connector", "config": {}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Every part but sandboxd, an origin that plays Linear, and a connection to it."""

    up: UpProcess
    operator: Operator
    folder: Path

    def document(self, sandbox_id: str) -> dict[str, Any]:
        return self.operator.session.get(f"/v1/sandboxes/{sandbox_id}")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("bindings")
    files = write_origin_files(folder, [HOST])
    with ExitStack() as stack:
        origin = stack.enter_context(in_background(load_origin({LINEAR_KEY: "linear"}, files.server_context())))
        setting = Setting(plan=plan([]), connect_to={f"{HOST}:443": f"127.0.0.1:{origin.port}"}, ca_file=files.ca_file)
        up = stack.enter_context(up_process(folder / "up", setting, "--no-sandbox"))
        scene = Scene(up=up, operator=Operator(up), folder=folder)
        set_target(scene, enabled=True)
        scene.operator.session.post(
            f"/v1/integration/connections/{LINEAR}/api-key",
            {
                "organizationId": ORGANIZATION,
                "connectionId": LINEAR_CONNECTION,
                "secretType": "api_key",
                "value": LINEAR_KEY,
            },
        )
        yield scene


def set_target(scene: Scene, *, enabled: bool) -> None:
    """Enable or disable the target, as an operator does."""
    session, path = scene.operator.session, f"/v1/integration/targets/{LINEAR}"
    change = {"revision": session.get(path)["revision"], "enabled": enabled}
    session.ask("PATCH", path, json.dumps(change).encode())


def until(condition: Callable[[], bool], what: str) -> float:
    """Wait, and return for how long."""
    began = time.perf_counter()
    while not condition():
        assert time.perf_counter() < began + WAIT_SECONDS, f"no {what}"
        time.sleep(0.05)
    return time.perf_counter() - began


@pytest.mark.parametrize("way", [pytest.param("explicit", marks=pytest.mark.full), "tunnel"])
def test_a_running_sandbox_follows_its_bindings(scene: Scene, way: str) -> None:
    operator, sandbox_id = scene.operator, f"sbx_{way}"
    version = operator.make_profile(ORGANIZATION)
    operator.bind(version, [BINDING])
    profile_id = version.split("/")[4]
    made = operator.session.post(
        "/v1/sandboxes",
        {"sandboxId": sandbox_id, "organizationId": ORGANIZATION, "sandboxProfileId": profile_id, "version": 1},
    )
    assert made["plan"]
    with ExitStack() as stack:
        ask = ask_by(scene, way, sandbox_id, stack)
        until(lambda: ask() == INJECTED, "injection")
        operator.bind(version, [])
        seconds = until(lambda: ask() == DENIED, "refusal")
        figure(f"from a binding taken away to the refusal ({way})", seconds)
        operator.bind(version, [BINDING])
        seconds = until(lambda: ask() == INJECTED, "injection")
        figure(f"from a new binding to the injection ({way})", seconds)
        revision = scene.document(sandbox_id)["plan"]["revision"]
        assert revision == 3

        # A version that makes no plan any more says so and leaves the plan; what is disabled gives no credential.
        set_target(scene, enabled=False)
        seconds = until(lambda: ask() == WITHHELD, "refusal of what is disabled")
        figure(f"from a disabled target to the refusal ({way})", seconds)
        until(lambda: "compileIssues" in scene.document(sandbox_id), "issues")
        shown = scene.document(sandbox_id)
        assert [each["code"] for each in shown["compileIssues"]] == ["compile.target_disabled"]
        assert shown["plan"]["revision"] == revision
        set_target(scene, enabled=True)
        until(lambda: "compileIssues" not in scene.document(sandbox_id), "plan without issues")
        assert scene.document(sandbox_id)["plan"]["revision"] == revision
        until(lambda: ask() == INJECTED, "injection")


def ask_by(scene: Scene, way: str, sandbox_id: str, stack: ExitStack) -> Callable[[], tuple[int, str | None]]:
    """Return what asks for Linear's API: the status, and which credential arrived or the code of our refusal."""
    if way == "tunnel":
        tokens = scene.operator.mint(sandbox_id)
        sandboxd = stack.enter_context(sandboxd_process(scene.folder / way, scene.up.addresses["tunnel"], tokens))
        proxy_url, ca_file = sandboxd.proxy_url, sandboxd.ca_file
    else:
        token = scene.operator.mint(sandbox_id, "proxy")["token"]
        proxy_url = scene.up.addresses["proxy"].replace("://", f"://x:{token}@")
        ca_file = scene.folder / "explicit.pem"
        ca_file.write_bytes(scene.operator.session.ask("GET", f"/v1/sandboxes/{sandbox_id}/ca.pem"))

    def ask() -> tuple[int, str | None]:
        try:
            with Program(proxy_url, ca_file, HOST) as program:
                answered = program.ask("/graphql", "POST")
        except ConnectRefused as refused:
            answered = refused.answered
        except (OSError, http.client.HTTPException):
            return 0, None  # it was under way when its binding went, and was cut
        return answered.status, answered.code or answered.body.decode()

    return ask
