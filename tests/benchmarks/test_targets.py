"""The judgement of a run."""

import pytest

from benchmarks.figures import FIGURES, Ratio
from benchmarks.registry import DEFAULT, ONLY_IN, takes_part
from benchmarks.targets import TARGETS, Judgement, Target, judge, targets_for
from benchmarks.workloads.registry import WORKLOADS

_COST = Target(workload="small_get", subject="sallyport-pure", peer="envoy", must=0.60)
_BULK = Target(workload="get_1m", subject="sallyport", peer="nginx", figure="mb_per_cpu_second", must=0.8)
_SHOWN = Target(workload="small_get", subject="sallyport-pure", peer="nginx")


def _ratio(median: float) -> Ratio:
    return Ratio(median=median, lowest=0.1, highest=9.0)


@pytest.mark.parametrize(
    ("target", "median", "judgement"),
    [
        (_COST, 0.60, Judgement.MET),
        (_COST, 0.61, Judgement.MISSED),
        (_BULK, 0.80, Judgement.MET),
        (_BULK, 0.79, Judgement.MISSED),
        (_SHOWN, 50.0, Judgement.SHOWN),
    ],
)
def test_judgement_by_the_median(target: Target, median: float, judgement: Judgement) -> None:
    assert judge(target, _ratio(median)) is judgement


def test_what_was_not_measured_is_never_met() -> None:
    assert judge(_COST, None) is Judgement.NOT_MEASURED


def test_two_processes_are_judged_where_there_are_cores_for_them() -> None:
    target = next(each for each in TARGETS if each.subject == "sallyport-2")
    assert target.figure == "requests_per_second"
    assert judge(target, _ratio(1.9), cores=3) is Judgement.MET
    assert judge(target, _ratio(1.7), cores=3) is Judgement.MISSED
    assert judge(target, _ratio(1.0), cores=2) is Judgement.TOO_FEW_CORES


def test_only_what_was_asked_for_is_judged() -> None:
    asked = targets_for(["small_get"], ["sallyport-pure", "nginx"])
    assert {(target.workload, target.subject) for target in asked} == {("small_get", "sallyport-pure")}
    # Envoy was not asked for; the target against it stays, to be shown as not measured.
    assert "envoy" in {target.peer for target in asked}


def test_whom_a_quick_run_leaves_out_is_not_judged_against() -> None:
    subjects = ["sallyport", "nginx"]
    assert "goproxy" in {target.peer for target in targets_for(["small_get"], subjects)}
    assert "goproxy" not in {target.peer for target in targets_for(["small_get"], subjects, {"goproxy"})}


def test_a_ratio_that_judges_nothing_needs_its_other_workload() -> None:
    told = {target.workload for target in targets_for(["tunnel_1", "tunnel_64"], ["sallyport-pure"])}
    assert told == {"tunnel_64"}, "which judges, and so is shown as not measured"
    assert "tunnel_1" in {each.workload for each in targets_for(["tunnel_1", "small_get_1"], ["sallyport-pure"])}


def test_every_target_names_what_exists() -> None:
    for target in TARGETS:
        assert target.workload in WORKLOADS
        assert {target.subject, target.peer} <= set(DEFAULT)
        assert target.figure in FIGURES
        assert takes_part(target.subject, target.workload)
        assert takes_part(target.peer, target.peer_workload or target.workload)


def test_a_tunnel_is_held_against_the_explicit_listener_of_the_same_gateway() -> None:
    target = next(each for each in TARGETS if each.workload == "tunnel_64")
    assert (target.subject, target.peer, target.peer_workload, target.must) == (
        "sallyport-pure",
        "sallyport-pure",
        "small_get",
        1.1,
    )
    assert target.sides == "sallyport-pure / sallyport-pure in small_get"


def test_every_other_workload_that_a_target_names_exists() -> None:
    assert {target.peer_workload for target in TARGETS} - {""} <= set(WORKLOADS)


def test_the_pure_codec_must_stay_within_six_tenths_of_envoy() -> None:
    first = next(target for target in TARGETS if (target.subject, target.peer) == ("sallyport-pure", "envoy"))
    assert (first.workload, first.must) == ("small_get", 0.60)


def test_who_is_there_for_some_workloads_alone_names_what_exists() -> None:
    assert set(ONLY_IN) <= set(DEFAULT)
    assert {name for names in ONLY_IN.values() for name in names} <= set(WORKLOADS)
