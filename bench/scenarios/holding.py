"""Drivers that hold sessions and hear events: for `connections`, `notify`, `storm` and `mix`."""

import asyncio
import random
import time

from bench.measure import Sample, left
from bench.people import Person, side_by_side
from bench.rig import Address
from bench.sockets import Kind, kind_of, member_of, method_of
from mesh.bus import Bus
from messenger.common.v1 import types_pb2
from messenger.events.v1 import notifications_pb2

DRAIN_S = 20.0
DAY_S = 86_400
STREAM_LENGTH = 1_000
BATCH = 256
"""Events in one round trip to the bus."""


def event(text: str) -> bytes:
    """A `message.new`, as dbstore publishes it."""
    message = types_pb2.Message(
        message_id="0190c3a5-7b1e-7c3a-9d5e-2f4b6a8c0d1e",
        chat_id="4b0e4c8a-6a52-5a0e-9f4e-8f1d1f0b6a11",
        sender_id="somebody",
        seq=1,
        text=text,
    )
    message.created_at.GetCurrentTime()
    body = notifications_pb2.MessageNew(message=message)
    return notifications_pb2.Notification(message_new=body).SerializeToString()


class Holders:
    """Driver: users with a session each, and a bus that tells them the time.

    Args:
        address: where they connect, one port after the other.
        redis_urls: nodes of the bus.
        names: begins every user's id.
        source: the address they come from.
    """

    def __init__(self, address: Address, redis_urls: tuple[str, ...], names: str, source: str) -> None:
        self._address, self._source, self._names = address, source, names
        self._bus = Bus(redis_urls, retention=DAY_S, length=STREAM_LENGTH)
        self._people: list[Person] = []
        self._sample = Sample()
        self._under_way = 0
        self._room = asyncio.Event()
        self._work: asyncio.Task[None] | None = None

    async def open(self, count: int) -> None:
        """Connects so many more."""
        first = len(self._people)
        fresh = [Person(f"{self._names}-{first + number}") for number in range(count)]
        await side_by_side(self._connect, [(first + n, person) for n, person in enumerate(fresh)])
        self._people += fresh

    async def _connect(self, number: int, person: Person) -> None:
        began = time.monotonic()
        await person.connect(self._address, number, self._source)
        self._sample.seconds["connect"].append(time.monotonic() - began)
        person.socket.take_by(self._pushed)

    def _pushed(self, text: bytes) -> None:
        if kind_of(text) is Kind.NOTIFICATION and method_of(text) == b"message.new":
            sent = int(member_of(text, b"text")) / 1e9
            self._sample.seconds["pushed"].append(time.monotonic() - sent)
            self._sample.counts["pushed"] += 1
            self._under_way -= 1
            self._room.set()

    async def start(self, rate: float, window: int) -> None:
        """Begins to publish to users by chance.

        Args:
            rate: events a second; 0: as many as arrive.
            window: events under way at once where there is no rate.
        """
        self._work = asyncio.create_task(self._at(rate) if rate else self._through(window))

    async def _at(self, rate: float) -> None:
        due = time.monotonic()
        while True:
            await asyncio.sleep(due - time.monotonic())
            count = int((time.monotonic() - due) * rate) + 1
            await self._publish(count)
            due += count / rate

    async def _through(self, window: int) -> None:
        while True:
            self._room.clear()
            if (room := window - self._under_way) >= window // 4:
                await self._publish(min(room, BATCH))
            else:
                await self._room.wait()

    async def _publish(self, count: int) -> None:
        people = random.choices(self._people, k=count)  # noqa: S311  # no secret
        self._under_way += count
        try:
            outcomes = await self._bus.publish(
                [(person.user_id, event(str(time.monotonic_ns()))) for person in people]
            )
        except asyncio.CancelledError:
            self._under_way -= count  # nobody can tell which of them went out
            raise
        for outcome in outcomes:
            if outcome is not None:
                self._under_way -= 1
                self._sample.error(outcome.detail.encode())

    async def mark(self) -> Sample:
        """What was counted since the last mark."""
        taken, self._sample = self._sample, Sample()
        return taken

    async def stop(self) -> int:
        """Publishes no more and waits for what is under way; how many never arrived."""
        if self._work:
            self._work.cancel()
        lost = await left(lambda: self._under_way, DRAIN_S)
        self._under_way = 0
        return max(lost, 0)
