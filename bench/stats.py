"""Percentiles of one run, and the spread over several; pure."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Figures = dict[str, Any]
"""Figures of one run or of a scenario: numbers, or further figures by name."""


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of an ordered sequence; 0 of an empty one."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def latencies(seconds: Sequence[float]) -> Figures:
    """p50, p99, p99.9 and the greatest, in ms."""
    ordered = sorted(seconds)
    shown = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999, "max_ms": 1.0}
    return {name: round(percentile(ordered, share) * 1000, 2) for name, share in shown.items()}


def median(runs: Sequence[Mapping[str, Any]]) -> Figures:
    """Figure by figure the median of the runs; what is no number is the last run's."""
    return {name: _median([run[name] for run in runs if name in run]) for name in runs[-1]}


def _median(values: Sequence[Any]) -> Any:  # as the runs have it
    if all(isinstance(value, Mapping) for value in values):
        return median(values)
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return int(statistics.median(values))
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return round(statistics.median(values), 4)
    return values[-1]


def spread(runs: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """The least and the greatest of a figure over the runs."""
    values = [run[name] for run in runs]
    return [min(values), max(values)]
