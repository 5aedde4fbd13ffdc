"""What is broken when: a pure function of the seed, so that a run is told by its seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass


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
        lasts: seconds until it is undone; 0 for what undoes itself.
        pause: seconds before it begins, after the one before has begun (`beside`) or was healed.
        beside: it does not wait for the one before.
    """

    kind: str
    target: str
    lasts: float
    pause: float
    beside: bool = False


# Longer than every timeout on the way of a message: 30 s of a queue's handler, 20 s of RabbitMQ's heartbeat.
LONGEST_STOP = 35.0
# Longer than what a client waits for, and than any call between services.
LONG_STOP = 13.0
BROKERS_DOWN = 20.0

# Kind, how many seconds it lasts at least and at most, and its weight once every kind has been there.
KINDS: dict[str, tuple[float, float, int]] = {
    "kill-primary": (0, 0, 4),
    "kill-broker": (0, 0, 3),
    "kill-redis-empty": (0, 0, 3),
    "kill-redis": (0, 0, 2),
    "kill-service": (0, 0, 6),
    "stop-primary": (5, 8, 2),
    "stop-broker": (5, 8, 1),
    "stop-redis": (4, 6, 2),
    "stop-service": (LONG_STOP, LONG_STOP, 2),
    "stop-consumer": (LONGEST_STOP, LONGEST_STOP, 0),
    "wire-reset": (0, 0, 4),
    "wire-closed": (2, 4, 3),
    "wire-delay": (3, 5, 3),
    "wire-mute": (3, 6, 3),
    "wire-frozen": (3, 6, 3),
    "brokers-down": (BROKERS_DOWN, BROKERS_DOWN, 0),
    "rolling-restart": (0, 0, 0),
}

RECOVERY = 2.5
"""Seconds that a fault that undoes itself is thought to take, for planning alone."""


def make(seed: int, seconds: float, layout: Layout, only: Sequence[str] = ()) -> list[Fault]:
    """Faults for about so many seconds: each kind once, the long ones early, then more by their weight.

    Args:
        seed: the same seed, the same plan.
        seconds: how long it may take, about.
        layout: what there is.
        only: kinds; all of them by default.
    """
    chance = random.Random(seed)  # noqa: S311  # chance that can be repeated
    kinds = [kind for kind in KINDS if not only or kind in only]
    first = sorted(kinds, key=lambda kind: (-KINDS[kind][1] >= 0, chance.random()))
    weights = [KINDS[kind][2] or (1 if only else 0) for kind in kinds]
    plan: list[Fault] = []
    spent = 0.0
    while spent < seconds and (first or any(weights)):
        kind = first.pop() if first else chance.choices(kinds, weights)[0]
        fault = _fault(kind, layout, chance, beside=bool(plan) and chance.random() < 0.3)
        if spent + (took := fault.pause + max(fault.lasts, RECOVERY)) > seconds and plan:
            break
        spent += fault.pause if fault.beside else took
        plan.append(fault)
    return plan


def _fault(kind: str, layout: Layout, chance: random.Random, *, beside: bool) -> Fault:
    least, most, _ = KINDS[kind]
    return Fault(
        kind=kind,
        target=_target(kind, layout, chance),
        lasts=round(chance.uniform(least, most), 1),
        pause=round(chance.uniform(0.2, 1.5), 1),
        beside=beside,
    )


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
