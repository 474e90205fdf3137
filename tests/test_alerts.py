"""Every alert of docs/operations is played to promtool as it fires, and where a look-alike is likely, as it is not."""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.support.monitoring import alerts, rule_groups
from tests.support.prometheus import promtool

AT = {"job": "sallyport-gateway", "instance": "a"}
JOB = {"job": "sallyport-gateway"}


class Played(NamedTuple):
    """One run of series of a gateway, and which rules of an alert fire when so many values have come."""

    alert: str
    series: Mapping[str, str]
    after: int
    firing: tuple[Mapping[str, str], ...] = ()
    minutes: int = 1  # from value to value; more where hours are played, to have done soon


def requests(**numbers: str) -> dict[str, str]:
    """Return series of requests by outcome, and of what the service levels add to them."""
    nothing = {
        'sallyport_denied_total{code="credential_temporarily_unavailable"}': "0x200",
        "sallyport_credential_rejections_total": "0x200",
    }
    return nothing | {f'sallyport_requests_total{{outcome="{outcome}"}}': told for outcome, told in numbers.items()}


def denied(code: str, told: str) -> dict[str, str]:
    return {f'sallyport_denied_total{{code="{code}"}}': told}


def lag(every: str, good: str) -> dict[str, str]:
    return {
        "sallyport_event_loop_lag_seconds_count": every,
        'sallyport_event_loop_lag_seconds_bucket{le="0.025"}': good,
    }


def plans(every: str, good: str, invalid: str = "0x200") -> dict[str, str]:
    return {
        "sallyport_plan_propagation_seconds_count": every,
        'sallyport_plan_propagation_seconds_bucket{le="5.0"}': good,
        'sallyport_plan_fetches_total{result="invalid"}': invalid,
    }


def expiry(of: str, told: str) -> dict[str, str]:
    return {f'sallyport_expiry_seconds{{of="{of}"}}': told}


def ending(of: str) -> dict[str, str]:
    return {**AT, "of": of, "severity": "ticket"}


# Groups that are evaluated together.
BURNING = ("sallyport-service-levels", "sallyport-burn")
SINGLE = ("sallyport-gateway", "sallyport-secrets", "sallyport-control-plane")
FAST, SLOW = {**JOB, "burn": "fast"}, {**JOB, "burn": "slow"}
STALE = "sallyport_plans_stale_seconds"
CONTROL = "sallyport_control_plane_"

PLAYED = (
    # One in fifty is refused: a month's budget in a day and a half.
    Played("SallyportAvailabilityBurn", requests(injected="0+980x90") | denied("overloaded", "0+20x90"), 20, (FAST,)),
    # One in twenty for twenty minutes, after hours without one: the hour tells, not yet the six.
    Played(
        "SallyportAvailabilityBurn",
        requests(injected="0+2000x100 201900+1900x20") | denied("overloaded", "0x100 100+100x20"),
        110,
        (FAST,),
        2,
    ),
    # One in a hundred: not enough for the hour, and enough for six.
    Played("SallyportAvailabilityBurn", requests(injected="0+990x90") | denied("overloaded", "0+10x90"), 20, (FAST,)),
    # One in five hundred, for long.
    Played("SallyportAvailabilityBurn", requests(injected="0+998x90") | denied("draining", "0+2x90"), 15, (SLOW,), 10),
    # Within the budget; and failures of destinations are not ours.
    Played("SallyportAvailabilityBurn", requests(injected="0+9999x90") | denied("overloaded", "0+1x90"), 15, (), 10),
    Played("SallyportAvailabilityBurn", requests(failed="0+50x90") | denied("upstream_unreachable", "0+50x90"), 20),
    # Three of thirty in a quiet night.
    Played("SallyportAvailabilityBurn", requests(injected="0x5 27x70") | denied("overloaded", "0x5 3x70"), 20),
    Played("SallyportLatencyBurn", lag("0+240x90", "0+200x90"), 20, (FAST,)),
    Played("SallyportLatencyBurn", lag("0+240x90", "0+236x90"), 15, (SLOW,), 10),
    Played("SallyportLatencyBurn", lag("0+240x90", "0+239x90"), 15, (), 10),
    Played(
        "SallyportCredentialsBurn",
        requests(injected="0+90x90") | denied("credential_temporarily_unavailable", "0+10x90"),
        20,
        (FAST,),
    ),
    Played(
        "SallyportCredentialsBurn",
        requests(injected="0+99x90") | {"sallyport_credential_rejections_total": "0+1x90"},
        15,
        (SLOW,),
        10,
    ),
    Played("SallyportCredentialsBurn", requests(injected="0+99x90") | denied("credential_unavailable", "0+50x90"), 20),
    Played("SallyportPlansBurn", plans("0+10x90", "0+8x90"), 20, (FAST,)),
    Played("SallyportPlansBurn", plans("0+98x90", "0+98x90", "0+2x90"), 15, (SLOW,), 10),
    Played("SallyportPlansBurn", plans("0+10x90", "0+10x90"), 20),
    Played("SallyportPlansBurn", plans("0x90", "0x90"), 20),  # a gateway without a control plane
    Played("SallyportAllGatewaysDown", {"up": "1x5 0x20"}, 10, ({},)),
    Played("SallyportAllGatewaysDown", {"up": "0x20", 'up{instance="b"}': "1x20"}, 10),
    Played("SallyportGatewayDown", {"up": "1x5 0x20"}, 10, (AT,)),
    Played("SallyportGatewayDown", {"up": "1x5 0 1x20"}, 10),
    Played(
        "SallyportNotReady",
        {"sallyport_ready": "1x5 0x20"},
        12,
        ({**AT, "severity": "ticket"}, {**JOB, "severity": "page"}),
    ),
    Played(
        "SallyportNotReady",
        {"sallyport_ready": "1x5 0x20", 'sallyport_ready{instance="b"}': "1x20"},
        12,
        ({**AT, "severity": "ticket"},),
    ),
    Played("SallyportNotReady", {"sallyport_ready": "0x3 1x20"}, 12),
    Played("SallyportRestarts", {"process_start_time_seconds": "1x4 2x4 3x4 4x4"}, 20, (AT,)),
    Played("SallyportRestarts", {"process_start_time_seconds": "1x4 2x20"}, 20),
    Played("SallyportExpires", expiry("tunnel_certificate", "604860-60x30"), 10, (ending("tunnel_certificate"),)),
    Played("SallyportExpires", expiry("admin_certificate", "700000-60x30"), 10),
    Played("SallyportExpires", expiry("service_token", "3660-60x30"), 10, (ending("service_token"),)),
    Played("SallyportExpires", expiry("service_token", "86400-3600x10 86400-60x30"), 12),
    Played(
        "SallyportExpires",
        expiry("service_token", "120-60x30"),
        10,
        (ending("service_token"), {**ending("service_token"), "severity": "page"}),
    ),
    Played("SallyportProcessDies", {"sallyport_serving_process_deaths_total": "0x5 1x20"}, 10, (AT,)),
    Played("SallyportDefect", {"sallyport_defects_total": "0x5 1x20"}, 10, (AT,)),
    Played("SallyportDefect", {"sallyport_defects_total": "3x30"}, 20),
    Played("SallyportOverloaded", denied("overloaded", "0+1x20"), 10, ({**AT, "code": "overloaded"},)),
    Played("SallyportOverloaded", denied("overloaded", "0x3 1x20"), 14),
    Played("SallyportMemoryShort", {"sallyport_streams_shed_total": "0x5 1x20"}, 8, (AT,)),
    Played(
        "SallyportDescriptorsShort",
        {"process_open_fds": "900x30", "process_max_fds": "1000x30"},
        15,
        (AT,),
    ),
    Played("SallyportDescriptorsShort", {"process_open_fds": "700x30", "process_max_fds": "1000x30"}, 15),
    Played(
        "SallyportUpstreamsFail",
        requests(injected="0+80x60", failed="0+20x60") | denied("upstream_timeout", "0+20x60"),
        30,
        (JOB,),
    ),
    Played("SallyportUpstreamsFail", requests(denied="0+80x60") | denied("denied_by_plan", "0+80x60"), 30),
    Played(
        "SallyportCredentialRefused",
        {'sallyport_credential_resolutions_total{result="permanent"}': "0x5 1x20"},
        10,
        ({**AT, "result": "permanent"},),
    ),
    Played("SallyportCredentialRefused", {'sallyport_credential_resolutions_total{result="temporary"}': "0+1x20"}, 10),
    Played("SallyportSecretEchoed", {"sallyport_scrub_matches_total": "0x5 1x80"}, 30, (AT,)),
    Played("SallyportSecretTooShort", {"sallyport_scrub_short_secrets_total": "0x5 1x80"}, 30, (AT,)),
    Played("SallyportNameMismatch", denied("sni_mismatch", "0x5 1x20"), 10, ({**AT, "code": "sni_mismatch"},)),
    Played(
        "SallyportHandshakesFail",
        {
            'sallyport_interception_handshakes_total{result="completed"}': "0+10x60",
            'sallyport_interception_handshakes_total{result="failed"}': "0+10x60",
        },
        40,
        (JOB,),
    ),
    Played(
        "SallyportHandshakesFail",
        {
            'sallyport_interception_handshakes_total{result="completed"}': "0+10x60",
            'sallyport_interception_handshakes_total{result="failed"}': "0+1x60",
        },
        40,
    ),
    Played("SallyportAuditDropped", {"sallyport_audit_dropped_total": "0x5 1x20"}, 8, (AT,)),
    Played("SallyportAuditBehind", {"sallyport_audit_waiting": "0x5 20000x20"}, 10, (AT,)),
    Played("SallyportAuditBehind", {"sallyport_audit_waiting": "0x5 20000 0x20"}, 10),
    Played("SallyportControlPlaneAway", {STALE: "0x5 61+60x30"}, 10, ({**AT, "severity": "ticket"},)),
    Played(
        "SallyportControlPlaneAway",
        {STALE: "0x5 60+60x30"},
        30,
        ({**AT, "severity": "ticket"}, {**JOB, "severity": "page"}),
    ),
    # One of two hears it: the network between, not the control plane.
    Played(
        "SallyportControlPlaneAway",
        {STALE: "0x5 60+60x30", f'{STALE}{{instance="b"}}': "0x40"},
        30,
        ({**AT, "severity": "ticket"},),
    ),
    Played("SallyportPlanLacking", {"sallyport_plans_lacking_seconds": "0x5 61+60x20"}, 10, (AT,)),
    Played("SallyportPlanLacking", {"sallyport_plans_lacking_seconds": "0 5 0 3 0 1x20"}, 10),
    Played(
        "SallyportPlanRejected",
        {'sallyport_plan_apply_total{result="conflict"}': "0x5 1x20"},
        10,
        ({**AT, "result": "conflict"},),
    ),
    Played("SallyportPlanRejected", {'sallyport_plan_apply_total{result="unchanged"}': "0+1x20"}, 10),
    Played("SallyportStateNotWritten", {"sallyport_state_write_failures_total": "0x5 1x20"}, 10, (AT,)),
    Played("SallyportDatabaseFails", {f"{CONTROL}database_errors_total": "0x5 0+1x20"}, 15, (JOB,)),
    Played("SallyportDatabaseFails", {f"{CONTROL}database_errors_total": "0x5 1x20"}, 12),  # it restarted
    Played("SallyportRefreshRefused", {f'{CONTROL}refreshes_total{{result="permanent"}}': "0x5 1x20"}, 10, (JOB,)),
    Played("SallyportRefreshRefused", {f'{CONTROL}refreshes_total{{result="temporary"}}': "0+1x20"}, 10),
    Played("SallyportWebhooksBehind", {f"{CONTROL}webhook_deliveries_pending": "1001x60"}, 40, (JOB,)),
    Played("SallyportWebhooksBehind", {f"{CONTROL}webhook_deliveries_pending": "5000x20 900 5000x60"}, 40),
)


def test_every_alert_is_played_as_it_fires() -> None:
    def rule(alert: str, labels: Mapping[str, str]) -> tuple[str, str]:
        found = expected(alert, labels)["exp_labels"]
        return alert, f"{found['severity']} {found.get('burn', '')}"

    fired = {rule(played.alert, labels) for played in PLAYED for labels in played.firing}
    assert fired == {
        (each["alert"], f"{each['labels']['severity']} {each['labels'].get('burn', '')}") for each in alerts()
    }


@pytest.mark.parametrize(("groups", "minutes"), [(BURNING, 1), (BURNING, 2), (BURNING, 10), (SINGLE, 1)])
def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path, groups: Collection[str], minutes: int) -> None:
    # The groups of a test alone: promtool evaluates every rule in every minute that is played.
    chosen = [group for group in rule_groups() if group["name"] in groups]
    names = {rule.get("alert") for group in chosen for rule in group["rules"]}
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump({"groups": chosen}, sort_keys=False))
    document = {
        "rule_files": ["alerts.yaml"],
        "evaluation_interval": f"{minutes}m",
        # In any order without it, and what was recorded ten minutes ago is too old to be compared.
        "group_eval_order": list(groups),
        "tests": [promtool_test(each) for each in PLAYED if each.minutes == minutes and each.alert in names],
    }
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    promtool("test", "rules", tmp_path / "tests.yaml")


def test_every_group_is_played() -> None:
    assert [group["name"] for group in rule_groups()] == [*BURNING, *SINGLE]


def promtool_test(played: Played) -> dict[str, Any]:
    question = {
        "eval_time": f"{played.after * played.minutes}m",
        "alertname": played.alert,
        "exp_alerts": [expected(played.alert, labels) for labels in played.firing],
    }
    return {
        "name": f"{played.alert} {played.series}",
        "interval": f"{played.minutes}m",
        "input_series": [{"series": of_a_gateway(name), "values": told} for name, told in played.series.items()],
        "alert_rule_test": [question],
    }


def of_a_gateway(series: str) -> str:
    """Add the labels that a scrape gives."""
    name, _, labels = series.partition("{")
    given = dict(re.findall(r'(\w+)="([^"]*)"', labels))
    return f"{name}{{{', '.join(f'{key}="{text}"' for key, text in {**AT, **given}.items())}}}"


def expected(alert: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return what promtool should find of the one rule that these labels can be of."""
    (rule,) = rules_of(alert, labels)
    return {"exp_labels": {**rule["labels"], **labels}, "exp_annotations": rule["annotations"]}


def rules_of(alert: str, labels: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for rule in alerts():
        if rule["alert"] == alert and all(labels.get(name, text) == text for name, text in rule["labels"].items()):
            yield rule
