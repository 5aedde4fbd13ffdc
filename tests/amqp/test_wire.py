"""The promises of a connection of our own, on a real broker, and that others read what it writes."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from mesh.amqp import CHECKED, PARKED, RETRY, Consumer, Publisher, Topology, wire
from mesh.amqp.broker import Broker
from mesh.amqp.migrate import migrate
from mesh.amqp.wire import Incoming, Wire, connect
from mesh.errors import Unavailable
from mesh.stack.ca import HERE, Authority
from tests.amqp.support import Proxy, Recorder, count, event, take

HEADERS: dict[str, Any] = {
    "attempt": 3,
    "cause": "späť",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "published": 1_764_369_000_123,
}


@pytest.fixture
async def line(amqp_url: str, topology: Topology) -> AsyncIterator[Wire]:
    """A connection, with the topology declared."""
    await migrate(amqp_url, topology)
    line = await connect(Broker.of(amqp_url), "test")
    try:
        yield line
    finally:
        await line.aclose()


async def send(line: Wire, topology: Topology, body: bytes, exchange: str = PARKED, key: str = "") -> None:
    """Publishes."""
    await line.publish(topology.name(exchange), key, HEADERS, body, seconds=10)


def properties(message: aio_pika.abc.AbstractMessage) -> dict[str, Any]:
    """All that a consumer can see of a message but its place."""
    return {
        name: getattr(message, name)
        for name in (
            "body", "headers", "content_type", "content_encoding", "delivery_mode", "priority",
            "correlation_id", "reply_to", "expiration", "timestamp", "type", "user_id", "app_id",
        )
    }  # fmt: skip


async def test_aio_pika_reads_what_it_would_have_sent(amqp_url: str, topology: Topology, line: Wire) -> None:
    """Whoever reads our queues sees the message that aio-pika sent in our place until now."""
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        exchange = await channel.get_exchange(topology.name(PARKED))
        await exchange.publish(
            aio_pika.Message(
                b"body",
                headers={**HEADERS},
                content_type="application/x-protobuf",
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            ),
            "",
        )
    before = await take(amqp_url, topology, PARKED)
    await send(line, topology, b"body")
    now = await take(amqp_url, topology, PARKED)
    assert properties(now) == properties(before)
    assert {type(value) for value in now.headers.values()} == {int, str}
    for one in (before, now):
        assert len(one.message_id or "") == 32
        int(one.message_id or "", 16)


async def test_it_reads_what_aio_pika_sends(amqp_url: str, topology: Topology, line: Wire) -> None:
    """Headers of any type and depth, beside any other property, or none, read as aio-pika reads them."""
    odd: dict[str, Any] = {
        "text": "späť",
        "numbers": [1, -1, 2**40, 1.5, True, None],
        "nested": {"a": {"b": [{"c": "d"}]}},
        "when": datetime(2026, 1, 2, tzinfo=UTC),
        "bytes": bytearray(b"\xff"),
    }
    messages = [
        aio_pika.Message(
            b"first", headers=odd, content_encoding="gzip", content_type="text/plain", app_id="x"
        ),
        aio_pika.Message(b"", correlation_id="c", timestamp=datetime(2026, 1, 2, tzinfo=UTC)),
    ]
    arrived: asyncio.Queue[Incoming] = asyncio.Queue()
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        exchange = await channel.get_exchange(topology.name(PARKED))
        for message in messages:
            await exchange.publish(message, "")
        queue = await channel.get_queue(topology.name(PARKED))
        theirs = [await queue.get(), await queue.get()]
        for theirs_back in theirs:
            await theirs_back.reject(requeue=True)
        await line.consume(topology.name(PARKED), arrived.put_nowait, prefetch=2)
        ours = [await asyncio.wait_for(arrived.get(), 10) for _ in theirs]
    for one, other in zip(ours, theirs, strict=True):
        # The broker has counted one more delivery meanwhile.
        assert {**one.headers, "x-delivery-count": 0} == {**other.headers, "x-delivery-count": 0}
        assert one.body == other.body
    assert all(one.redelivered for one in ours)
    for one in ours:
        one.ack()
    await line.cancel()
    assert await line.look(topology.name(PARKED)) == (0, 0)


async def test_settlements(topology: Topology, line: Wire) -> None:
    """A message that is put back comes again, either way, and is gone once it is acknowledged."""
    arrived = asyncio.Queue[Incoming]()
    await send(line, topology, b"body")
    await line.consume(topology.name(PARKED), arrived.put_nowait, prefetch=1)
    for settle in (Incoming.nack, Incoming.reject, Incoming.ack):
        message = await asyncio.wait_for(arrived.get(), 10)
        assert message.body == b"body"
        settle(message)
    await line.cancel()
    assert await line.look(topology.name(PARKED)) == (0, 0)


@pytest.mark.parametrize("size", [0, 1, 131_064, 131_065, 262_128, 1_000_000])
async def test_bodies_of_any_size(topology: Topology, line: Wire, size: int) -> None:
    """Bodies of none, one and several frames come as they were sent, whole ones at the edge too."""
    body = random.Random(size).randbytes(size)  # noqa: S311  # no secret
    arrived = asyncio.Queue[Incoming]()
    await line.consume(topology.name(PARKED), arrived.put_nowait, prefetch=1)
    await send(line, topology, body)
    message = await asyncio.wait_for(arrived.get(), 10)
    assert message.body == body
    message.ack()


async def test_confirms_of_many_at_once(amqp_url: str, topology: Topology, line: Wire) -> None:
    """All of a crowd are confirmed and in their queue; what no queue takes fails alone among them."""
    outcomes = await asyncio.gather(
        *(
            send(line, topology, b"body", *((PARKED,) if number % 16 else (RETRY, "no-such-rung")))
            for number in range(320)
        ),
        return_exceptions=True,
    )
    for number, outcome in enumerate(outcomes):
        if number % 16:
            assert outcome is None
        else:
            assert isinstance(outcome, Unavailable)
            assert "NO_ROUTE" in str(outcome.__cause__)
    assert await count(amqp_url, topology, PARKED) == 300
    assert not line._unconfirmed


async def overfill(line: Wire, small: Topology) -> None:
    """Publishes more than a queue of one body takes."""
    for _ in range(100):
        await send(line, small, b"body")


async def test_a_full_queue_refuses(amqp_url: str, topology: Topology) -> None:
    """What the broker does not confirm is an error that says so, and the connection lives on."""
    small = Topology(prefix=topology.prefix, max_length=1, ladder=topology.ladder)
    line = await connect(Broker.of(amqp_url), "test")
    await migrate(amqp_url, small)
    with pytest.raises(Unavailable) as error:
        await overfill(line, small)
    assert "refused" in str(error.value.__cause__)
    await send(line, small, b"body", CHECKED)
    await line.aclose()


async def test_a_closed_channel_fails_what_is_under_way(topology: Topology, line: Wire) -> None:
    """A publish to an exchange that is not there ends the connection for all, in the broker's words."""
    outcomes = await asyncio.gather(
        *(send(line, topology, b"body", exchange) for exchange in ["nowhere", *[PARKED] * 20]),
        return_exceptions=True,
    )
    assert all(one is None or isinstance(one, Unavailable) for one in outcomes)
    with pytest.raises(Unavailable) as error:
        await line.lost()
    assert "404 NOT_FOUND" in str(error.value.__cause__)
    with pytest.raises(Unavailable):
        await send(line, topology, b"body")


async def test_a_wrong_password_is_told(amqp_url: str) -> None:
    """A broker that does not take us is no silence."""
    host = amqp_url.rpartition("@")[2]
    with pytest.raises(Unavailable) as error:
        await connect(Broker.of(f"amqp://messenger:wrong@{host}"), "test")
    assert "ACCESS_REFUSED" in str(error.value.__cause__)


async def test_a_killed_connection_loses_nothing_that_was_reported(amqp_url: str, topology: Topology) -> None:
    """When it is cut with publishes under way none hangs; all that were reported done are in the queue."""
    async with Proxy(amqp_url) as proxy:
        line = await connect(Broker.of(proxy.url), "test")
        await migrate(amqp_url, topology)
        crowd = [asyncio.create_task(send(line, topology, b"body")) for _ in range(500)]
        await asyncio.wait(crowd, return_when=asyncio.FIRST_COMPLETED)
        proxy.cut()
        async with asyncio.timeout(5):
            outcomes = await asyncio.gather(*crowd, return_exceptions=True)
            with pytest.raises(Unavailable):
                await line.lost()
        done = outcomes.count(None)
        assert 0 < done < 500
        assert all(one is None or isinstance(one, Unavailable) for one in outcomes)
        assert not line._unconfirmed
        await line.aclose()
    async with asyncio.timeout(10):
        while await count(amqp_url, topology, PARKED) < done:
            pass


async def test_a_silent_broker_is_given_up(
    amqp_url: str, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that says nothing for two heartbeats is gone; one that is idle is not, nor are we for it."""
    monkeypatch.setattr(wire, "HEARTBEAT", 1)
    async with Proxy(amqp_url) as proxy:
        line = await connect(Broker.of(proxy.url), "test")
        await migrate(amqp_url, topology)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4):
                await line.lost()
        await send(line, topology, b"body")
        proxy.freeze()
        async with asyncio.timeout(4):
            with pytest.raises(Unavailable) as error:
                await line.lost()
        assert "silent" in str(error.value.__cause__)
        await line.aclose()


async def test_a_queue_that_is_deleted_comes_back(
    amqp_url: str, topology: Topology, publisher: Publisher
) -> None:
    """A consumer whose queue is taken away declares it again and goes on."""
    seen = Recorder()
    async with Consumer(amqp_url, topology, CHECKED, seen, publisher) as consumer:
        await consumer.ready()
        lost = consumer._link.wire().lost()
        async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
            await channel.queue_delete(topology.name(CHECKED))
        with pytest.raises(Unavailable):
            await lost
        await consumer.ready()
        await publisher.publish(CHECKED, "", [event("again")])
        assert await seen.names(1) == ["again"]


async def test_tls(amqp_url: str, topology: Topology, tmp_path: Path) -> None:
    """amqps:// takes the broker's certificate from the CA that it names, and from no other."""
    authority = Authority(tmp_path)
    authority.issue(["broker"], places=HERE)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.certificate_of("broker"), authority.key_of("broker"))
    async with Proxy(amqp_url, tls=context) as proxy:
        trusting = f"{proxy.url}?cafile={authority.certificate}"
        await migrate(trusting, topology)
        line = await connect(Broker.of(trusting), "test")
        await asyncio.gather(*(send(line, topology, bytes(200_000)) for _ in range(3)))
        await line.aclose()
        with pytest.raises(Unavailable) as error:
            await connect(Broker.of(proxy.url), "test")
        assert isinstance(error.value.__cause__, ssl.SSLCertVerificationError)
