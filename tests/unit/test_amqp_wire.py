"""Confirms and answers on a connection whose broker is this file, so that they come as each test says."""

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

import pytest
from pamqp import frame as pamqp_frame
from pamqp.commands import Basic, Channel, Connection, Queue
from pamqp.frame import FrameTypes
from pamqp.header import ContentHeader

from mesh.amqp import frames
from mesh.amqp.broker import Broker
from mesh.amqp.wire import Incoming, Wire
from mesh.errors import Unavailable
from tests.amqp.support import eventually


class Transport:
    """Keeps what is written.

    Attributes:
        written: since the connection was made.
        closed: whether it was closed or broken off.
    """

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed


class Scripted(Wire):
    """A connection that is open."""

    def __init__(self) -> None:
        super().__init__()
        self.transport = Transport()
        self.connection_made(cast(asyncio.BaseTransport, self.transport))

    def say(self, *parts: FrameTypes) -> None:
        """The broker sends."""
        self.data_received(b"".join(pamqp_frame.marshal(part, frames.CHANNEL) for part in parts))

    def send(self, seconds: float = 10) -> Coroutine[Any, Any, None]:
        """A publish."""
        return self.publish("exchange", "", {}, b"body", seconds=seconds)


async def begun(wire: Scripted, count: int = 1, seconds: float = 10) -> list[asyncio.Task[None]]:
    """So many publishes that are under way."""
    written = len(wire.transport.written)
    tasks = [asyncio.create_task(wire.send(seconds)) for _ in range(count)]
    await eventually(lambda: len(wire.transport.written) == written + count)
    return tasks


def message_id(sent: bytes) -> str:
    """Of a publish."""
    size = pamqp_frame.unmarshal(sent)[0]
    header = pamqp_frame.unmarshal(sent[size:])[2]
    assert isinstance(header, ContentHeader)
    assert header.properties.message_id
    return header.properties.message_id


async def test_one_confirm_may_stand_for_several() -> None:
    """A confirm of all up to a tag ends those, good or bad, and no others."""
    wire = Scripted()
    first, second, third, fourth, fifth = await begun(wire, 5)
    wire.say(Basic.Ack(2, multiple=True))
    await first
    await second
    wire.say(Basic.Nack(4, multiple=True))
    for refused in (third, fourth):
        with pytest.raises(Unavailable):
            await refused
    assert not fifth.done()
    wire.say(Basic.Ack(5))
    await fifth


async def test_a_returned_message_fails_alone() -> None:
    """A message that no queue takes fails, though the broker confirms it; its neighbours do not."""
    wire = Scripted()
    tasks = await begun(wire, 3)
    header = ContentHeader(body_size=0)
    header.properties.message_id = message_id(wire.transport.written[1])
    wire.say(Basic.Return(312, "NO_ROUTE", "exchange", ""), header, Basic.Ack(3, multiple=True))
    first, second, third = await asyncio.gather(*tasks, return_exceptions=True)
    assert first is third is None
    assert isinstance(second, Unavailable)
    assert "NO_ROUTE" in str(second.__cause__)


async def test_who_gives_up_leaves_nothing_behind() -> None:
    """A confirm that comes after its caller was cancelled, or out of time, is nobody's."""
    wire = Scripted()
    (cancelled,) = await begun(wire)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    (late,) = await begun(wire, seconds=0.01)
    with pytest.raises(Unavailable):
        await late
    assert not wire._unconfirmed
    (third,) = await begun(wire)
    wire.say(Basic.Ack(1), Basic.Nack(2))
    assert not third.done()
    wire.say(Basic.Ack(3))
    await third


async def test_an_answer_that_comes_late_is_nobodys() -> None:
    """The answer to a question that was given up is not taken for that of the next one."""
    wire = Scripted()
    with pytest.raises(Unavailable):
        await wire.look("first", seconds=0.01)
    second = asyncio.create_task(wire.look("second"))
    await eventually(lambda: len(wire.transport.written) == 2)
    wire.say(Queue.DeclareOk("first", 1, 1), Queue.DeclareOk("second", 2, 2))
    assert await second == (2, 2)


async def test_an_answer_that_nobody_asked_for_ends_it() -> None:
    """A connection on which answers went astray is given up."""
    wire = Scripted()
    wire.say(Queue.DeclareOk("queue", 1, 1))
    with pytest.raises(Unavailable) as error:
        await wire.lost()
    assert "Queue.DeclareOk" in str(error.value.__cause__)


@pytest.mark.parametrize(
    ("close", "cause", "goodbye"),
    [
        (Channel.Close(406, "PRECONDITION_FAILED", 0, 0), "406 PRECONDITION_FAILED", Connection.Close),
        (Connection.Close(320, "CONNECTION_FORCED", 0, 0), "320 CONNECTION_FORCED", Connection.CloseOk),
        (Basic.Cancel("consumer"), "the broker cancelled the consumer", Connection.Close),
    ],
    ids=["channel", "connection", "consumer"],
)
async def test_the_brokers_close_fails_all(close: FrameTypes, cause: str, goodbye: type) -> None:
    """When the broker ends it, all that is under way fails at once, for its reason, and nothing is sent."""
    wire = Scripted()
    tasks = [*await begun(wire, 2), asyncio.create_task(wire.look("queue"))]
    await eventually(lambda: len(wire.transport.written) == 3)
    wire.say(close)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        assert isinstance(outcome, Unavailable)
        assert str(outcome.__cause__).startswith(cause)
    assert isinstance(pamqp_frame.unmarshal(wire.transport.written[-1])[2], goodbye)
    written = len(wire.transport.written)
    for call in (wire.send(), wire.look("queue")):
        with pytest.raises(Unavailable):
            await call
    assert len(wire.transport.written) == written


async def test_deliveries_of_a_lost_connection_cannot_be_settled() -> None:
    """Tags mean something on their own connection only: no answer goes out on another one, or on none."""
    wire = Scripted()
    arrived: list[Incoming] = []
    consuming = asyncio.create_task(wire.consume("queue", arrived.append, prefetch=1))
    await asyncio.sleep(0)
    wire.say(Basic.QosOk())
    await eventually(lambda: len(wire.transport.written) == 2)
    deliver = Basic.Deliver("consumer", 1, False, "exchange", "key")
    wire.say(Basic.ConsumeOk("consumer"), deliver, ContentHeader(body_size=0))
    await consuming
    wire.connection_lost(None)
    for settle in (arrived[0].ack, arrived[0].nack, arrived[0].reject):
        with pytest.raises(Unavailable):
            settle()


async def test_a_broker_that_does_not_read_is_not_written_to() -> None:
    """While it takes no more, publishes wait, each for its time; then they go out in their order."""
    wire = Scripted()
    wire.pause_writing()
    with pytest.raises(Unavailable):
        await wire.send(0.01)
    waiting = asyncio.create_task(wire.send())
    await asyncio.sleep(0)
    assert not wire.transport.written
    wire.resume_writing()
    await eventually(lambda: wire.transport.written)
    wire.say(Basic.Ack(1))
    await waiting
    wire.pause_writing()
    waiting = asyncio.create_task(wire.send())
    await asyncio.sleep(0)
    wire.connection_lost(None)
    with pytest.raises(Unavailable):
        await waiting


async def test_goodbye_comes_last() -> None:
    """A connection is closed when the broker has said that it took all that was written before."""
    wire = Scripted()
    closing = asyncio.create_task(wire.aclose())
    await eventually(lambda: wire.transport.written)
    assert not wire.transport.closed
    wire.say(Connection.CloseOk())
    await closing
    assert wire.transport.closed
    with pytest.raises(Unavailable):
        await wire.lost()


def test_urls() -> None:
    """What a URL leaves out has AMQP's defaults; what it escapes is meant."""
    bare = Broker.of("amqp://queue.example/")
    assert (bare.host, bare.port, bare.user, bare.password, bare.vhost) == (
        "queue.example", 5672, "guest", "guest", "/",
    )  # fmt: skip
    full = Broker.of("amqps://a%40b:p%2Fw@[::1]:1234/in%2Fside")
    assert (full.host, full.port, full.user, full.password, full.vhost) == (
        "::1", 1234, "a@b", "p/w", "in/side",
    )  # fmt: skip
    assert full.tls
    assert full.tls.check_hostname
    assert Broker.of("amqps://h").port == 5671
    assert "p/w" not in repr(full)
