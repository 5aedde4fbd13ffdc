"""What is broken when: a pure function of the seed, so that a run is told by its seed."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What there is to be broken.

    Attributes:
        shards: how many replica sets.
        brokers: RabbitMQ's programs.
        redis: Redis's programs.
        services: programs of the services, edges too.
        wires: names of the hops of the fault proxy, each a program that is reached through it.
    """

    shards: int
    brokers: tuple[str, ...]
    redis: tuple[str, ...]
    services: tuple[str, ...]
    wires: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is done to the system.

    Attributes:
        kind: what is done; breaking.py has a method of this name.
        target: to what: a program, a shard's number or a wire; empty for everything.
        after: seconds from the beginning of its round.
        lasts: seconds until it is undone; 0 for what undoes itself.
    """

    kind: str
    target: str
    after: float
    lasts: float


Round = tuple[Fault, ...]
"""Faults that are done at once, most often; the next round begins when all of it is healed."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Of a kind of faults: how many seconds one lasts, how often there are more than one, and how it heals.

    Attributes:
        least: seconds that it lasts at least.
        most: and at most.
        weight: its share of what comes when every kind has been there; 0 for what once is enough of.
        heals: seconds until what was broken runs again, about.
    """

    least: float
    most: float
    weight: int
    heals: float


# Each longer than any timeout of the part that is stopped and of those that talk to it: 2 s of a mailbox
# operation and 5 s of an election, 12 s of a silent feed of the bus, 12 s of a call, 20 s of RabbitMQ's
# heartbeats, and 30 s of a handler, which wakes up with deliveries that others have worked on meanwhile.
STOP, STOP_BROKER, STOP_CONSUMER = 13.0, 25.0, 35.0
BROKERS_DOWN = 20.0

KINDS = {
    "kill-primary": _Kind(0, 0, 4, 4),
    "kill-broker": _Kind(0, 0, 3, 11),
    "kill-redis-empty": _Kind(0, 0, 3, 2),
    "kill-redis": _Kind(0, 0, 2, 2),
    "kill-service": _Kind(0, 0, 6, 3),
    "stop-primary": _Kind(STOP, STOP, 2, 1),
    "stop-broker": _Kind(STOP_BROKER, STOP_BROKER, 0, 1),
    "stop-redis": _Kind(STOP, STOP, 2, 0),
    "stop-service": _Kind(STOP, STOP, 2, 1),
    "stop-consumer": _Kind(STOP_CONSUMER, STOP_CONSUMER, 0, 1),
    "wire-reset": _Kind(0, 0, 4, 0),
    "wire-closed": _Kind(2, 4, 3, 0),
    "wire-delay": _Kind(3, 5, 3, 0),
    "wire-mute": _Kind(3, 6, 3, 0),
    "wire-frozen": _Kind(3, 6, 3, 0),
    "brokers-down": _Kind(BROKERS_DOWN, BROKERS_DOWN, 0, 14),
    "rolling-restart": _Kind(0, 0, 0, 55),
}

TOGETHER = 0.5
"""How often a fault is done while others are, where the time would let it be done alone."""

PAUSE = 2.0
"""Seconds between two rounds, about: until everybody reaches everybody."""


def make(seed: int, seconds: float, layout: Layout, only: Sequence[str] = ()) -> list[Round]:
    """Rounds for so many seconds: all kinds and services once, however many at once that takes; then more.

    Args:
        seed: the same seed, the same plan.
        seconds: how long it may take, about.
        layout: what there is.
        only: kinds; all of them by default.
    """
    chance = random.Random(seed)  # noqa: S311  # chance that can be repeated
    kinds = [kind for kind in KINDS if not only or kind in only]
    faults = [fault for kind in kinds for fault in _each_once(kind, layout, chance)]
    chance.shuffle(faults)
    rounds: list[list[Fault]] = []
    spent = 0.0
    for fault in sorted(faults, key=lambda fault: -takes([fault])):
        alone = takes([fault])
        if not rounds or (spent + alone <= seconds and chance.random() >= TOGETHER):
            rounds.append([fault])
        else:
            min(rounds, key=lambda faults: _crowded(faults, fault)).append(fault)
        spent = sum(map(takes, rounds))
    chance.shuffle(rounds)
    weights = [KINDS[kind].weight or (1 if only else 0) for kind in kinds]
    while any(weights):
        some = chance.choices(kinds, weights, k=chance.choice((1, 1, 2, 3)))
        more = [_fault(kind, _target(kind, layout, chance), chance) for kind in some]
        if (spent := spent + takes(more)) > seconds:
            break
        rounds.append(more)
    return [_spread(faults, chance) for faults in rounds]


def what(fault: Fault) -> str:
    """What every plan has once: a kind, or of `kill-service` one for each service."""
    return f"{fault.kind} {service_of(fault.target)}" if fault.kind == "kill-service" else fault.kind


def service_of(program: str) -> str:
    """The service that a program is a process of."""
    return program.partition("-")[0]


def _each_once(kind: str, layout: Layout, chance: random.Random) -> list[Fault]:
    """A kind's faults that every run has: one, or one a service."""
    if kind != "kill-service":
        return [_fault(kind, _target(kind, layout, chance), chance)]
    of_sort: dict[str, list[str]] = {}
    for service in layout.services:
        of_sort.setdefault(service_of(service), []).append(service)
    return [_fault(kind, chance.choice(programs), chance) for programs in of_sort.values()]


def _crowded(faults: Sequence[Fault], another: Fault) -> tuple[float, float]:
    """By how much a round grows by another fault, and how dense it is."""
    before, after = takes(faults), takes([*faults, another])
    return after - before, len(faults) / after


def takes(faults: Sequence[Fault]) -> float:
    """About how many seconds a round takes: what is done to one part is done one after the other."""
    of_part: dict[str, float] = defaultdict(float)
    for fault in faults:
        for part in _parts(fault):
            of_part[part] += fault.lasts + KINDS[fault.kind].heals
    return PAUSE + max(of_part.values())


def _parts(fault: Fault) -> tuple[str, ...]:
    """What a fault has for itself as long as it goes on, as far as that takes time."""
    match fault.kind.split("-"):
        case ["rolling", _]:
            return ("everything",)
        case ["brokers", _]:
            return "everything", "brokers"
        case [_, "broker"]:
            return ("brokers",)
        case [_, "primary"]:
            return (f"shard {fault.target}",)
        case ["wire", _]:
            return (f"wire of {fault.target}",)
        case _:
            return (fault.target,)


def _spread(faults: Sequence[Fault], chance: random.Random) -> Round:
    """A round whose faults begin one after the other, most of them while the longest one goes on."""
    longest = takes(faults) - PAUSE

    def begin(fault: Fault) -> float:
        return round(chance.uniform(0.2, max(1.5, longest - fault.lasts - KINDS[fault.kind].heals)), 1)

    return tuple(sorted((replace(fault, after=begin(fault)) for fault in faults), key=lambda one: one.after))


def _fault(kind: str, target: str, chance: random.Random) -> Fault:
    lasts = round(chance.uniform(KINDS[kind].least, KINDS[kind].most), 1)
    return Fault(kind=kind, target=target, after=0.0, lasts=lasts)


def _target(kind: str, layout: Layout, chance: random.Random) -> str:
    match kind.split("-"):
        case [_, "primary"]:
            return str(chance.randrange(layout.shards))
        case [_, "broker"]:
            return chance.choice(layout.brokers)
        case [_, "redis", *_]:
            return chance.choice(layout.redis)
        case [_, "service"]:
            return chance.choice(layout.services)
        case [_, "consumer"]:
            return chance.choice([name for name in layout.services if name.startswith("dbstore")])
        case ["wire", _]:
            return chance.choice(layout.wires)
        case _:
            return ""
