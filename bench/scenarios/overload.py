"""`overload`: finds what the stack carries of a mix of calls, and offers several times that."""

import asyncio
import itertools
import time
from collections.abc import Mapping
from typing import Any

from bench.accounts import Accounts, Seconds, used_between
from bench.fleet import Fleet
from bench.measure import Sample, left, merged
from bench.people import Person, side_by_side, text_of
from bench.report import Context, Result
from bench.rig import Address, rig
from bench.sockets import Kind, call, kind_of, number_of
from bench.stats import Figures, latencies, percentile

MIX = {"messages.send": 0.04, "messages.history": 0.36, "chats.typing": 0.30, "presence.get": 0.30}
"""Shares of the calls. The original has 0.5 % sends; eight times as many make the demonstration harder."""

PAGE = 20
SHED = b'"reason":"SHED"'
TICK_S = 0.002
ANSWER_S = 10.0

CARRIED, SLOWEST_S = 0.99, 0.25
"""What counts as carried: so many calls of each method succeed, and p99 of them all is under that."""

LEAST, FIRST, GROWTH, FINEST = 50.0, 300.0, 1.5, 1.15
"""The search, in calls a second: up from the first, then between the last two until they are so close."""

SEARCH_S, QUIET_S = 4.0, 4.0
"""Seconds of a trial, and after one that was too much."""


class Talker:
    """One of two people in a chat.

    Attributes:
        asked: what each call that is not answered was, and when it was due; due 0 where it does not count.
    """

    def __init__(self, name: str) -> None:
        self.person = Person(name)
        self.sample = Sample()
        self.asked: dict[int, tuple[str, float]] = {}
        self._params: dict[str, str] = {}
        self._number = 0

    async def open(self, address: Address, which: int, source: str, peer: str, writes: bool) -> None:
        """Connects and opens the chat; one of both writes what is to be read."""
        await self.person.connect(address, which, source)
        opened = await self.person.call("chats.open", peer_id=peer)
        chat_id = opened["chat"]["chat_id"]
        for number in range(PAGE if writes else 0):
            key = f"h-{number}"
            await self.person.call("messages.send", chat_id=chat_id, text=text_of(number), client_msg_id=key)
        self._params = {
            "messages.history": f'{{"chat_id":"{chat_id}","limit":{PAGE}}}',
            "chats.typing": f'{{"chat_id":"{chat_id}"}}',
            "presence.get": f'{{"user_ids":["{peer}"]}}',
            "messages.send": f'{{"chat_id":"{chat_id}","text":"over and over","client_msg_id":"o-%d"}}',
        }
        self.person.socket.take_by(self._answered)

    def ask(self, method: str, due: float) -> None:
        """Makes a call."""
        self._number += 1
        self.asked[self._number] = method, due
        params = self._params[method]
        if method == "messages.send":
            params %= self._number
        self.person.socket.send(call(method, params, self._number))

    def _answered(self, text: bytes) -> None:
        kind = kind_of(text)
        if kind is Kind.NOTIFICATION:
            return
        method, due = self.asked.pop(number_of(text))
        if not due:
            return
        took = time.monotonic() - due
        if kind is Kind.RESULT:
            self.sample.seconds[method].append(took)
        elif SHED in text:
            self.sample.counts[f"{method} shed"] += 1
            self.sample.seconds["shed"].append(took)
        else:
            self.sample.error(text)


class Crowd:
    """Driver: people in pairs who call at fixed rates, whatever comes back (an open loop).

    Args:
        address: where they connect.
        names: begins every user's id.
        count: pairs.
        source: the address they come from.
    """

    def __init__(self, address: Address, names: str, count: int, source: str) -> None:
        self._address, self._source = address, source
        self._talkers = [Talker(f"{names}-{number}") for number in range(2 * count)]

    async def open(self) -> None:
        """Connects all."""
        names = [talker.person.user_id for talker in self._talkers]
        await side_by_side(
            lambda which, talker: talker.open(
                self._address, which, self._source, names[which ^ 1], writes=which % 2 == 0
            ),
            list(enumerate(self._talkers)),
            at_once=8,
        )

    async def offer(self, rates: Mapping[str, float], warm_up: float, seconds: float) -> Sample:
        """Calls at these rates a second; what became of the calls that were due after the warm-up."""
        sample = Sample()
        for talker in self._talkers:
            talker.sample = sample
        begins = time.monotonic() + warm_up
        await self._call(rates, begins, begins + seconds, sample)
        await left(lambda: sum(len(talker.asked) for talker in self._talkers), ANSWER_S)
        for talker in self._talkers:
            for _, due in talker.asked.values():
                sample.counts["unanswered"] += due > 0
            talker.asked.clear()
        return sample

    async def _call(self, rates: Mapping[str, float], begins: float, ends: float, sample: Sample) -> None:
        turn = itertools.cycle(self._talkers)
        due = dict.fromkeys(rates, time.monotonic())
        while (now := time.monotonic()) < ends:
            for method, rate in rates.items():
                while due[method] <= now:
                    # From when it was due, not from when we got round to it: else a slow answer hides others.
                    counts = due[method] >= begins
                    next(turn).ask(method, due[method] if counts else 0.0)
                    sample.counts[f"{method} offered"] += counts
                    due[method] += 1 / rate
            await asyncio.sleep(TICK_S)


class _Trials:
    """Offers loads, and says what became of them."""

    def __init__(self, context: Context, fleet: Fleet, accounts: Accounts) -> None:
        self._context, self._fleet, self._accounts = context, fleet, accounts

    def carried(self) -> float:
        """The greatest rate found that is carried, calls a second."""
        good, bad, rate = 0.0, 0.0, FIRST
        while not (good and bad and bad / good <= FINEST):
            run = self.run(rate, SEARCH_S, f"trying {rate:.0f} calls/s")
            if _is_carried(run):
                good = rate
            elif rate < LEAST:
                raise RuntimeError(f"Not even {rate:.0f} calls/s are carried: {run}")
            else:
                bad = rate
                time.sleep(QUIET_S)
            if not good:
                rate /= GROWTH
            else:
                rate = (good * bad) ** 0.5 if bad else rate * GROWTH
        return good

    def run(self, rate: float, seconds: float, told: str) -> Figures:
        """What became of so many calls a second."""
        self._context.told(told)
        rates = {method: rate * share / len(self._fleet) for method, share in MIX.items()}
        before, own = self._accounts.seconds(), self._fleet.seconds()
        sample = merged(self._fleet.each("offer", rates, self._context.warm_up, seconds))
        used = used_between(before, self._accounts.seconds())
        own = self._fleet.seconds() - own
        return _figures(sample, rate, used, own, self._context.warm_up + seconds)


def _is_carried(run: Figures) -> bool:
    served = all(run["methods"][method]["succeeded"] >= CARRIED for method in MIX)
    return served and run["all_p99_ms"] <= SLOWEST_S * 1000


def _figures(sample: Sample, rate: float, used: Seconds, own: float, seconds: float) -> Figures:
    every = sorted(itertools.chain.from_iterable(sample.seconds[method] for method in MIX))
    methods: Figures = {}
    for method in MIX:
        offered, took = sample.counts[f"{method} offered"], sample.seconds[method]
        methods[method] = {
            "offered": offered,
            "succeeded": round(len(took) / max(offered, 1), 4),
            "shed": round(sample.counts[f"{method} shed"] / max(offered, 1), 4),
            **latencies(took),
        }
    return {
        "calls_per_s": round(rate, 1),
        "methods": methods,
        "all_p99_ms": round(percentile(every, 0.99) * 1000, 2),
        "refusals": latencies(sample.seconds["shed"]),
        "errors": sample.counts["errors"],
        "unanswered": sample.counts["unanswered"],
        "complaint": sample.complaint,
        "cores": {kind: round(each / seconds, 2) for kind, each in sorted(used.items()) if each > 0.05},
        "generator_cores": round(own / seconds, 2),
    }


def overload(
    context: Context, *, shards: int, pairs: int, times: float, carried: float, generators: int
) -> Result:
    """Measures what becomes of each method's calls when there are too many.

    Args:
        context: length of runs, progress.
        shards: MongoDB replica sets.
        pairs: pairs of people, on all generators together.
        times: of what is carried that is offered.
        carried: takes this as carried, calls a second; 0 to look for it.
        generators: processes that the people are spread over.
    """
    context.told("starting the stack")
    shares = pairs // generators
    with (
        rig(shards=shards, limits=True) as running,
        Fleet(
            Crowd,
            [(running.front, f"over{n}", shares, f"127.0.0.{n + 2}") for n in range(generators)],
        ) as fleet,
    ):
        context.told("writing what is to be read")
        fleet.each("open")
        trials = _Trials(context, fleet, running.accounts())
        found = carried or trials.carried()
        calm = trials.run(found, context.seconds, f"{found:.0f} calls/s, which is carried")
        runs = [
            trials.run(found * times, context.seconds, f"run {n + 1} at {times:g} times that")
            for n in range(context.runs)
        ]
    settings: dict[str, Any] = {
        "shards": shards, "pairs": pairs, "times": times, "carried": round(found, 1),
        "generators": generators,
    }  # fmt: skip
    return Result.of(
        "overload",
        [{**run, "carried": calm} for run in runs],
        settings=settings,
        headlines=("methods.messages.send.succeeded", "methods.messages.send.p99_ms"),
    )
