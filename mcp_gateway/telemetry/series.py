"""Numbers that cost next to nothing to change, and their Prometheus form.

Owns counters, gauges and histograms as plain ints in dicts. Deliberately knows no
metric by name: ``telemetry.metrics`` has those. Invariant: changing a series
allocates nothing once the series exists; everything else happens at a scrape.

Why not prometheus-client's own metrics: ``.labels()`` per call cost 24 us of a
92 us call, our own ints behind a collector less than 1 us (measured).
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import attrs
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

Labels: TypeAlias = tuple[str, ...]
Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

SECONDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
)  # fmt: skip
"""Upper bounds: from a call that costs only the gateway to ``timeouts.max``."""


@attrs.define(eq=False)
class Histogram:
    """How often a value fell below each bound, and the sum."""

    bounds: Sequence[float] = SECONDS
    counts: list[int] = attrs.field(
        default=attrs.Factory(lambda self: [0] * (len(self.bounds) + 1), takes_self=True), init=False
    )
    total: float = attrs.field(default=0.0, init=False)

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them."""
        found: list[tuple[str, float]] = []
        so_far = 0
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            so_far += count
            found.append((bound, so_far))
        return found


@attrs.define(eq=False)
class Numbers:
    """One metric of kind counter or gauge: a number per set of label values."""

    kind: Literal["counter", "gauge"]
    name: str
    text: str
    labels: Labels = ()
    values: dict[Labels, float] = attrs.field(factory=dict)

    def add(self, *labels: str, by: float = 1) -> None:
        """Change one series by ``by``."""
        self.values[labels] = self.values.get(labels, 0) + by

    def set(self, *labels: str, to: float) -> None:
        """Make one series ``to``."""
        self.values[labels] = to

    def family(self) -> Family:
        """The metric for one scrape."""
        family: CounterMetricFamily | GaugeMetricFamily
        if self.kind == "counter":
            family = CounterMetricFamily(self.name, self.text, labels=self.labels)
        else:
            family = GaugeMetricFamily(self.name, self.text, labels=self.labels)
        for labels, value in self.values.items():
            family.add_metric(labels, value)
        return family


@attrs.define(eq=False)
class Histograms:
    """One metric of kind histogram: a histogram per set of label values."""

    name: str
    text: str
    labels: Labels = ()
    values: dict[Labels, Histogram] = attrs.field(factory=dict)

    def at(self, *labels: str) -> Histogram:
        """The histogram of one set of label values; keep it to save the look-up."""
        found = self.values.get(labels)
        if found is None:
            found = self.values[labels] = Histogram()
        return found

    def family(self) -> Family:
        """The metric for one scrape."""
        family = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        for labels, histogram in self.values.items():
            family.add_metric(labels, buckets=histogram.buckets(), sum_value=histogram.total)
        return family


@attrs.define(eq=False)
class Words:
    """The values that one label has had; beyond ``bound`` of them everything new is ``other``."""

    bound: int
    _seen: set[str] = attrs.field(factory=set)

    def bounded(self, word: str) -> str:
        """``word``, if it may be a label value."""
        if word in self._seen:
            return word
        if len(self._seen) >= self.bound or len(word) > 64:
            return OTHER
        self._seen.add(word)
        return word


OTHER: Final = "other"
