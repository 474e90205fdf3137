"""The plan that the gateway is measured with is a plan; a wheel that is not compiled is not measured as compiled."""

from pathlib import Path

import pytest
import yaml

from benchmarks import own
from benchmarks.own import TWO_WORKERS, UNSCRUBBED, USUAL, SallyportCompiled, SallyportPure, plan_document
from sallyport.plan.codec import parse_plan, seal
from sallyport.plan.match import AnswerKind, Matcher
from tests.support.bench_site import site_in


@pytest.mark.parametrize("routes", [10, 1000])
def test_the_plan_has_its_routes_and_injects_on_the_origin_only(routes: int) -> None:
    plan = parse_plan(seal(plan_document("api.bench.test", routes=routes)))
    matcher = Matcher(plan)
    assert len(plan.egress_routes) == routes
    assert matcher.for_host("http", "api.bench.test", 80).decide("GET", "/v1/models/small").kind is AnswerKind.INJECT
    assert matcher.for_host("http", "other.test", 80).decide("GET", "/v1/models/small").kind is AnswerKind.DENY


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("echo compiled 1.2.3", None),
        ("echo pure 1.2.3", "the wheel in .venv-compiled is not compiled: 1.2.3 pure (`make compiled`)"),
        ("exit 1", "the wheel in .venv-compiled is not compiled: it does not import (`make compiled`)"),
    ],
)
def test_what_the_wheel_says_of_itself_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, reason: str | None
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{answer}\n")
    python.chmod(0o700)
    monkeypatch.setattr(own, "_COMPILED_PYTHON", python)
    assert SallyportCompiled().missing() == reason


def test_without_a_wheel_it_is_missing_and_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "_COMPILED_PYTHON", tmp_path / "python")
    assert "make compiled" in (SallyportCompiled().missing() or "")


def test_variants_are_subjects_of_their_own() -> None:
    assert [SallyportPure(each).name for each in (USUAL, UNSCRUBBED, TWO_WORKERS)] == [
        "sallyport-pure",
        "sallyport-pure-unscrubbed",
        "sallyport-pure-2",
    ]


def test_a_variant_is_in_the_settings(tmp_path: Path) -> None:
    for variant in (USUAL, UNSCRUBBED, TWO_WORKERS):
        directory = tmp_path / f"gateway{variant.ending}"
        directory.mkdir()
        launch = SallyportPure(variant).prepare(site_in(directory))
        settings = yaml.safe_load((directory / "gateway.yaml").read_text())
        assert settings["scrub"] == {"enabled": variant.is_scrubbing}
        assert settings["workers"] == launch.processes == variant.workers
        assert set(launch.plan_tokens) == {10, 100, 1000}
