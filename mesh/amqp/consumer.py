"""Takes deliveries from one queue, hands their events to a handler, and settles each as the handler says.

Nothing is acknowledged before its events had their effect or stand safely further up the ladder.
"""

import asyncio
import contextlib
import math
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import structlog
from opentelemetry.trace import SpanKind

from mesh import call, metrics, tracing
from mesh.amqp.delivery import (
    Delivery,
    Outcome,
    Received,
    Retry,
    UnreadableError,
    age_of,
    decode,
    describe,
    headers_of,
    plan,
)
from mesh.amqp.link import Link
from mesh.amqp.publisher import Publisher
from mesh.amqp.settling import Settler, answer
from mesh.amqp.topology import MESSAGES, PARKED, Topology
from mesh.amqp.wire import Incoming, Wire
from mesh.batching import MANY, SIZE
from mesh.errors import DeadlineExceeded, Internal, MessengerError, Unavailable
from messenger.events.v1.queue_pb2 import Event

log = structlog.get_logger()

Later = asyncio.Future[Outcome]
"""An outcome that is still to come. Its delivery is settled then, and holds up no other one."""

Handler = Callable[[Sequence[Received]], Awaitable[Sequence[Outcome | Later]]]
"""Takes effect of events and answers one outcome an event, in order. It must be idempotent.

An exception is a retry of every event that it was called with; a MessengerError's detail becomes the cause.
"""

AGE = metrics.histogram(
    "messenger_queue_age",
    "Age of events, since their mailbox took them, when a handler gets them.",
    ("queue",),
    bounds=metrics.LONG_SECONDS,
    unit="s",
)
DURATION = metrics.histogram(
    "messenger_queue_duration",
    "Handler calls, each for all the events that it was given, also those that failed.",
    ("queue",),
    bounds=metrics.LONG_SECONDS,
    unit="s",
)
OUTCOMES = metrics.counter(
    "messenger_queue_events", "Events that a handler has answered.", ("queue", "outcome")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arrived:
    message: Incoming
    delivery: Delivery
    events: Sequence[Event]
    orders: frozenset[str]
    published: float  # on the monotonic clock


class Consumer:
    """Consumes one queue; an async context manager that connects in the background and drains on exit.

    Each worker gathers what arrived while its previous handler call was in flight. One worker keeps the order
    of the queue, several that of each `order`; what goes up the ladder loses its place. Several shorten the
    wait where few events are under way, and leave large batches to one.

    Args:
        url: the broker, amqp://user:password@host:port/vhost; a cluster's nodes separated by white space.
        topology: declared on every connection.
        queue: MESSAGES or CHECKED; the topology's prefix is added.
        handler: takes effect of events.
        publisher: republishes to the ladder and to the parking queue.
        prefetch: deliveries that the broker hands out before the first is settled; bounds what waits here
            for its turn, or for an outcome.
        concurrency: handler calls in flight at once; a further one begins beside fewer than MANY events.
        order: names the order that an event is part of: no event begins beside another one of its order. With
            "" it is part of none.
        max_events: events a handler call; a single delivery that holds more is handed over whole.
        handler_timeout: seconds that a handler call may take; then its events are retried.
        drain_timeout: seconds that handler calls may finish in on exit; then their deliveries go back.
    """

    def __init__(
        self,
        url: str,
        topology: Topology,
        queue: str,
        handler: Handler,
        publisher: Publisher,
        *,
        prefetch: int = 256,
        concurrency: int = 1,
        order: Callable[[Event], str] = lambda _: "",
        max_events: int = 256,
        handler_timeout: float = 30.0,
        drain_timeout: float = 10.0,
    ) -> None:
        self._topology = topology
        self._name = topology.name(queue)
        # What has been in `messages` for the window leaves it; twice that is no more than a broker's delay.
        self._longest_wait = 2 * topology.window if queue == MESSAGES else math.inf
        self._size = SIZE.labels(f"process {self._name}")
        self._age = AGE.labels(self._name)
        self._duration = DURATION.labels(self._name)
        self._handler = handler
        self._publisher = publisher
        self._prefetch = prefetch
        self._concurrency = concurrency
        self._order = order
        self._max_events = max_events
        self._handler_timeout = handler_timeout
        self._drain_timeout = drain_timeout
        self._link = Link(url, topology, name=f"consumer of {self._name}", setup=self._subscribe)
        self._waiting: deque[_Arrived] = deque()
        self._woken = asyncio.Event()
        self._under_way = 0
        self._orders: set[str] = set()  # of what is under way
        self._draining = False
        self._workers: list[asyncio.Task[None]] = []
        self._late: set[asyncio.Task[None]] = set()
        self._settler = Settler(self._name)

    async def __aenter__(self) -> "Consumer":
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._concurrency)]
        await self._link.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._unsubscribe()
        self._draining = True
        self._woken.set()
        self._hand_back()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_timeout):
                await asyncio.wait(self._workers)
                while self._late:
                    await asyncio.wait(self._late)
        tasks = [*self._workers, *self._late]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._settler.let_go()
        await self._link.__aexit__(*error)  # the broker takes back what is not acknowledged

    @property
    def is_ready(self) -> bool:
        """Whether deliveries can arrive now, and all workers live."""
        return self._link.is_ready and not any(worker.done() for worker in self._workers)

    async def ready(self) -> None:
        """Waits until deliveries can arrive.

        Raises:
            Internal: a worker died; only a restart helps.
        """
        await self._link.ready()
        if not self.is_ready:
            raise Internal("A consumer's worker died.")

    async def _subscribe(self, wire: Wire) -> None:
        self._waiting.clear()  # what an earlier connection delivered, the broker delivers again
        self._settler.let_go()
        await wire.consume(self._name, self._arrive, prefetch=self._prefetch)

    async def _unsubscribe(self) -> None:
        with contextlib.suppress(Unavailable):
            await self._link.wire().cancel()

    def _hand_back(self) -> None:
        while self._waiting:
            answer(self._waiting.popleft().message.nack)

    def _arrive(self, message: Incoming) -> None:
        delivery = describe(message.headers, self._topology, redelivered=message.redelivered)
        try:
            events = decode(message.body)
        except UnreadableError as error:
            log.error("body parked", queue=self._name, cause=str(error))
            self._settle_aside(self._park(message, delivery, str(error)))
        else:
            published = time.monotonic() - age_of(delivery, time.time() * 1000, self._longest_wait)
            orders = frozenset(order for event in events if (order := self._order(event)))
            self._waiting.append(
                _Arrived(
                    message=message, delivery=delivery, events=events, orders=orders, published=published
                )
            )
            self._woken.set()

    async def _park(self, message: Incoming, delivery: Delivery, cause: str) -> None:
        headers = headers_of(delivery, attempt=delivery.attempt, cause=cause)
        park = partial(self._publisher.publish_body, PARKED, "", message.body, headers)
        await self._settler.settle(message, deque([park]))

    async def _work(self) -> None:
        while batch := await self._gather():
            now = time.monotonic()
            received = [
                Received(event=event, delivery=one.delivery, waited=now - one.published)
                for one in batch
                for event in one.events
            ]
            orders = frozenset[str]().union(*(one.orders for one in batch))
            self._under_way += len(received)
            self._orders |= orders
            try:
                answered = await self._handle(received)
                self._count(answered)
                outcomes = iter(answered)
                await asyncio.gather(
                    *(self._finish(one, list(islice(outcomes, len(one.events)))) for one in batch)
                )
            finally:
                self._under_way -= len(received)
                self._orders -= orders
                self._woken.set()

    async def _gather(self) -> list[_Arrived]:
        """What waits, up to `max_events`; nothing when there is nothing left to do.

        Beside a call with many events none begins: what waits goes with the next one, in larger batches.
        """
        while not self._waiting or self._under_way >= MANY or not self._can_begin(self._waiting[0]):
            if self._draining and not self._waiting:
                return []
            self._woken.clear()
            await self._woken.wait()
        batch = [self._waiting.popleft()]
        room = self._max_events - len(batch[0].events)
        while self._waiting and len(self._waiting[0].events) <= room and self._can_begin(self._waiting[0]):
            batch.append(self._waiting.popleft())
            room -= len(batch[-1].events)
        return batch

    def _can_begin(self, arrived: _Arrived) -> bool:
        return self._orders.isdisjoint(arrived.orders)

    async def _handle(self, received: Sequence[Received]) -> Sequence[Outcome | Later]:
        try:
            return await self._call(received)
        except (MessengerError, TimeoutError) as error:
            log.warning("events failed", queue=self._name, events=len(received), cause=_cause(error))
            return [retry_of(error)] * len(received)
        except Exception as error:
            log.exception("handler failed", queue=self._name, events=len(received))
            if len(received) == 1:
                return [retry_of(error)]
        # One bad event must not take the others up the ladder with it.
        return [await self._handle_alone(one) for one in received]

    async def _handle_alone(self, received: Received) -> Outcome | Later:
        try:
            return (await self._call([received]))[0]
        except Exception as error:  # told already, with the whole batch
            return retry_of(error)

    async def _call(self, received: Sequence[Received]) -> Sequence[Outcome | Later]:
        if not received:
            return []
        self._measure(received)
        traceparents = [one.event.traceparent for one in received]
        with tracing.batch(f"process {self._name}", SpanKind.CONSUMER, traceparents) as span:
            for one, traceparent in zip(received, span.traceparents, strict=True):
                one.event.traceparent = traceparent
            began = time.monotonic()
            within = call.Call(deadline=began + self._handler_timeout, traceparent=span.traceparent)
            try:
                with call.within(within):
                    async with asyncio.timeout(self._handler_timeout):
                        outcomes = await self._handler(received)
            finally:
                self._duration.record(time.monotonic() - began)
        if len(outcomes) != len(received):
            raise ValueError(f"the handler answered {len(outcomes)} outcomes for {len(received)} events")
        return outcomes

    def _measure(self, received: Sequence[Received]) -> None:
        self._size.record(len(received))
        now = time.time()
        for one in received:
            accepted = one.event.accepted_at
            self._age.record(max(now - accepted.seconds - accepted.nanos / 1e9, 0.0))

    def _count(self, outcomes: Sequence[Outcome | Later]) -> None:
        kinds = Counter(type(one).__name__.lower() for one in outcomes if not isinstance(one, asyncio.Future))
        for kind, number in kinds.items():
            OUTCOMES.labels(self._name, kind).add(number)

    async def _finish(self, arrived: _Arrived, answered: Sequence[Outcome | Later]) -> None:
        known = [one for one in answered if not isinstance(one, asyncio.Future)]
        if len(known) == len(answered):
            await self._settle(arrived, known)
            return
        self._settle_aside(self._settle_later(arrived, answered))

    def _settle_aside(self, settling: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(settling)
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _settle_later(self, arrived: _Arrived, answered: Sequence[Outcome | Later]) -> None:
        outcomes = [await self._known(one) if isinstance(one, asyncio.Future) else one for one in answered]
        await self._settle(arrived, outcomes)

    async def _known(self, later: Later) -> Outcome:
        try:
            outcome = await later
        except Exception as error:
            log.exception("handler failed", queue=self._name, events=1)
            outcome = retry_of(error)
        self._count([outcome])
        return outcome

    async def _settle(self, arrived: _Arrived, outcomes: Sequence[Outcome]) -> None:
        steps = plan(arrived.delivery, arrived.events, outcomes, self._topology)
        publish = self._publisher.publish
        await self._settler.settle(
            arrived.message,
            deque(
                partial(publish, step.exchange, step.routing_key, step.events, step.headers) for step in steps
            ),
        )


def retry_of(error: Exception) -> Retry:
    """The retry that an error asks for; a part that is away is an outage, however long it stays away."""
    return Retry(_cause(error), outage=isinstance(error, Unavailable | DeadlineExceeded))


def _cause(error: Exception) -> str:
    return error.detail if isinstance(error, MessengerError) else type(error).__name__
