"""A real Prometheus scrapes a gateway and a control plane: what the docs promise arrives, no panel stays empty."""

import http.client
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane.app import ControlPlane
from demo.certificates import write_origin_files
from tests.support.background import in_background
from tests.support.control_plane import replica, settings
from tests.support.gateway_plans import plan, route
from tests.support.gateway_process import GatewayProcess, Setting, gateway_process
from tests.support.monitoring import MONITORING, dashboard_expressions, documented_metrics
from tests.support.prometheus import PrometheusProcess, prometheus_process

# Prometheus takes five seconds before it looks at its first target.
pytestmark = [pytest.mark.full, pytest.mark.timeout(120)]

WITHIN_SECONDS = 30.0
# Of every metric together, with its buckets: what one gateway costs a Prometheus, whatever its traffic.
MOST_SERIES = 300
# What Prometheus itself adds to a series.
OF_THE_SCRAPE = {"__name__", "job", "instance"}
# Whose values stand elsewhere: the version, the codes of errors.md and control-plane.md, the paths of the API.
OPEN = {
    "sallyport_build_info",
    "sallyport_denied_total",
    "sallyport_control_plane_requests_total",
    "sallyport_control_plane_resolutions_total",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A gateway, a control plane and who scrapes them."""

    gateway: GatewayProcess
    plane: ControlPlane
    prometheus: PrometheusProcess


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("monitored")
    (folder / "tls").mkdir()
    files = write_origin_files(folder / "tls", ["localhost"])
    setting = Setting(
        plan=plan([route("r", ["api.test"], "con_one")]),
        credentials={"con_one": "not-asked-for"},
        # Whose end is told; by default a tunnel on loopback has none.
        further={"tunnel": {"tls": {"certificate_file": str(files.certificate_file), "key_file": str(files.key_file)}}},
    )
    config = settings(folder / "plane", None, SALLYPORT_METRICS_LISTEN="127.0.0.1:0")
    with in_background(replica(config)) as api, gateway_process(folder / "gateway", setting) as gateway:
        metrics_port = api.plane.metrics_port
        assert metrics_port is not None
        scraped = scrape_config(folder, [gateway.admin_port, metrics_port])
        with prometheus_process(folder, scraped) as prometheus:
            yield Watched(gateway=gateway, plane=api.plane, prometheus=prometheus)


def scrape_config(folder: Path, ports: Sequence[int]) -> Path:
    """Write the example of the docs with these as its targets, in more haste."""
    config = yaml.safe_load((MONITORING / "prometheus.yaml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "200ms", "evaluation_interval": "200ms"}
    config["rule_files"] = [str(MONITORING / name) for name in config["rule_files"]]
    for job, port in zip(config["scrape_configs"], ports, strict=True):
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    path = folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def eventually[T](ask: Callable[[], T], enough: Callable[[T], bool]) -> T:
    """Ask until the answer is enough: a scrape announces nothing, and shows nothing where it takes over 200 ms."""
    deadline = time.perf_counter() + WITHIN_SECONDS
    while not enough(answer := ask()):
        assert time.perf_counter() < deadline, answer
        time.sleep(0.05)
    return answer


def test_the_targets_are_up(watched: Watched) -> None:
    targets = eventually(
        lambda: watched.prometheus.ask("targets", state="active")["activeTargets"],
        lambda targets: len(targets) == 2 and all(target["health"] == "up" for target in targets),
    )
    assert [(target["health"], target["lastError"]) for target in targets] == [("up", "")] * 2
    assert {target["labels"]["job"]: target["labels"]["instance"] for target in targets} == {
        "sallyport-gateway": f"127.0.0.1:{watched.gateway.admin_port}",
        "sallyport-control-plane": f"127.0.0.1:{watched.plane.metrics_port}",
    }


def test_every_documented_metric_arrives_with_its_type_and_labels(watched: Watched) -> None:
    documented = documented_metrics()
    ask_control_plane(watched.plane)
    eventually(lambda: watched.prometheus.query("sallyport_ready"), bool)
    eventually(lambda: watched.prometheus.query("sallyport_control_plane_requests_total"), bool)
    told = watched.prometheus.ask("metadata")
    types = {name: entries[0]["type"] for name, entries in told.items()}
    assert {name: types.get(name) for name in documented} == {name: row.type for name, row in documented.items()}
    series = watched.prometheus.ask("series", **{"match[]": '{__name__=~"sallyport_.+|process_.+"}'})
    for name, row in documented.items():
        names = {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if row.type == "histogram" else {name}
        ours = [each for each in series if each["__name__"] in names]
        assert {each["__name__"] for each in ours} == names
        for each in ours:
            labels = each.keys() - OF_THE_SCRAPE - {"le"}
            assert labels == row.labels, name
            if name not in OPEN:
                assert {each[label] for label in labels} <= row.values, name


def test_what_is_counted_is_seen_and_makes_no_series(watched: Watched) -> None:
    sample = 'sallyport_requests_total{outcome="denied", source="explicit"}'
    (before,) = eventually(lambda: watched.prometheus.query(sample), bool)
    for number in range(20):
        assert refused(watched.gateway, f"http://host-{number}.test/{number}") == 403
    (after,) = eventually(
        lambda: watched.prometheus.query(sample),
        lambda found: bool(found) and float(found[0]["value"][1]) >= float(before["value"][1]) + 20,
    )
    assert float(after["value"][1]) == float(before["value"][1]) + 20
    ours = 'count({__name__=~"sallyport_.+", job="sallyport-gateway"})'
    (count,) = eventually(lambda: watched.prometheus.query(ours), bool)
    assert int(count["value"][1]) <= MOST_SERIES


def ask_control_plane(plane: ControlPlane) -> None:
    """Ask for what is there, and for what is not."""
    for path in ("/healthz", "/nothing"):
        link = http.client.HTTPConnection("127.0.0.1", plane.port, timeout=10)
        link.request("GET", path)
        link.getresponse().read()
        link.close()


def refused(gateway: GatewayProcess, url: str) -> int:
    """Ask for what no rule allows, on a connection of its own."""
    link = http.client.HTTPConnection("127.0.0.1", gateway.proxy_port, timeout=10)
    try:
        link.request("GET", url, headers={"Proxy-Authorization": f"Bearer {gateway.token}"})
        return link.getresponse().status
    finally:
        link.close()


@pytest.mark.parametrize("expression", dashboard_expressions())
def test_every_panel_has_something_to_show(watched: Watched, expression: str) -> None:
    refused(watched.gateway, "http://host.test/")
    ask_control_plane(watched.plane)
    filled = (
        expression.replace("$job", "sallyport-gateway").replace("$instance", ".+").replace("$__rate_interval", "1m")
    )
    found = eventually(lambda: watched.prometheus.query(filled), bool)
    assert found


def test_every_rule_is_evaluated(watched: Watched) -> None:
    def rules() -> list[dict[str, Any]]:
        return [rule for group in watched.prometheus.ask("rules")["groups"] for rule in group["rules"]]

    evaluated = eventually(rules, lambda found: all(rule["health"] != "unknown" for rule in found))
    assert [(rule["name"], rule.get("lastError")) for rule in evaluated if rule["health"] != "ok"] == []
    assert [rule["name"] for rule in evaluated if rule.get("state") == "firing"] == []


def test_a_gateway_that_stands_still_is_down_and_says_afterwards_how_late_it_was(watched: Watched) -> None:
    lag = "sallyport_event_loop_lag_seconds_sum"
    (before,) = eventually(lambda: watched.prometheus.query(lag), bool)
    watched.gateway.process.send_signal(signal.SIGSTOP)
    try:
        # Each of these scrapes waited its 200 ms in vain.
        eventually(lambda: watched.prometheus.query("count_over_time(up[1m]) - sum_over_time(up[1m]) >= 6"), bool)
    finally:
        watched.gateway.process.send_signal(signal.SIGCONT)
    (after,) = eventually(
        lambda: watched.prometheus.query(f"{lag} and up == 1"),
        lambda found: bool(found) and float(found[0]["value"][1]) > float(before["value"][1]) + 0.7,
    )
    assert float(after["value"][1]) < float(before["value"][1]) + WITHIN_SECONDS
