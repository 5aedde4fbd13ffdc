"""The numbers of a process: bound series that cost a fraction of a microsecond, exported by OpenTelemetry.

OpenTelemetry's own instruments look their series up at every measurement, which costs some 6 µs in Python
(`python -m bench.telemetry`). Here a series is bound once and is a plain number; OpenTelemetry's SDK reads
counters and gauges when it is asked (observable instruments), and `_Reader` adds the histograms, which the
API has no observable form of. What is measured where stands with what is measured; docs/observability.md
lists all.
"""

import contextlib
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from opentelemetry import metrics as otel
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics import export
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import start_http_server

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds for what a caller waits for."""

LONG_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
"""Bounds for what happens behind the answer; the retry ladder takes minutes."""

SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
"""Bounds for how many items went together."""


class Value:
    """One series of a counter or a gauge."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, amount: float = 1.0) -> None:
        """Counts."""
        self.value += amount

    def set(self, value: float) -> None:
        """Says how it is now; for gauges."""
        self.value = value


class Distribution:
    """One series of a histogram.

    Args:
        bounds: the buckets' upper ends, included, ascending.
    """

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def record(self, value: float) -> None:
        """Takes one measurement."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


S = TypeVar("S")


class Family(Generic[S]):
    """One metric: its series, by the values of its labels.

    Label values must come from a small fixed set; a client's text or a user's id is none.
    """

    def __init__(self, labels: tuple[str, ...], make: Callable[[], S]) -> None:
        self._labels = labels
        self._make = make
        self._series: dict[tuple[str, ...], S] = {}

    def labels(self, *values: str) -> S:
        """The series with these values, in the order of the labels; bind it where it is used often."""
        found = self._series.get(values)
        if found is None:
            if len(values) != len(self._labels):
                raise ValueError(f"values for the labels {self._labels} are needed, not {values}")
            found = self._series[values] = self._make()
        return found

    def series(self) -> list[tuple[dict[str, str], S]]:
        """Every series with its labels; safe to call beside measurements in another thread."""
        return [
            (dict(zip(self._labels, values, strict=True)), one) for values, one in list(self._series.items())
        ]


_meter = otel.get_meter("messenger")
_histograms: list[tuple[str, str, str, tuple[float, ...], Family[Distribution]]] = []


def counter(name: str, about: str, labels: tuple[str, ...] = ()) -> Family[Value]:
    """A count that only grows; Prometheus sees `<name>_total`."""
    family = Family(labels, Value)
    _meter.create_observable_counter(name, [_observer(family)], description=about)
    return family


def gauge(name: str, about: str, labels: tuple[str, ...] = ()) -> Family[Value]:
    """A number that goes up and down, set by who knows it."""
    family = Family(labels, Value)
    _meter.create_observable_gauge(name, [_observer(family)], description=about)
    return family


def watch(name: str, about: str, look: Callable[[], float]) -> None:
    """A number that is looked up when somebody asks, from another thread than the loop's."""
    _meter.create_observable_gauge(name, [lambda _: [otel.Observation(look())]], description=about)


def histogram(
    name: str, about: str, labels: tuple[str, ...] = (), *, bounds: tuple[float, ...], unit: str = ""
) -> Family[Distribution]:
    """How measurements are spread; with the unit `s`, Prometheus sees `<name>_seconds`."""
    family = Family(labels, lambda: Distribution(bounds))
    _histograms.append((name, about, unit, bounds, family))
    return family


def _observer(family: Family[Value]) -> Callable[[otel.CallbackOptions], Iterable[otel.Observation]]:
    return lambda _: [otel.Observation(one.value, labels) for labels, one in family.series()]


# ── export ──────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def served(service: str, listen: str) -> Iterator[None]:
    """Serves `/metrics` in Prometheus' format for as long as the block runs.

    Args:
        service: the process's logical name.
        listen: host:port; empty for not at all.
    """
    if not listen:
        yield
        return
    host, _, port = listen.rpartition(":")
    reader = _Reader(scope_info_enabled=False)
    provider = sdk.MeterProvider([reader], resource=Resource.create({SERVICE_NAME: service}))
    otel.set_meter_provider(provider)
    server, thread = start_http_server(int(port), host)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        provider.shutdown()


class _Reader(PrometheusMetricReader):
    """Adds the histograms to what the SDK collected."""

    _since = time.time_ns()

    def _receive_metrics(self, metrics_data: export.MetricsData, *args: Any, **kwargs: Any) -> None:
        now = time.time_ns()
        found = [_metric(*histogram, self._since, now) for histogram in _histograms]
        scope = export.ScopeMetrics(InstrumentationScope("messenger"), [m for m in found if m], "")
        resource = metrics_data.resource_metrics[0].resource
        ours = export.ResourceMetrics(resource, [scope], "")
        super()._receive_metrics(export.MetricsData([*metrics_data.resource_metrics, ours]), *args, **kwargs)


def _metric(
    name: str,
    about: str,
    unit: str,
    bounds: tuple[float, ...],
    family: Family[Distribution],
    since: int,
    now: int,
) -> export.Metric | None:
    points = [
        export.HistogramDataPoint(
            attributes=labels,
            start_time_unix_nano=since,
            time_unix_nano=now,
            count=sum(counts := list(one.counts)),
            sum=one.total,
            bucket_counts=counts,
            explicit_bounds=bounds,
            min=0.0,
            max=0.0,
        )
        for labels, one in family.series()
    ]
    if not points:
        return None
    data = export.Histogram(points, export.AggregationTemporality.CUMULATIVE)
    return export.Metric(name, about, unit, data)
