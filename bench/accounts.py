"""What the stack's processes use, from the kernel (/proc): processor time and memory, by kind of process."""

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from mesh.stack import Stack

Seconds = dict[str, float]
"""Processor seconds by kind of process."""

KINDS = {"mongo": "mongod", "epmd": "rabbitmq"}
"""Programs that are shown under another name than their own."""


def kind_of(program: str) -> str:
    """The kind of a program of the stack: `edge-2` is an edge, `mongo-0` a mongod."""
    base = re.sub(r"(-\d+)+$", "", program)
    return KINDS.get(base, base)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Of all processes of a kind, in bytes: resident, and the proportional share of what is shared."""

    rss: int
    pss: int


class Accounts:
    """The processes of a running stack, each program with all that it started.

    Args:
        stack: asked for its processes once, so make a new one after a program was started again.
    """

    def __init__(self, stack: Stack) -> None:
        self._programs = {status.name: psutil.Process(status.pid) for status in stack.status() if status.pid}

    def pids(self, kind: str) -> list[int]:
        """The processes of a kind, without their children."""
        return [process.pid for name, process in self._programs.items() if kind_of(name) == kind]

    def seconds(self) -> Seconds:
        """Processor time used so far, user and system, with that of children that have ended."""
        used: Seconds = defaultdict(float)
        for name, process in self._processes():
            with suppress(psutil.NoSuchProcess):  # its parent's children_user has it then
                times = process.cpu_times()
                used[kind_of(name)] += times.user + times.system + times.children_user + times.children_system
        return dict(used)

    def memory(self) -> dict[str, Memory]:
        """What each kind holds now."""
        rss: dict[str, int] = defaultdict(int)
        pss: dict[str, int] = defaultdict(int)
        for name, process in self._processes():
            with suppress(psutil.NoSuchProcess):
                held = process.memory_full_info()
                rss[kind_of(name)] += held.rss
                pss[kind_of(name)] += held.pss
        return {kind: Memory(rss=rss[kind], pss=pss[kind]) for kind in rss}

    def _processes(self) -> Iterator[tuple[str, psutil.Process]]:
        for name, root in self._programs.items():
            yield name, root
            for child in root.children(recursive=True):
                yield name, child


def used_between(before: Seconds, after: Seconds) -> Seconds:
    """Processor seconds of each kind between two looks."""
    return {kind: after[kind] - before.get(kind, 0.0) for kind in after}


def per_item(used: Seconds, items: int) -> dict[str, float]:
    """Microseconds an item of each kind, and their `total`."""
    each = {kind: round(seconds / items * 1e6, 1) for kind, seconds in sorted(used.items())} if items else {}
    return {"total": round(sum(used.values()) / items * 1e6, 1) if items else 0.0, **each}


def kernel_bytes() -> int:
    """What the kernel holds for itself: slabs (sockets, descriptors …) and the buffers of TCP."""
    slab = re.search(r"^Slab: +(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    pages = re.search(r"^TCP: .* mem (\d+)", Path("/proc/net/sockstat").read_text(), re.MULTILINE)
    if not slab or not pages:
        return 0
    return int(slab[1]) * 1024 + int(pages[1]) * 4096
