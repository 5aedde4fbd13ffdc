"""A result as a picture: processor time by kind of process, and latencies."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # after the choice of a backend without a screen
from matplotlib.axes import Axes

from bench.report import Result
from bench.stats import Figures

PERCENTILES = ("p50_ms", "p99_ms", "p999_ms")


def draw(result: Result, path: Path) -> Path:
    """Draws what the result has of both, and saves it as PNG."""
    costs = groups(result.figures, lambda name, _: name.startswith("cpu_us"))
    times = groups(result.figures, lambda _, figures: "p50_ms" in figures)
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    figure.suptitle(result.name)
    _costs(axes[0], costs)
    _times(axes[1], times)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
    return path


def groups(figures: Figures, wanted: object, name: str = "") -> dict[str, Figures]:
    """The groups of figures that are wanted, by their full name, however deep they lie."""
    found: dict[str, Figures] = {}
    if callable(wanted) and wanted(name.rpartition(".")[2], figures):
        found[name or "all"] = figures
    for key, value in figures.items():
        if isinstance(value, Mapping):
            found |= groups(dict(value), wanted, f"{name}.{key}" if name else key)
    return found


def _costs(axes: Axes, costs: dict[str, Figures]) -> None:
    """A bar a group, with a piece a kind of process."""
    kinds = sorted({kind for cost in costs.values() for kind in cost if kind != "total"})
    left = [0.0] * len(costs)
    for kind in kinds:
        widths = [cost.get(kind, 0.0) for cost in costs.values()]
        axes.barh(list(costs), widths, left=left, label=kind)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_xlabel("µs of processor time an item")
    if kinds:
        axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=5)


def _times(axes: Axes, times: dict[str, Figures]) -> None:
    """Three bars a group, on a logarithmic scale."""
    height = 0.8 / len(PERCENTILES)
    for index, percentile in enumerate(PERCENTILES):
        places = [place + (index - 1) * height for place in range(len(times))]
        axes.barh(places, [group[percentile] for group in times.values()], height, label=percentile)
    axes.set_yticks(range(len(times)), list(times))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("ms")
    if times:
        axes.legend(fontsize="small")
