"""`connections`: sessions that are held, what each costs, and how soon they are pushed to meanwhile."""

import time

from bench.accounts import Memory, kernel_bytes, per_item, used_between
from bench.fleet import Fleet
from bench.measure import merged, window
from bench.report import Context, Result
from bench.rig import Rig, rig
from bench.scenarios.holding import Holders
from bench.stats import Figures, latencies

SETTLE_S = 2.0
"""For what a connection leaves behind only for a moment."""

PUSHES_PER_S = 100.0

SLICE = 1_000
"""Connections that a driver is told to open at a time: it must answer while its parent waits."""


def holders(running: Rig, generators: int, name: str) -> Fleet:
    """Drivers that connect to the edges straight: NGINX would need two descriptors a connection."""
    redis = tuple(running.env()["REDIS_URLS"].split())
    return Fleet(
        Holders, [(running.behind, redis, f"{name}{n}", f"127.0.0.{n + 2}") for n in range(generators)]
    )


def connections(context: Context, *, count: int, workers: int, generators: int, shards: int) -> Result:
    """Measures held connections; each run adds its part of them to those that are there.

    Args:
        context: length of runs, progress.
        count: connections in the end.
        workers: edge processes.
        generators: processes that hold the other end.
        shards: MongoDB replica sets.
    """
    context.told("starting the stack")
    runs: list[Figures] = []
    with rig(shards=shards, edges=workers) as running, holders(running, generators, "held") as fleet:
        fleet.each("open", 50)  # what the first ones make a process load
        time.sleep(SETTLE_S)
        part = count // context.runs // generators
        for number in range(1, context.runs + 1):
            context.told(f"opening part {number} of {context.runs}")
            runs.append(_part(running, fleet, part, context.seconds))
            runs[-1]["held"] = (50 + number * part) * generators
    settings = {"count": count, "workers": workers, "generators": generators, "shards": shards}
    return Result.of(
        "connections",
        runs,
        settings=settings,
        headlines=("edge_kb_per_connection", "opened_per_s", "push.p99_ms"),
    )


def _part(running: Rig, fleet: Fleet, each: int, seconds: float) -> Figures:
    accounts, opened = running.accounts(), each * len(fleet)
    fleet.each("mark")
    held, kernel, used, began = accounts.memory(), kernel_bytes(), accounts.seconds(), time.monotonic()
    for first in range(0, each, SLICE):
        fleet.each("open", min(SLICE, each - first))
    took = time.monotonic() - began
    spent = used_between(used, accounts.seconds())
    connect = merged(fleet.each("mark")).seconds["connect"]
    time.sleep(SETTLE_S)
    after, kernel = accounts.memory(), kernel_bytes() - kernel
    fleet.each("start", PUSHES_PER_S / len(fleet), 0)
    pushed = window(fleet, accounts, seconds)
    if lost := sum(fleet.each("stop")):
        raise RuntimeError(f"{lost} events were published and never pushed")
    return {
        "edge_kb_per_connection": _kb(after["edge"].rss - held["edge"].rss, opened),
        "edge_pss_kb_per_connection": _kb(after["edge"].pss - held["edge"].pss, opened),
        # Both ends are on this machine.
        "kernel_kb_per_connection_both_ends": _kb(kernel, opened),
        "opened_per_s": round(opened / took, 1),
        "cpu_us_per_opening": per_item(spent, opened),
        "opening": latencies(connect),
        "push": latencies(pushed.sample.seconds["pushed"]),
        "idle_cpu_percent": _percent(pushed.used, pushed.seconds),
        "memory_mb": _megabytes(after),
    }


def _kb(size: int, count: int) -> float:
    return round(size / count / 1024, 2)


def _percent(used: dict[str, float], seconds: float) -> Figures:
    return {kind: round(spent / seconds * 100, 1) for kind, spent in sorted(used.items())}


def _megabytes(memory: dict[str, Memory]) -> Figures:
    return {kind: round(held.pss / 2**20, 1) for kind, held in sorted(memory.items())}
