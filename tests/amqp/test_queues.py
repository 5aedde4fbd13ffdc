"""The promises of mesh.amqp, on a real broker."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any

import aio_pika
import pytest
from structlog.testing import capture_logs

from mesh import call
from mesh.amqp import (
    CHECKED,
    DONE,
    MESSAGES,
    PARKED,
    RETRY,
    Consumer,
    Later,
    Outcome,
    Park,
    Publisher,
    Received,
    Retry,
    Topology,
    settling,
)
from mesh.amqp.topology import DELIVERY_LIMIT
from mesh.batching import MANY
from mesh.errors import Unavailable
from messenger.events.v1.queue_pb2 import EventBatch
from tests.amqp.support import Proxy, Recorder, count, event, eventually, name_of, take


async def test_events_arrive_in_order(amqp_url: str, topology: Topology, publisher: Publisher) -> None:
    """Bodies that were published one after the other are handled in that order, with their trace."""
    seen = Recorder()
    async with Consumer(amqp_url, topology, CHECKED, seen, publisher):
        trace = call.new_traceparent()
        for n in range(50):
            with call.within(call.Call(traceparent=trace if n == 0 else "")):
                await publisher.publish(CHECKED, "", [event(f"{n}a"), event(f"{n}b")])
        first = await seen.next()
        assert first.delivery.traceparent == first.event.traceparent == trace
        assert await seen.names(99) == ["0b", *(f"{n}{half}" for n in range(1, 50) for half in "ab")]


async def test_unroutable_is_an_error(publisher: Publisher) -> None:
    """A body that no queue takes is not silently lost."""
    with pytest.raises(Unavailable):
        await publisher.publish(RETRY, "no-such-rung", [event("lost")])


async def test_silent_broker_is_bounded(amqp_url: str, topology: Topology) -> None:
    """A publish whose confirm does not come ends at its time limit instead of hanging."""
    async with Proxy(amqp_url) as proxy, Publisher(proxy.url, topology) as publisher:
        await publisher.ready()
        await publisher.publish(PARKED, "", [event("confirmed")])
        proxy.freeze()
        started = time.monotonic()
        with pytest.raises(Unavailable):
            await publisher.publish(PARKED, "", [event("silence")], timeout=0.1)
        assert time.monotonic() - started < 1


async def overfill(publisher: Publisher, exchange: str) -> None:
    """Publishes more than a queue of one body takes."""
    for n in range(100):
        await publisher.publish(exchange, "", [event(f"{n}")])


async def test_full_queue_refuses(amqp_url: str, topology: Topology) -> None:
    """A queue that is full pushes back on publishers instead of dropping."""
    small = Topology(prefix=topology.prefix, max_length=1, ladder=topology.ladder)
    async with Publisher(amqp_url, small) as publisher:
        await publisher.ready()
        with pytest.raises(Unavailable):
            await overfill(publisher, PARKED)


async def test_what_a_full_queue_refused_from_a_rung_comes_within_seconds(
    amqp_url: str, topology: Topology
) -> None:
    """The broker tries again soon what the next queue did not take from a rung of the ladder."""
    small = Topology(prefix=topology.prefix, max_length=1, ladder=topology.ladder)
    seen = Recorder()
    async with Publisher(amqp_url, small) as publisher:
        await publisher.ready()
        with pytest.raises(Unavailable):
            await overfill(publisher, CHECKED)
        await publisher.publish(RETRY, small.rung(1), [event("again")])
        while await count(amqp_url, small, f"{RETRY}.{small.rung(1)}"):  # until it has gone from there
            pass
        async with Consumer(amqp_url, small, CHECKED, seen, publisher):
            while name_of((await seen.next(30)).event) != "again":
                pass


async def test_ladder_walks_its_rungs(amqp_url: str, topology: Topology, publisher: Publisher) -> None:
    """Only what failed comes again: later on each rung, with its attempt and cause."""
    seen = Recorder(
        lambda one: (
            Retry(f"failed {one.delivery.attempt}")
            if name_of(one.event) == "bad" and one.delivery.attempt < 4
            else DONE
        )
    )
    async with Consumer(amqp_url, topology, CHECKED, seen, publisher) as consumer:
        await consumer.ready()
        started = time.monotonic()
        await publisher.publish(CHECKED, "", [event("good"), event("bad"), event("fine")])
        first = await seen.names(3)
        again = [await seen.next() for _ in range(3)]
    assert first == ["good", "bad", "fine"]
    assert [name_of(one.event) for one in again] == ["bad"] * 3
    assert [(one.delivery.attempt, one.delivery.cause) for one in again] == [
        (2, "failed 1"), (3, "failed 2"), (4, "failed 3"),
    ]  # fmt: skip
    assert time.monotonic() - started >= sum(topology.ladder)


async def test_parked_after_max_attempts(amqp_url: str, topology: Topology, publisher: Publisher) -> None:
    """What fails on every rung ends in the parking queue with its last cause."""
    seen = Recorder(lambda _: Retry("the shard is down"))
    async with Consumer(amqp_url, topology, CHECKED, seen, publisher):
        await publisher.publish(CHECKED, "", [event("hopeless")])
        parked = await take(amqp_url, topology, PARKED)
    assert (parked.headers["attempt"], parked.headers["cause"]) == (5, "the shard is down")
    assert [name_of(one) for one in EventBatch.FromString(parked.body).events] == ["hopeless"]
    assert len(seen.calls) == topology.max_attempts


async def test_park_skips_the_ladder(amqp_url: str, topology: Topology, publisher: Publisher) -> None:
    """A handler that knows that no retry helps has the event parked at its first attempt."""
    seen = Recorder(lambda _: Park("no such chat"))
    async with Consumer(amqp_url, topology, CHECKED, seen, publisher):
        await publisher.publish(CHECKED, "", [event("odd")])
        parked = await take(amqp_url, topology, PARKED)
    assert (parked.headers["attempt"], parked.headers["cause"]) == (1, "no such chat")


@pytest.mark.parametrize("body", [b"\xff\xffnot protobuf", EventBatch(version=2).SerializeToString(), b""])
async def test_unreadable_is_parked_at_once(
    amqp_url: str, topology: Topology, publisher: Publisher, body: bytes
) -> None:
    """A body of no or of an unknown version is parked as it is, and what follows is handled."""
    seen = Recorder()
    async with Consumer(amqp_url, topology, CHECKED, seen, publisher):
        await publisher.publish_body(CHECKED, "", body)
        await publisher.publish(CHECKED, "", [event("next")])
        assert await seen.names(1) == ["next"]
        parked = await take(amqp_url, topology, PARKED)
    assert parked.body == body
    assert "EventBatch" in str(parked.headers["cause"])


async def test_a_body_that_kills_its_consumers_is_parked(
    amqp_url: str, topology: Topology, publisher: Publisher
) -> None:
    """The broker itself parks what was handed out too often in vain, so that no crash loops for ever."""
    await publisher.publish(CHECKED, "", [event("deadly")])
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        queue = await channel.get_queue(topology.name(CHECKED))
        async with queue.iterator(timeout=10) as bodies:
            for _ in range(DELIVERY_LIMIT + 1):
                await (await anext(bodies)).reject(requeue=True)
    parked = await take(amqp_url, topology, PARKED)
    assert [name_of(one) for one in EventBatch.FromString(parked.body).events] == ["deadly"]


async def test_window_fails_open(amqp_url: str, topology: Topology, publisher: Publisher) -> None:
    """With no antispam at all a message goes on by itself, and shows that it was not seen."""
    seen = Recorder()
    async with Consumer(amqp_url, topology, CHECKED, seen, publisher):
        await publisher.publish(MESSAGES, "", [event("unseen")])
        expired = await seen.next()
        await publisher.publish(CHECKED, "", [event("direct")])
        direct = await seen.next()
    assert (name_of(expired.event), expired.delivery.expired) == ("unseen", True)
    assert (name_of(direct.event), direct.delivery.expired) == ("direct", False)


async def test_gathers_what_waits(amqp_url: str, topology: Topology, publisher: Publisher) -> None:
    """What arrives during a handler call goes into the next one together, bounded by max_events."""
    begun, release = asyncio.Event(), asyncio.Event()
    seen = Recorder()

    async def slow_at_first(received: Sequence[Received]) -> Sequence[Outcome]:
        begun.set()
        await release.wait()
        return await seen(received)

    async with Consumer(amqp_url, topology, CHECKED, slow_at_first, publisher, max_events=8) as consumer:
        await publisher.publish(CHECKED, "", [event("first")])
        await begun.wait()
        for n in range(6):
            await publisher.publish(CHECKED, "", [event(f"{n}a"), event(f"{n}b")])
        await eventually(lambda: len(consumer._waiting) == 6)  # delivered, not only confirmed
        release.set()
        await seen.names(13)
    assert [len(call) for call in seen.calls] == [1, 8, 4]


async def test_a_second_call_begins_beside_few_events_only(
    amqp_url: str, topology: Topology, publisher: Publisher
) -> None:
    """One event under way keeps the next from nothing; many keep it waiting, to go in a larger call."""
    begun: asyncio.Queue[int] = asyncio.Queue()
    ends: deque[asyncio.Event] = deque()

    async def held(received: Sequence[Received]) -> Sequence[Outcome]:
        ends.append(end := asyncio.Event())
        begun.put_nowait(len(received))
        await end.wait()
        return [DONE] * len(received)

    async with Consumer(amqp_url, topology, CHECKED, held, publisher, concurrency=3) as consumer:
        for events in (1, MANY):
            await publisher.publish(CHECKED, "", [event(f"{events} {n}") for n in range(events)])
            assert await asyncio.wait_for(begun.get(), 10) == events
        for name in "ab":
            await publisher.publish(CHECKED, "", [event(name)])
        await eventually(lambda: len(consumer._waiting) == 2)
        ends.popleft().set()  # the one event's; the many are still under way
        await eventually(lambda: consumer._under_way == MANY)
        assert begun.empty()
        ends.popleft().set()
        assert await asyncio.wait_for(begun.get(), 10) == 2
        ends.popleft().set()


async def test_what_has_an_order_keeps_it(amqp_url: str, topology: Topology, publisher: Publisher) -> None:
    """No event begins beside an earlier one of its order; others do."""
    begun: asyncio.Queue[list[str]] = asyncio.Queue()
    ends: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def held(received: Sequence[Received]) -> Sequence[Outcome]:
        names = [name_of(one.event) for one in received]
        begun.put_nowait(names)
        await asyncio.gather(*(ends[name].wait() for name in names))
        return [DONE] * len(received)

    async with Consumer(
        amqp_url, topology, CHECKED, held, publisher, concurrency=2, order=lambda one: name_of(one)[:1]
    ) as consumer:
        for name in ("a1", "b1"):
            await publisher.publish(CHECKED, "", [event(name)])
            assert await asyncio.wait_for(begun.get(), 10) == [name]
        for name in ("c1", "a2", "d1"):
            await publisher.publish(CHECKED, "", [event(name)])
        await eventually(lambda: len(consumer._waiting) == 3)
        ends["b1"].set()
        assert await asyncio.wait_for(begun.get(), 10) == ["c1"]
        ends["c1"].set()
        await eventually(lambda: consumer._under_way == 1)
        assert begun.empty()
        ends["a1"].set()
        assert await asyncio.wait_for(begun.get(), 10) == ["a2", "d1"]
        ends["a2"].set()
        ends["d1"].set()


async def test_one_bad_event_does_not_take_others_along(
    amqp_url: str, topology: Topology, publisher: Publisher
) -> None:
    """When a handler raises, the events are tried one by one: only the one at fault goes up the ladder."""
    seen = Recorder()

    async def fragile(received: Sequence[Received]) -> Sequence[Outcome]:
        if any(name_of(one.event) == "bad" and one.delivery.attempt == 1 for one in received):
            raise ZeroDivisionError
        return await seen(received)

    async with Consumer(amqp_url, topology, CHECKED, fragile, publisher):
        await publisher.publish(CHECKED, "", [event("a"), event("bad"), event("b")])
        assert await seen.names(2) == ["a", "b"]
        again = await seen.next()
    assert (name_of(again.event), again.delivery.attempt) == ("bad", 2)
    assert again.delivery.cause == "ZeroDivisionError"


async def test_slow_handler_is_bounded(amqp_url: str, topology: Topology, publisher: Publisher) -> None:
    """A handler call that hangs ends at its time limit, and its events are retried."""
    seen = Recorder()

    async def hangs_once(received: Sequence[Received]) -> Sequence[Outcome]:
        if received[0].delivery.attempt == 1:
            await asyncio.Event().wait()
        return await seen(received)

    async with Consumer(amqp_url, topology, CHECKED, hangs_once, publisher, handler_timeout=0.05):
        await publisher.publish(CHECKED, "", [event("slow")])
        again = await seen.next()
    assert (again.delivery.attempt, again.delivery.cause) == (2, "TimeoutError")


async def test_unacknowledged_is_delivered_again(
    amqp_url: str, topology: Topology, publisher: Publisher
) -> None:
    """What a consumer that went away had not finished, the next one gets, and is told so."""
    begun = asyncio.Event()

    async def never(received: Sequence[Received]) -> Sequence[Outcome]:
        assert not received[0].delivery.redelivered
        begun.set()
        await asyncio.Event().wait()
        return []

    async with Consumer(amqp_url, topology, CHECKED, never, publisher, drain_timeout=0.01):
        await publisher.publish(CHECKED, "", [event("orphan")])
        await begun.wait()
    seen = Recorder()
    async with Consumer(amqp_url, topology, CHECKED, seen, publisher):
        again = await seen.next()
        assert (name_of(again.event), again.delivery.redelivered) == ("orphan", True)


async def test_drain_finishes_and_hands_back(amqp_url: str, topology: Topology, publisher: Publisher) -> None:
    """A consumer that stops finishes its handler call, acknowledges it, and gives back what only waited."""
    begun, release = asyncio.Event(), asyncio.Event()
    first, second = Recorder(), Recorder()

    async def slow(received: Sequence[Received]) -> Sequence[Outcome]:
        begun.set()
        await release.wait()
        return await first(received)

    async with Consumer(amqp_url, topology, CHECKED, slow, publisher, max_events=1):
        for name in ("finished", "back 1", "back 2"):
            await publisher.publish(CHECKED, "", [event(name)])
        await begun.wait()
        asyncio.get_running_loop().call_later(0.1, release.set)
    assert first.calls == [["finished"]]
    async with Consumer(amqp_url, topology, CHECKED, second, publisher):
        assert await second.names(2) == ["back 1", "back 2"]
    assert await count(amqp_url, topology, CHECKED) == 0


async def test_an_outcome_that_comes_later_holds_up_nothing(
    amqp_url: str, topology: Topology, publisher: Publisher
) -> None:
    """Other deliveries are handled and acknowledged meanwhile; a consumer that stops waits for it."""
    seen = Recorder()
    slow: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    async def handle(received: Sequence[Received]) -> list[Outcome | Later]:
        outcomes = await seen(received)
        names = [name_of(one.event) for one in received]
        return [slow if name == "slow" else outcome for name, outcome in zip(names, outcomes, strict=True)]

    async with Consumer(amqp_url, topology, CHECKED, handle, publisher, prefetch=2):
        await publisher.publish(CHECKED, "", [event("slow"), event("with it")])
        for number in range(3):  # more than the prefetch lets out beside it, so they are acknowledged
            await publisher.publish(CHECKED, "", [event(f"other {number}")])
        assert await seen.names(5) == ["slow", "with it", "other 0", "other 1", "other 2"]
        asyncio.get_running_loop().call_later(0.1, slow.set_result, Retry("later"))
    async with Consumer(amqp_url, topology, CHECKED, seen, publisher):
        again = await seen.next()
        assert (name_of(again.event), again.delivery.attempt) == ("slow", 2)
    assert seen.is_empty()
    assert await count(amqp_url, topology, CHECKED) == 0


class Unwilling(Publisher):
    """A publisher that nothing takes anything from, until it is let; counts how often it was asked."""

    willing = False
    asked = 0

    async def publish_body(self, *args: Any, **kwargs: Any) -> None:
        """See Publisher."""
        self.asked += 1
        if not self.willing:
            raise Unavailable("a queue without a leader, or a broker that is short of memory")
        await super().publish_body(*args, **kwargs)


async def test_what_the_ladder_does_not_take_is_held(
    amqp_url: str, topology: Topology, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long nothing takes an event, it is not handed out again and again until the broker parks it.

    What cannot be read waits for the parking queue in the same way; others are handled meanwhile.
    """
    monkeypatch.setattr(settling, "HOLD_PAUSE", 0.01)
    seen = Recorder(
        lambda one: Retry("later") if (name_of(one.event), one.delivery.attempt) == ("kept", 1) else DONE
    )
    async with (
        Unwilling(amqp_url, topology) as unwilling,
        Consumer(amqp_url, topology, CHECKED, seen, unwilling) as consumer,
    ):
        await consumer.ready()
        await unwilling.ready()
        await publisher.publish(CHECKED, "", [event("kept")])
        await publisher.publish_body(CHECKED, "", b"nonsense")
        await publisher.publish(CHECKED, "", [event("other")])
        assert await seen.names(2) == ["kept", "other"]
        await eventually(lambda: unwilling.asked > 4 * DELIVERY_LIMIT)
        assert seen.is_empty()
        unwilling.willing = True
        again = await seen.next()
        assert (name_of(again.event), again.delivery.attempt) == ("kept", 2)
        assert (await take(amqp_url, topology, PARKED)).body == b"nonsense"


async def test_what_is_held_is_handed_back_by_who_leaves(
    amqp_url: str, topology: Topology, publisher: Publisher
) -> None:
    """A consumer that stops while nothing takes its events loses none of them."""
    seen = Recorder(lambda _: Retry("later"))
    nowhere = Publisher("amqp://127.0.0.1:1/", topology)  # never connects
    async with Consumer(amqp_url, topology, CHECKED, seen, nowhere):
        await publisher.publish(CHECKED, "", [event("kept")])
        assert await seen.names(1) == ["kept"]
    seen = Recorder()
    async with Consumer(amqp_url, topology, CHECKED, seen, publisher):
        assert await seen.names(1) == ["kept"]


async def test_other_arguments_are_explained(amqp_url: str, topology: Topology, publisher: Publisher) -> None:
    """A process whose settings disagree with the queues is not ready, and the log says what to do."""
    other = Topology(prefix=topology.prefix, window=9, ladder=topology.ladder)
    with capture_logs() as logs:
        async with Publisher(amqp_url, other) as stranger:
            await eventually(lambda: logs)
            assert not stranger.is_ready
    assert "x-message-ttl" in logs[0]["cause"]
    assert "same queue settings" in logs[0]["cause"]
