"""The parking queue as an operator sees it: look, send on again, throw away. And the queues' lengths."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from mesh.amqp.delivery import TRACE, Delivery, UnreadableError, decode, describe
from mesh.amqp.link import connected, translated
from mesh.amqp.publisher import TIMEOUT
from mesh.amqp.topology import CHECKED, PARKED, Topology
from messenger.events.v1.queue_pb2 import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedBody:
    """One body of the parking queue.

    Attributes:
        key: names it for as long as it lies there: a hash of the body, 8 hex digits. Equal bodies share it.
        delivery: its headers: attempts, and the cause.
        parked_at: since when it has been there; None where nothing tells.
        events: what it carries; empty where this program cannot read it.
        unreadable: why not; empty where it can.
        body: as it came.
    """

    key: str
    delivery: Delivery
    parked_at: datetime | None
    events: tuple[Event, ...]
    unreadable: str
    body: bytes


class ParkingLot:
    """The parking queue, taken while this is open; what was neither replayed nor dropped goes back."""

    def __init__(self, channel: AbstractChannel, topology: Topology) -> None:
        self._channel = channel
        self._topology = topology
        self._held: dict[bytes, list[AbstractIncomingMessage]] = {}

    async def look(self) -> AsyncIterator[ParkedBody]:
        """Everything that is parked, the oldest first; each body once.

        Raises:
            Unavailable: the broker went away.
        """
        with translated():
            queue = await self._channel.get_queue(self._topology.name(PARKED), ensure=False)
            while (message := await queue.get(fail=False, timeout=TIMEOUT)) is not None:
                held = self._held.setdefault(message.body, [])
                held.append(message)
                if len(held) == 1:
                    yield _read(message, self._topology)

    async def replay(self, parked: ParkedBody) -> None:
        """Sends it on to `checked` as a first attempt, and takes it out once the broker has confirmed.

        Raises:
            Unavailable: the broker did not confirm; it stays parked.
        """
        trace = parked.delivery.traceparent
        message = Message(
            parked.body,
            headers={TRACE: trace} if trace else {},
            content_type="application/x-protobuf",
            delivery_mode=DeliveryMode.PERSISTENT,
        )
        with translated():
            target = await self._channel.get_exchange(self._topology.name(CHECKED), ensure=False)
            async with asyncio.timeout(TIMEOUT):
                await target.publish(message, "", mandatory=True)
        await self.drop(parked)

    async def drop(self, parked: ParkedBody) -> None:
        """Takes it out for good."""
        with translated():
            for message in self._held.pop(parked.body, []):
                await message.ack()

    async def give_back(self) -> None:
        """Puts the rest back, in its order; by nack, which does not count towards a delivery limit."""
        with translated():
            for messages in self._held.values():
                for message in messages:
                    await message.nack(requeue=True)


@asynccontextmanager
async def open_parking_lot(url: str, topology: Topology) -> AsyncIterator[ParkingLot]:
    """Opens the parking queue.

    Raises:
        Unavailable: the broker does not answer, or there is no such queue.
    """
    async with _opened(url) as channel:
        lot = ParkingLot(channel, topology)
        try:
            yield lot
        finally:
            await lot.give_back()


async def lengths(url: str, topology: Topology) -> dict[str, int]:
    """How many bodies wait in each queue, by the queue's name; those that a consumer holds are not counted.

    Raises:
        Unavailable: the broker does not answer, or a queue is not there yet.
    """
    async with _opened(url) as channel:
        found: dict[str, int] = {}
        with translated():
            for spec in topology.queues():
                queue = await channel.declare_queue(spec.name, passive=True, timeout=TIMEOUT)
                found[spec.name] = queue.declaration_result.message_count or 0
        return found


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[AbstractChannel]:
    async with connected(url) as connection, connection.channel(on_return_raises=True) as channel:
        yield channel


def _read(message: AbstractIncomingMessage, topology: Topology) -> ParkedBody:
    events: tuple[Event, ...] = ()
    unreadable = ""
    try:
        events = tuple(decode(message.body))
    except UnreadableError as error:
        unreadable = str(error)
    delivery = describe(message.headers, topology)
    return ParkedBody(
        key=hashlib.blake2b(message.body, digest_size=4).hexdigest(),
        delivery=delivery,
        parked_at=_parked_at(message.headers, delivery),
        events=events,
        unreadable=unreadable,
        body=message.body,
    )


def _parked_at(headers: Mapping[str, object], delivery: Delivery) -> datetime | None:
    """The last that happened to it: a consumer published it there, or the broker took it out of its queue."""
    deaths = headers.get("x-death")
    times = [
        death["time"].astimezone(UTC)
        for death in (deaths if isinstance(deaths, list) else ())
        if isinstance(death, Mapping) and isinstance(death.get("time"), datetime)
    ]
    if delivery.published_ms:
        times.append(datetime.fromtimestamp(delivery.published_ms / 1000, UTC))
    return max(times, default=None)
