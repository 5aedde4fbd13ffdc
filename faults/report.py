"""The numbers of a run for people and programs: tables, a plot, one JSON line."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from faults.checker import Broken, History

Record = dict[str, Any]

SHOWN = 30


def arrivals(history: History) -> list[tuple[float, float]]:
    """For each answered message: when its sending began, and how long until its receiver was pushed it."""
    first: dict[tuple[str, str], float] = {}
    message_ids: dict[tuple[str, str], str] = {}
    for call in history["call"]:
        if call["method"] == "messages.send":
            key = (call["user"], call["params"]["client_msg_id"])
            first[key] = min(first.get(key, call["begin"]), call["begin"])
            if call["outcome"] == "ok":
                message_ids[key] = call["answer"]["message"]["message_id"]
    heard: dict[str, float] = {}
    for event in history["event"]:
        if event["method"] == "message.new" and event["device"] == "socket-0":
            message = event["params"]["message"]
            if message["sender_id"] != event["user"]:
                heard.setdefault(message["message_id"], event["at"])
    found = ((first[key], heard.get(message_id)) for key, message_id in message_ids.items())
    return sorted((begin, at - begin) for begin, at in found if at is not None)


def recoveries(history: History) -> list[Record]:
    """Each fault with the seconds that it cost.

    `recovery` is the time from its healing until everybody reached everybody, None for too long: faults
    that were done at once recover together, and from the healing of the last one. `slowest` is the longest
    way of a message that was sent while the fault lasted.
    """
    way = arrivals(history)
    moments = [one["at"] for one in history["recovered"]]
    healings = [fault["healed"] for fault in history["fault"]]

    def after(healed: float) -> float | None:
        at = next((moment for moment in moments if moment >= healed), None)
        return round(at - max(one for one in healings if one <= at), 2) if at is not None else None

    def slowest(fault: Record) -> float:
        during = (took for begin, took in way if fault["begin"] <= begin <= fault["healed"])
        return round(max(during, default=0.0), 2)

    return [
        fault | {"recovery": after(fault["healed"]), "slowest": slowest(fault)} for fault in history["fault"]
    ]


def table(
    console: Console, numbers: Mapping[str, int], faults: Iterable[Record], broken: Sequence[Broken]
) -> None:
    """Prints what happened."""
    by_kind: dict[str, list[Record]] = {}
    for fault in faults:
        by_kind.setdefault(fault["name"], []).append(fault)
    kinds = Table(
        "fault", "times", "lasted, at most", "recovered after, at most", "slowest message", box=None
    )
    for kind, done in sorted(by_kind.items()):
        kinds.add_row(
            kind,
            str(len(done)),
            _most(fault["healed"] - fault["begin"] for fault in done),
            _most(fault["recovery"] for fault in done),
            _most(fault["slowest"] for fault in done),
        )
    console.print(kinds)
    counts = Table("", "", box=None, show_header=False)
    for name, number in numbers.items():
        counts.add_row(name.replace("_", " "), str(number))
    console.print(counts)
    for one in broken[:SHOWN]:
        console.print(f"[red]promise {one.promise}[/] {one.what}: {one.detail}", highlight=False)
    if len(broken) > SHOWN:
        more = Counter(f"promise {one.promise} {one.what}" for one in broken)
        console.print(f"… {len(broken)} in all: {dict(more)}")


def _most(seconds: Iterable[float | None]) -> str:
    known = list(seconds)
    return "never" if None in known else f"{max(one or 0.0 for one in known):.1f} s"


def plot(path: Path, history: History, title: str) -> None:
    """Draws when messages arrived, and the faults behind them, as PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    way = arrivals(history)
    figure, axes = plt.subplots(figsize=(14, 5), layout="constrained")
    axes.scatter([begin for begin, _ in way], [max(took, 0.001) for _, took in way], s=4, color="tab:blue")
    axes.set_yscale("log")
    axes.set_xlabel("sent, seconds since the run began")
    axes.set_ylabel("until pushed to the receiver, s")
    axes.set_title(title)
    for row, fault in enumerate(history["fault"]):
        axes.axvspan(fault["begin"], max(fault["healed"], fault["begin"] + 0.2), color="tab:red", alpha=0.12)
        height = 0.98 - 0.045 * (row % 8)
        label = f"{fault['name']} {fault['target']}"
        axes.text(fault["begin"], height, label, fontsize=6, transform=axes.get_xaxis_transform(), va="top")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def line(seed: int, numbers: Mapping[str, int], faults: Iterable[Record], broken: Sequence[Broken]) -> str:
    """The one line for programs."""
    told = [
        {name: fault[name] for name in ("name", "target", "recovery", "slowest")}
        | {"lasted": round(fault["healed"] - fault["begin"], 2)}
        for fault in faults
    ]
    recovered = [fault["recovery"] for fault in told if fault["recovery"] is not None]
    return json.dumps(
        {
            "seed": seed,
            **numbers,
            "recovery_max_s": max(recovered, default=0.0),
            "recoveries": told,
            "promises_broken": sorted({one.promise for one in broken}),
            "passed": not broken,
        }
    )
