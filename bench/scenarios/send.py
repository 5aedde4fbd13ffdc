"""`send`: messages of pairs, all the way to the receiver's socket, durable on both sides."""

import asyncio
import time
from typing import Any

from bench.accounts import per_item
from bench.fleet import Fleet
from bench.measure import Sample, Window, left, runs
from bench.people import Person, side_by_side, text_of
from bench.report import Context, Result
from bench.rig import Address, rig
from bench.sockets import Kind, call, kind_of, member_of, method_of, number_of
from bench.stats import Figures, latencies

NEW = b"message.new"
DRAIN_S = 20.0
"""Seconds for what is under way to arrive after the last message was sent."""

PAUSE_S = 0.05
"""Before a sender goes on after an error."""


class Pair:
    """Two people and their chat; the first writes, the second hears.

    Attributes:
        sent: when each message was due that has not arrived, by its number.
        accepted: when each of them was accepted.
    """

    def __init__(self, sample: Sample, name: str) -> None:
        self.sample = sample
        self.sender, self.receiver = Person(f"{name}-a"), Person(f"{name}-b")
        self.sent: dict[int, float] = {}
        self.accepted: dict[int, float] = {}
        self.looping = False
        self._chat_id = ""
        self._number = 0

    async def open(self, address: Address, which: int, source: str) -> None:
        """Connects both and opens their chat; then takes over their sockets."""
        await self.sender.connect(address, which, source)
        await self.receiver.connect(address, which + 1, source)
        opened = await self.sender.call("chats.open", peer_id=self.receiver.user_id)
        self._chat_id = opened["chat"]["chat_id"]
        await asyncio.sleep(0)
        self.sender.socket.take_by(self._answered)
        self.receiver.socket.take_by(self._pushed)

    def write(self, due: float) -> None:
        """Sends the next message; `due` is the time that its latency counts from."""
        self._number += 1
        number = self._number
        self.sent[number] = due
        params = (
            f'{{"chat_id":"{self._chat_id}","text":"{text_of(number)}",'
            f'"client_msg_id":"{self.sender.user_id}-{number}"}}'
        )
        self.sender.socket.send(call("messages.send", params, number))

    def _answered(self, text: bytes) -> None:
        kind = kind_of(text)
        if kind is Kind.RESULT:
            number, now = number_of(text), time.monotonic()
            if (due := self.sent.get(number)) is not None:
                self.accepted[number] = now
                self.sample.seconds["accepted"].append(now - due)
            self.sample.counts["accepted"] += 1
        elif kind is Kind.ERROR:
            self.sample.error(text)
            self.sent.pop(number_of(text), None)
            if self.looping:
                asyncio.get_running_loop().call_later(PAUSE_S, self._go_on)

    def _pushed(self, text: bytes) -> None:
        if kind_of(text) is not Kind.NOTIFICATION or method_of(text) != NEW:
            return
        number, now = int(member_of(text, b"text")[1:].split(b" ", 1)[0]), time.monotonic()
        due = self.sent.pop(number, None)
        if due is None:
            return  # a repetition: delivery is at least once
        self.sample.counts["delivered"] += 1
        self.sample.seconds["delivered"].append(now - due)
        # Delivered before its answer was read: then the two were as good as one.
        self.sample.seconds["gap"].append(max(0.0, now - self.accepted.pop(number, now)))
        self._go_on()

    def _go_on(self) -> None:
        if self.looping:
            self.write(time.monotonic())


class Pairs:
    """Driver: pairs in a closed loop, or at a fixed rate.

    Args:
        address: where they connect.
        names: begins every user's id.
        count: pairs.
        source: the address they come from.
    """

    def __init__(self, address: Address, names: str, count: int, source: str) -> None:
        self._address, self._source = address, source
        self._sample = Sample()
        self._pairs = [Pair(self._sample, f"{names}-{number}") for number in range(count)]
        self._clock: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connects all pairs."""
        await side_by_side(
            lambda number, pair: pair.open(self._address, number, self._source), list(enumerate(self._pairs))
        )

    async def start(self, rate: float) -> None:
        """Begins to send.

        Args:
            rate: messages a second, evenly spaced; 0 for a closed loop: each pair has one under way.
        """
        if rate:
            self._clock = asyncio.create_task(self._at(rate))
            return
        for pair in self._pairs:
            pair.looping = True
            pair.write(time.monotonic())

    async def _at(self, rate: float) -> None:
        due, number = time.monotonic(), 0
        while True:
            await asyncio.sleep(due - time.monotonic())
            while due <= time.monotonic():
                # From when it was due, not from when we got round to it: else a slow answer hides others.
                self._pairs[number % len(self._pairs)].write(due)
                due, number = due + 1 / rate, number + 1

    async def mark(self) -> Sample:
        """What was counted since the last mark."""
        taken, self._sample = self._sample, Sample()
        for pair in self._pairs:
            pair.sample = self._sample
        return taken

    async def stop(self) -> int:
        """Sends no more and waits for what is under way; how many never arrived."""
        if self._clock:
            self._clock.cancel()
        for pair in self._pairs:
            pair.looping = False
        lost = await left(lambda: sum(len(pair.sent) for pair in self._pairs), DRAIN_S)
        for pair in self._pairs:
            pair.sent.clear()
            pair.accepted.clear()
        return lost


def figures(run: Window) -> Figures:
    """The figures of one run."""
    delivered = latencies(run.sample.seconds["delivered"])
    return {
        "delivered_per_s": run.rate("delivered"),
        **delivered,
        "accepted": latencies(run.sample.seconds["accepted"]),
        "accepted_to_delivered": latencies(run.sample.seconds["gap"]),
        "cpu_us_per_message": per_item(run.used, run.sample.counts["delivered"]),
        "generator_us_per_message": per_item({"": run.generator}, run.sample.counts["delivered"])["total"],
        "errors": run.sample.counts["errors"],
    }


def shares(address: Address, name: str, count: int, generators: int) -> list[tuple[Any, ...]]:
    """What each generator's process is made with."""
    return [
        (address, f"{name}{index}", count // generators, f"127.0.0.{index + 2}")
        for index in range(generators)
    ]


def send(context: Context, *, shards: int, pairs: int, rate: float, generators: int) -> Result:
    """Measures sending.

    Args:
        context: length of runs, progress.
        shards: MongoDB replica sets.
        pairs: pairs; in the closed loop each has one message under way.
        rate: messages a second in all; 0 for the closed loop.
        generators: processes that the pairs are spread over.
    """
    context.told("starting the stack")
    with (
        rig(shards=shards) as running,
        Fleet(Pairs, shares(running.front, "send", pairs, generators)) as fleet,
    ):
        context.told("opening chats")
        fleet.each("open")
        windows = runs(fleet, running.accounts(), start=(rate / generators,), **context.length)
    return Result.of(
        "send" if not rate else "send-at-rate",
        [figures(one) for one in windows],
        settings={"shards": shards, "pairs": pairs, "rate": rate, "generators": generators},
        headlines=("delivered_per_s", "p99_ms", "cpu_us_per_message.total"),
    )
