"""The metrics of several processes added up, so that counters never go back when one of them dies.

Always: what is shown is the last scrape of each process that lives, and what the dead had counted when they were last
scraped. What a process counted after that is lost with it.
"""

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

# Counts go on after a death; sizes die with whoever has them.
LASTING: Final = frozenset({"counter", "histogram"})
# What no sum says anything of: the parent's own value stands for all.
OF_THE_PARENT: Final = frozenset({"process_start_time_seconds", "sallyport_build_info"})

type _Key = tuple[str, frozenset[tuple[str, str]]]


class Tally:
    """The last scrape of each process by its number, and what the dead have left."""

    def __init__(self) -> None:
        self._living: dict[int, list[Metric]] = {}
        self._left: list[Metric] = []

    def scraped(self, number: int, text: bytes) -> None:
        """Note what a process shows now; raises ValueError for what is no exposition."""
        self._living[number] = list(text_string_to_metric_families(text.decode("utf-8")))

    def died(self, number: int) -> None:
        """Keep what a process has counted."""
        last = self._living.pop(number, [])
        self._left = _add([self._left, [family for family in last if family.type in LASTING]])

    def render(self, own: bytes) -> bytes:
        """Return everything together, `own` being what this process shows, in Prometheus' text format."""
        first = list(text_string_to_metric_families(own.decode("utf-8")))
        others = [
            [family for family in families if family.name not in OF_THE_PARENT] for families in self._living.values()
        ]
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Families(_add([first, self._left, *others])))
        return generate_latest(registry)

    def __repr__(self) -> str:
        return f"<Tally of {len(self._living)} processes>"


class _Families(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _add(sources: Iterable[Iterable[Metric]]) -> list[Metric]:
    """Return the families of all sources, samples of the same name and labels added."""
    families: dict[str, Metric] = {}
    values: dict[str, dict[_Key, float]] = {}
    for source in sources:
        for family in source:
            families.setdefault(family.name, family)
            sums = values.setdefault(family.name, {})
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                sums[key] = sums.get(key, 0.0) + sample.value
    return [_family(family, values[name]) for name, family in families.items()]


def _family(like: Metric, sums: dict[_Key, float]) -> Metric:
    family = Metric(like.name, like.documentation, like.type)
    for (name, labels), value in sums.items():
        family.add_sample(name, dict(labels), value)
    return family
