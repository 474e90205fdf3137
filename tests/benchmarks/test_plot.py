"""The plots are well-formed and honest about spread."""

from xml.etree import ElementTree

from benchmarks.figures import Sample, summarize
from benchmarks.plot import plot

_SVG = "{http://www.w3.org/2000/svg}"


def _sample(cpu: float | None) -> Sample:
    return Sample(
        cpu_us_per_request=cpu, requests_per_second=1.0, p50_us=None, p99_us=None, mb_per_cpu_second=None
    )  # fmt: skip


def test_each_subject_has_a_dot_between_the_ends_of_its_line() -> None:
    rows = [
        summarize("small_get", "a<b", [_sample(20.0), _sample(25.0), _sample(40.0)], 0),
        summarize("small_get", "mitmproxy", [_sample(2000.0)], 0),
    ]
    drawn = plot("small GET", "cpu_us_per_request", "CPU us/request", rows)
    assert drawn is not None
    root = ElementTree.fromstring(drawn)
    dots = [float(dot.attrib["cx"]) for dot in root.iter(f"{_SVG}circle")]
    line = next(line for line in root.iter(f"{_SVG}line") if "stroke-width" in line.attrib)
    assert len(dots) == 2
    assert float(line.attrib["x1"]) < dots[0] < float(line.attrib["x2"]) < dots[1]


def test_a_subject_without_the_figure_is_not_drawn_and_nothing_draws_nothing() -> None:
    direct = summarize("small_get", "direct", [_sample(None)], 0)
    assert plot("small GET", "cpu_us_per_request", "CPU us/request", [direct]) is None
