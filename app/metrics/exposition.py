"""The text that Prometheus reads, out of families and what the other workers have counted."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from app.metrics.family import Family, Gauge, Histogram, Labels, Series

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
Counts = dict[str, list[tuple[Labels, Series]]]
"""The series of each family, by its name."""


def counts_of(families: Iterable[Family], *, with_gauges: bool = True) -> Counts:
    return {family.name: list(family.series.items()) for family in families if with_gauges or not isinstance(family, Gauge)}


def exposed(families: Sequence[Family], others: Sequence[Counts] = ()) -> bytes:
    return generate_latest(_Once([_metric(family, _merged(family, others)) for family in families]))


def _merged(family: Family, others: Sequence[Counts]) -> dict[Labels, Series]:
    """Of all workers. A series that another version of this program has counted otherwise is left out."""
    merged = {labels: list(series) for labels, series in family.series.items()}
    takes_largest = isinstance(family, Gauge) and family.across == "max"
    for counts in others:
        for labels, series in counts.get(family.name, ()):
            known = merged.setdefault(labels, family.nothing())
            if len(known) == len(series):
                both = zip(known, series, strict=True)
                merged[labels] = [max(one, other) if takes_largest else one + other for one, other in both]
    return merged


def _metric(family: Family, merged: dict[Labels, Series]) -> Metric:
    if isinstance(family, Histogram):
        histogram = HistogramMetricFamily(family.name, family.help_text, labels=family.labels)
        bounds = [*map(floatToGoString, family.bounds), "+Inf"]
        for labels, series in merged.items():
            histogram.add_metric(labels, list(zip(bounds, accumulate(series[:-1]), strict=True)), series[-1])
        return histogram
    kind = GaugeMetricFamily if isinstance(family, Gauge) else CounterMetricFamily
    metric = kind(family.name, family.help_text, labels=family.labels)
    for labels, (value,) in merged.items():
        metric.add_metric(labels, value)
    return metric


class _Once(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)
