"""`mix`: the load of the architecture's original, scaled down; finds how much of it this machine carries."""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench.accounts import Accounts, used_between
from bench.fleet import Fleet
from bench.measure import Sample, Window, left, merged
from bench.people import Person, side_by_side
from bench.report import Context, Result
from bench.rig import Address, Rig, rig
from bench.scenarios.connections import holders
from bench.scenarios.read import METHODS, Readers
from bench.scenarios.send import Pairs
from bench.stats import Figures, latencies, percentile

# The original: 500K connections; a minute 1.5M requests, 150K notifications, 7K messages, 2.5K new chats.
CONNECTIONS, REQUESTS, NOTIFICATIONS, MESSAGES, CHATS = 500_000, 25_000.0, 2_500.0, 117.0, 42.0

# A message makes four events (a message and a chat for each side) and an opened chat one; the rest of the
# notifications is published straight to the bus; the rest of the requests reads, lists and history in turn.
EVENTS = NOTIFICATIONS - 4 * MESSAGES - CHATS
READS = REQUESTS - MESSAGES - CHATS

SLOWEST_S = 0.1
"""p99 of the requests that is borne."""

ACHIEVED = 0.95
"""Share of the requests that must be answered within the run."""

FIRST, GROWTH, FINEST = 0.01, 1.5, 1.1
"""The search: from the first factor up or down by the growth, then between the last two until they are so
close."""

LEAST = 0.001
"""A machine that does not bear this much measures nothing."""

SEARCH_S = 4.0
REQUEST_KINDS = ("read", "accepted", "opened")
ANSWER_S = 20.0


class Openers:
    """Driver: people who open new chats at a fixed rate.

    Args:
        address: where they connect.
        count: people.
        source: the address they come from.
    """

    def __init__(self, address: Address, count: int, source: str) -> None:
        self._address, self._source = address, source
        self._people = [Person(f"opener-{number}") for number in range(count)]
        self._sample = Sample()
        self._peers = itertools.count()
        self._clock: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Connects all."""
        await side_by_side(
            lambda which, person: person.connect(self._address, which, self._source),
            list(enumerate(self._people)),
        )

    async def start(self, rate: float) -> None:
        """Begins to open chats, so many a second."""
        self._clock = asyncio.create_task(self._at(rate))

    async def _at(self, rate: float) -> None:
        due = time.monotonic()
        while True:
            await asyncio.sleep(due - time.monotonic())
            task = asyncio.create_task(self._open_one(due))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
            due += 1 / rate

    async def _open_one(self, due: float) -> None:
        number = next(self._peers)
        person = self._people[number % len(self._people)]
        try:
            await person.call("chats.open", peer_id=f"stranger-{number}")
        except RuntimeError as error:
            self._sample.error(str(error).encode())
        else:
            self._sample.counts["opened"] += 1
            self._sample.seconds["opened"].append(time.monotonic() - due)

    async def mark(self) -> Sample:
        """What was counted since the last mark."""
        taken, self._sample = self._sample, Sample()
        return taken

    async def stop(self) -> int:
        """Opens no more; how many calls were not answered."""
        if self._clock:
            self._clock.cancel()
        return await left(lambda: len(self._calls), ANSWER_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """All drivers of the mix, and the accounts of the servers."""

    holders: Fleet
    readers: Fleet
    pairs: Fleet
    openers: Fleet
    accounts: Accounts

    @property
    def fleets(self) -> Sequence[Fleet]:
        """All of them."""
        return self.holders, self.readers, self.pairs, self.openers

    def start(self, factor: float) -> None:
        """Begins this factor of the whole load."""
        self.holders.each("start", EVENTS * factor / len(self.holders), 0)
        self.readers.each("start", METHODS, READS * factor)
        self.pairs.each("start", MESSAGES * factor)
        self.openers.each("start", CHATS * factor)

    def stop(self) -> int:
        """Ends the load; how much was begun and not answered or pushed."""
        return sum(sum(fleet.each("stop")) for fleet in self.fleets)

    def window(self, seconds: float) -> Window:
        """One measured stretch."""
        self._mark()
        before, own, began = self.accounts.seconds(), self._own(), time.monotonic()
        time.sleep(seconds)
        sample, took = self._mark(), time.monotonic() - began
        used = used_between(before, self.accounts.seconds())
        return Window(seconds=took, sample=sample, used=used, generator=self._own() - own)

    def _mark(self) -> Sample:
        return merged([sample for fleet in self.fleets for sample in fleet.each("mark")])

    def _own(self) -> float:
        return sum(fleet.seconds() for fleet in self.fleets)


def mix(context: Context, *, shards: int, workers: int, generators: int, factor: float) -> Result:
    """Finds the greatest factor that this machine carries, and measures it.

    Args:
        context: length of runs, progress.
        shards: MongoDB replica sets.
        workers: edge processes.
        generators: processes that hold the idle sessions.
        factor: measures this one; 0 to look for the greatest.
    """
    context.told("starting the stack")
    with ExitStack() as leave:
        running = leave.enter_context(rig(shards=shards, edges=workers))
        load = _load(leave, running, generators)
        context.told("writing what is to be read")
        for fleet in (load.readers, load.pairs, load.openers):
            fleet.each("open")
        search = _Search(context, load)
        found = factor or greatest(search.is_borne)
        runs = [search.run(found, context.seconds, f"run {n} at {found:.4f}") for n in range(context.runs)]
    settings = {"shards": shards, "workers": workers, "generators": generators, "factor": round(found, 4)}
    return Result.of("mix", runs, settings=settings, headlines=("request.p99_ms", "cores_for_all"))


def _load(leave: ExitStack, running: Rig, generators: int) -> Load:
    front, enter = running.front, leave.enter_context
    return Load(
        holders=enter(holders(running, generators, "idle")),
        readers=enter(Fleet(Readers, [(front, "mix-read", 32, "127.0.0.51")])),
        pairs=enter(Fleet(Pairs, [(front, "mix-send", 32, "127.0.0.52")])),
        openers=enter(Fleet(Openers, [(front, 32, "127.0.0.53")])),
        accounts=running.accounts(),
    )


def greatest(is_borne: Callable[[float], bool]) -> float:
    """The greatest factor found that is borne.

    Raises:
        RuntimeError: there is none that means anything.
    """
    good = bad = 0.0
    factor = FIRST
    while not (good and bad) or bad / good > FINEST:
        if is_borne(factor):
            good = factor
        else:
            bad = factor
        factor = (good * bad) ** 0.5 if good and bad else good * GROWTH or bad / GROWTH
        if factor < LEAST:
            raise RuntimeError(f"Not even {LEAST} of the load is borne: something else fills the machine.")
    return good


class _Search:
    """Tries factors; each holds its part of the connections, and they stay."""

    def __init__(self, context: Context, load: Load) -> None:
        self._context, self._load = context, load
        self._held = 0

    def is_borne(self, factor: float) -> bool:
        """Whether a short run of this factor goes well."""
        return bool(self.run(factor, SEARCH_S, f"trying {factor:.4f}")["borne"])

    def run(self, factor: float, seconds: float, told: str) -> Figures:
        """Measures a factor."""
        self._context.told(told)
        self._hold(int(CONNECTIONS * factor))
        self._load.start(factor)
        time.sleep(self._context.warm_up)
        run = self._load.window(seconds)
        lost = self._load.stop()
        return _figures(run, factor, self._held, lost)

    def _hold(self, count: int) -> None:
        more = (count - self._held) // len(self._load.holders)
        if more > 0:
            self._load.holders.each("open", more)
            self._held += more * len(self._load.holders)


def _figures(run: Window, factor: float, held: int, lost: int) -> Figures:
    requests = sorted(itertools.chain.from_iterable(run.sample.seconds[kind] for kind in REQUEST_KINDS))
    achieved = len(requests) / (REQUESTS * factor * run.seconds)
    cores = sum(run.used.values()) / run.seconds
    slow = percentile(requests, 0.99) > SLOWEST_S
    return {
        "factor": round(factor, 4),
        "borne": not slow and achieved >= ACHIEVED and not lost,
        "connections": held,
        "requests_per_s": round(len(requests) / run.seconds, 1),
        "messages_per_s": run.rate("delivered"),
        "request": latencies(requests),
        "delivered": latencies(run.sample.seconds["delivered"]),
        "push": latencies(run.sample.seconds["pushed"]),
        "cores": round(cores, 2),
        "cores_for_all": round(cores / factor, 1),
        "cpu_us_per_request_all_in": {
            "total": round(sum(run.used.values()) / len(requests) * 1e6, 1) if requests else 0.0,
            **{kind: round(used / max(len(requests), 1) * 1e6, 1) for kind, used in sorted(run.used.items())},
        },
        "generator_cores": round(run.generator / run.seconds, 2),
        "errors": run.sample.counts["errors"],
        "lost": lost,
    }
