"""One connection with one channel to RabbitMQ, without a client library (docs/adr/0013-amqp-direct.md).

It ends for good at the first thing that goes wrong: who wants another one is Link. Publishes wait for their
confirms, deliveries go to a callback as they come, and everything rare is a question with one answer.

Source: https://www.rabbitmq.com/amqp-0-9-1-reference, https://www.rabbitmq.com/docs/confirms
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Never, cast

from pamqp.base import Frame
from pamqp.commands import Basic, Channel, Confirm, Connection, Queue

from mesh.amqp import frames
from mesh.amqp.broker import Broker
from mesh.amqp.frames import Confirmed, Delivered, Returned
from mesh.errors import Unavailable

HEARTBEAT = 10
"""Seconds; a broker that is silent for about two of them is gone."""

ANSWER_TIMEOUT = 10.0
"""Seconds that the broker may take for an answer, where nobody says less."""

CLOSE_TIMEOUT = 3.0
"""Seconds that a broker gets to say goodbye."""

GOODBYE = (200, "done", 0, 0)
DOWN = "The queue is down; try again."
CAPABILITIES = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "publisher_confirms": True,
}


class ClosedError(Exception):
    """Why a connection is over, in the words of who closed it."""


class Incoming:
    """A message from a queue, which has to be settled once: by `ack`, `nack` or `reject`.

    They raise Unavailable when its connection is gone: the broker has it back.
    """

    __slots__ = ("_tag", "_wire", "body", "headers", "redelivered")

    def __init__(self, wire: "Wire", delivered: Delivered) -> None:
        self._wire = wire
        self._tag, self.redelivered, self.headers, self.body = delivered

    def ack(self) -> None:
        """Takes it off its queue."""
        self._wire.write(frames.ack(self._tag))

    def nack(self) -> None:
        """Puts it back where it was; this does not count towards a delivery limit."""
        self._wire.write(frames.nack(self._tag))

    def reject(self) -> None:
        """Puts it back, a step towards its delivery limit."""
        self._wire.write(frames.reject(self._tag))


Arrive = Callable[[Incoming], None]
Waiter = asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class _Question:
    waiter: Waiter
    answers: Sequence[str]


class Wire(asyncio.Protocol):
    """A connection; `connect` makes one."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = frames.Reader()
        self._transport: asyncio.Transport | None = None
        self._cause: Exception | None = None
        self._gone = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._silent = 0  # half heartbeats in which nothing came
        self._beats: asyncio.TimerHandle | None = None
        self._questions: deque[_Question] = deque()  # a channel answers in order
        self._published = 0
        self._id = f"{random.getrandbits(64):016x}"  # no secret
        self._unconfirmed: dict[int, Waiter] = {}  # in the order of their tags
        self._arrive: Arrive | None = None
        self._consumer = ""

    # ── what callers do ─────────────────────────────────────────────────────────────────────────────────────

    async def publish(
        self,
        exchange: str,
        routing_key: str,
        headers: Mapping[str, str | int],
        body: bytes,
        *,
        seconds: float,
    ) -> None:
        """Publishes a body, and waits until the broker has confirmed it.

        Args:
            exchange: that takes it.
            routing_key: by which it goes on from there.
            headers: as consumers read them.
            body: of any size.
            seconds: until the confirm must be there.

        Raises:
            Unavailable: it was refused, no queue takes it, or no confirm came: then its effect is unknown.
        """
        if not self._writable.is_set():
            seconds -= await self._wait_until_writable(seconds)
        tag = self._published + 1
        self.write(
            frames.publish(exchange, routing_key, headers, f"{self._id}{tag:016x}", body, self._reader.most)
        )
        self._published = tag
        waiter = self._unconfirmed[tag] = self._loop.create_future()
        try:
            await self._within(seconds, waiter)
        finally:
            self._unconfirmed.pop(tag, None)

    async def ask(self, request: Frame, *, seconds: float = ANSWER_TIMEOUT) -> Frame:
        """The broker's answer to a method.

        Raises:
            Unavailable: there is none in time, or the broker closes the channel instead.
        """
        self.write(frames.method(request))
        return await self._answer(request.valid_responses, seconds)

    async def consume(self, queue: str, arrive: Arrive, *, prefetch: int) -> None:
        """Has the messages of a queue sent here.

        Args:
            queue: its name.
            arrive: called with each.
            prefetch: how many may be unsettled.

        Raises:
            Unavailable: there is no such queue, or no broker.
        """
        await self.ask(Basic.Qos(prefetch_count=prefetch))
        self._arrive = arrive
        self._consumer = str((await self.ask(Basic.Consume(queue=queue)))["consumer_tag"])

    async def cancel(self) -> None:
        """Ends `consume`: when this returns, nothing arrives any more.

        Raises:
            Unavailable: the broker does not answer.
        """
        await self.ask(Basic.Cancel(consumer_tag=self._consumer), seconds=CLOSE_TIMEOUT)

    async def look(self, queue: str, *, seconds: float = ANSWER_TIMEOUT) -> tuple[int, int]:
        """How many messages wait in a queue and how many consumers it has.

        Raises:
            Unavailable: there is no such queue, or no broker.
        """
        found = await self.ask(Queue.Declare(queue=queue, passive=True), seconds=seconds)
        return cast(int, found["message_count"]), cast(int, found["consumer_count"])

    def write(self, data: bytes) -> None:
        """Sends frames.

        Raises:
            Unavailable: the connection is gone.
        """
        if self._cause or self._transport is None or self._transport.is_closing():
            raise _down(self._cause)
        self._transport.write(data)

    async def lost(self) -> Never:
        """Waits until the connection is gone, and raises Unavailable with its cause."""
        await self._gone.wait()
        raise _down(self._cause)

    async def aclose(self) -> None:
        """Says goodbye after all that was written, and closes."""
        try:
            with contextlib.suppress(Unavailable):  # then without
                self.write(frames.method(Connection.Close(*GOODBYE), 0))
                await self._answer(Connection.Close.valid_responses, CLOSE_TIMEOUT)
        finally:
            self.abort()

    def abort(self) -> None:
        """Breaks off."""
        self._end(ClosedError("closed here"))
        if self._transport is not None:
            self._transport.abort()

    async def introduce(self, broker: Broker, name: str) -> None:
        """Proves who we are and opens the channel, on a connection that was just made.

        Raises:
            Unavailable: the broker does not take us.
        """
        self.write(frames.protocol_header())
        await self._answer(["Connection.Start"], ANSWER_TIMEOUT)
        properties = {"product": "messenger", "connection_name": name, "capabilities": {**CAPABILITIES}}
        secret = f"\0{broker.user}\0{broker.password}"
        self.write(
            frames.method(Connection.StartOk(client_properties=cast(Any, properties), response=secret), 0)
        )
        tune = await self._answer(["Connection.Tune"], ANSWER_TIMEOUT)
        most = self._reader.most = cast(int, tune["frame_max"]) or frames.FRAME_MAX
        self.write(frames.method(Connection.TuneOk(channel_max=1, frame_max=most, heartbeat=HEARTBEAT), 0))
        self.write(frames.method(Connection.Open(virtual_host=broker.vhost), 0))
        await self._answer(Connection.Open.valid_responses, ANSWER_TIMEOUT)
        self._beat()
        await self.ask(Channel.Open())
        await self.ask(Confirm.Select())

    # ── what the transport says ─────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._silent = 0
        try:
            events = self._reader.feed(data)
        except ValueError as error:
            self._leave(ClosedError(str(error)))
            return
        for event in events:
            if isinstance(event, Confirmed):
                self._confirm(event)
            elif isinstance(event, Delivered):
                self._deliver(event)
            elif isinstance(event, Returned):
                self._return(event)
            else:
                self._take(event)

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._end(error or ClosedError("the broker closed the connection"))

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._writable.set()

    # ── inside ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _answer(self, answers: Sequence[str], seconds: float) -> Frame:
        question = _Question(self._loop.create_future(), answers)
        self._questions.append(question)
        return cast(Frame, await self._within(seconds, question.waiter))

    async def _within(self, seconds: float, waiter: Waiter) -> Any:
        timer = self._loop.call_later(seconds, _fail, waiter, TimeoutError("no answer in time"))
        try:
            return await waiter
        finally:
            timer.cancel()

    async def _wait_until_writable(self, seconds: float) -> float:
        began = self._loop.time()
        try:
            async with asyncio.timeout(seconds):
                await self._writable.wait()
        except TimeoutError as error:
            raise Unavailable(DOWN) from error
        return self._loop.time() - began

    def _confirm(self, confirmed: Confirmed) -> None:
        tags = [confirmed.tag]
        if confirmed.multiple:
            tags = [tag for tag in self._unconfirmed if tag <= confirmed.tag]
        for tag in tags:
            waiter = self._unconfirmed.get(tag)  # none where its caller gave up
            if waiter is None or waiter.done():
                continue
            if confirmed.taken:
                waiter.set_result(None)
            else:
                _fail(waiter, ClosedError("the broker refused it; is the queue full?"))

    def _return(self, returned: Returned) -> None:
        # It comes before the confirm, which says that the broker has dealt with it.
        if returned.message_id.startswith(self._id):
            waiter = self._unconfirmed.get(int(returned.message_id[len(self._id) :], 16))
            if waiter is not None:
                _fail(waiter, ClosedError(f"no queue takes it: {returned.text}"))

    def _deliver(self, delivered: Delivered) -> None:
        if self._arrive is not None and not self._cause:
            self._arrive(Incoming(self, delivered))

    def _take(self, frame: Frame) -> None:
        if isinstance(frame, Connection.Close):
            self._leave(_closed(frame), Connection.CloseOk())
        elif isinstance(frame, Channel.Close):
            self._leave(_closed(frame))
        elif isinstance(frame, Basic.Cancel):
            self._leave(ClosedError("the broker cancelled the consumer; is the queue gone?"))
        else:
            self._reply(frame)

    def _reply(self, answer: Frame) -> None:
        if not self._questions or answer.name not in self._questions[0].answers:
            self._leave(ClosedError(f"nobody asked for {answer.name}"))
            return
        waiter = self._questions.popleft().waiter
        if not waiter.done():  # else its caller gave up
            waiter.set_result(answer)

    def _leave(self, cause: Exception, goodbye: Frame | None = None) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(
                frames.method(Connection.Close(*GOODBYE) if goodbye is None else goodbye, 0)
            )
            self._transport.close()
        self._end(cause)

    def _beat(self) -> None:
        self._silent += 1
        if self._silent > 4:  # two heartbeats; counted, so that a pause of our own is none
            self._end(TimeoutError("the broker is silent"))
            self.abort()
            return
        self._beats = self._loop.call_later(HEARTBEAT / 2, self._beat)
        with contextlib.suppress(Unavailable):  # then `connection_lost` follows
            self.write(frames.BEAT)

    def _end(self, cause: Exception) -> None:
        if self._cause:
            return
        self._cause = cause
        if self._beats is not None:
            self._beats.cancel()
        for waiter in [*self._unconfirmed.values(), *(one.waiter for one in self._questions)]:
            _fail(waiter, cause)
        self._questions.clear()
        self._gone.set()
        self._writable.set()  # what waits for it sees that there is no connection


async def connect(broker: Broker, name: str) -> Wire:
    """A connection that is ready for use; whoever calls this sets its time limit.

    Args:
        broker: where.
        name: shown in the broker's list of connections.

    Raises:
        Unavailable: the broker is not there, or does not take us.
    """
    wire = Wire()
    try:
        await asyncio.get_running_loop().create_connection(
            lambda: wire, broker.host, broker.port, ssl=broker.tls
        )
        await wire.introduce(broker, name)
    except OSError as error:
        wire.abort()
        raise Unavailable(DOWN) from error
    except BaseException:
        wire.abort()
        raise
    return wire


def _closed(frame: Connection.Close | Channel.Close) -> ClosedError:
    return ClosedError(f"{frame.reply_code} {frame.reply_text}")


def _fail(waiter: Waiter, cause: Exception) -> None:
    if not waiter.done():
        waiter.set_exception(_down(cause))


def _down(cause: Exception | None) -> Unavailable:
    error = Unavailable(DOWN)
    error.__cause__ = cause
    return error
