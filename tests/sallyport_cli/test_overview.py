"""What status and top make of a control plane and its gateways, over real HTTP."""

from collections.abc import Iterator

import pytest

from control_client.documents import DocumentError, DocumentSession
from sallyport_cli.overview import (
    GatewayAccess,
    Metrics,
    Overview,
    credential_rows,
    denial_rows,
    gateway_rows,
    gather,
    overview_document,
    sandbox_rows,
)
from tests.support.scripted_http import ScriptedHttp, scripted_http

METRICS = """\
# HELP sallyport_requests_total Exchanges by outcome.
sallyport_requests_total{outcome="injected",source="tunnel"} 30.0
sallyport_requests_total{outcome="denied",source="tunnel"} 4.0
sallyport_requests_total{outcome="denied",source="explicit"} 1.0
sallyport_active_tunnels 2.0
sallyport_active_streams 7.0
sallyport_denied_total{code="denied_by_plan"} 4.0
sallyport_denied_total{code="rate_limited"} 0.0
sallyport_denied_total{code="address_refused"} 1.0
sallyport_credential_resolutions_total{result="resolved"} 9.0
"""


@pytest.fixture
def control() -> Iterator[ScriptedHttp]:
    with scripted_http() as control:
        yield control


@pytest.fixture
def gateway(control: ScriptedHttp) -> Iterator[ScriptedHttp]:
    with scripted_http() as gateway:
        gateway.answer(
            "/v1/sandboxes", {"items": [{"sandboxId": "sbx_1", "tunnel": True, "streams": 3, "planRevision": 5}]}
        )
        gateway.answers["/metrics"] = 200, METRICS.encode()
        gateway.answer("/readyz", {"status": "ready"})
        control.answer("/internal/gateways", {"items": [{"id": "gw_1", "adminUrl": gateway.url}]})
        control.answer(
            "/v1/sandboxes?limit=100", {"items": [{"sandboxId": "sbx_1", "organizationId": "org"}], "nextCursor": "c"}
        )
        control.answer("/v1/sandboxes?limit=100&cursor=c", {"items": [{"sandboxId": "sbx_2", "organizationId": "org"}]})
        yield gateway


def look(control: ScriptedHttp, at: float = 0.0) -> Overview:
    return gather(DocumentSession(control.url, "t"), GatewayAccess(), at)


@pytest.mark.usefixtures("gateway")
def test_every_sandbox_is_shown_with_who_holds_it(control: ScriptedHttp) -> None:
    assert sandbox_rows(look(control)) == [
        ("sbx_1", "org", "5", "gw_1", "up", "3"),
        ("sbx_2", "org", "-", "-", "-", "0"),
    ]


@pytest.mark.usefixtures("gateway")
def test_a_gateway_is_shown_with_its_counts_and_then_with_rates(control: ScriptedHttp, gateway: ScriptedHttp) -> None:
    first = look(control, at=10.0)
    assert gateway_rows(first, None) == [("gw_1", "ready", "2", "7", "35", "5", "0")]
    gateway.answers["/metrics"] = 200, METRICS.replace("30.0", "50.0").encode()
    assert gateway_rows(look(control, at=12.0), first) == [("gw_1", "ready", "2", "7", "10.0/s", "0.0/s", "0.0/s")]


@pytest.mark.usefixtures("gateway")
def test_a_restarted_gateway_has_no_negative_rate(control: ScriptedHttp, gateway: ScriptedHttp) -> None:
    first = look(control, at=1.0)
    gateway.answers["/metrics"] = 200, b""
    assert gateway_rows(look(control, at=2.0), first)[0][4] == "0.0/s"


@pytest.mark.usefixtures("gateway")
def test_denials_and_resolutions_are_summed_the_most_frequent_first(control: ScriptedHttp) -> None:
    overview = look(control)
    assert denial_rows(overview) == [("denied_by_plan", "4"), ("address_refused", "1")]
    assert credential_rows(overview) == [("resolved", "9")]
    document = overview_document(overview)
    assert document["denials"] == {"denied_by_plan": "4", "address_refused": "1"}


@pytest.mark.usefixtures("gateway")
def test_readiness_is_told_with_its_reasons(control: ScriptedHttp, gateway: ScriptedHttp) -> None:
    gateway.answer("/readyz", {"status": "ready", "reasons": ["stale"]})
    assert gateway_rows(look(control), None)[0][1] == "ready (stale)"
    gateway.answer("/readyz", {"status": "not_ready", "reasons": ["no snapshot"]}, 503)
    assert gateway_rows(look(control), None)[0][1] == "not ready"


def test_a_gateway_that_does_not_answer_is_shown_with_the_reason(control: ScriptedHttp) -> None:
    control.answer("/internal/gateways", {"items": [{"id": "gw_1", "adminUrl": "http://127.0.0.1:1"}]})
    row = gateway_rows(look(control), None)[0]
    assert row[0] == "gw_1"
    assert "refused" in row[1]


def test_without_the_control_plane_there_is_nothing_to_show() -> None:
    with pytest.raises(DocumentError, match="refused"):
        gather(DocumentSession("http://127.0.0.1:1"), GatewayAccess(), 0.0)


def test_samples_are_summed_by_label_and_junk_is_passed_over() -> None:
    metrics = Metrics(METRICS + "garbage\n{} 1\n")
    assert metrics.by("sallyport_requests_total", "outcome") == {("injected",): 30.0, ("denied",): 5.0}
    assert metrics.total("sallyport_requests_total", outcome="denied", source="tunnel") == 4.0
    assert metrics.total("nothing") == 0.0
