"""`notify`: events from the bus to sockets, as many as arrive."""

from bench.accounts import per_item
from bench.measure import Window, runs
from bench.report import Context, Result
from bench.rig import rig
from bench.scenarios.connections import holders
from bench.stats import Figures, latencies


def notify(context: Context, *, users: int, window: int, generators: int) -> Result:
    """Measures pushing.

    Args:
        context: length of runs, progress.
        users: sessions that are pushed to.
        window: events under way at once.
        generators: processes that publish and hear.
    """
    context.told("starting the stack")
    with rig(shards=1) as running, holders(running, generators, "told") as fleet:
        context.told("connecting")
        fleet.each("open", users // generators)
        start = (0.0, window // generators)
        windows = runs(fleet, running.accounts(), start=start, **context.length)
    settings = {"users": users, "window": window, "generators": generators}
    return Result.of(
        "notify",
        [_figures(one) for one in windows],
        settings=settings,
        headlines=("pushed_per_s", "cpu_us_per_notification.total"),
    )


def _figures(run: Window) -> Figures:
    count = run.sample.counts["pushed"]
    edge = run.used.get("edge", 0.0)
    return {
        "pushed_per_s": run.rate("pushed"),
        # What one core of an edge would push if it did nothing else.
        "pushed_per_edge_core_s": round(count / edge, 1) if edge else 0.0,
        **latencies(run.sample.seconds["pushed"]),
        "cpu_us_per_notification": per_item(run.used, count),
        "generator_us_per_notification": per_item({"": run.generator}, count)["total"],
        "errors": run.sample.counts["errors"],
    }
