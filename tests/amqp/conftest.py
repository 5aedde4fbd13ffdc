"""A RabbitMQ of this folder's own, and queues of each test's own on it."""

import contextlib
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aio_pika
import pytest
import stamina
from aio_pika.exceptions import AMQPError

from mesh.amqp import Publisher, Topology
from mesh.stack import Stack, StackSettings, Stage
from mesh.stack.ports import reserve_block


@pytest.fixture(scope="package")
def broker() -> Iterator[Stack]:
    """The RabbitMQ that all tests share which leave it alone."""
    with broker_alone() as stack:
        yield stack


@contextlib.contextmanager
def broker_alone() -> Iterator[Stack]:
    """A stack that is RabbitMQ alone."""
    block = reserve_block()
    with block.guard, tempfile.TemporaryDirectory() as directory:
        stack = Stack(
            StackSettings(
                stack_dir=Path(directory),
                stack_port_base=block.base,
                messenger_port=block.base + 98,
                mongo_shards=("mongodb://not.started",),
                redis_urls=("redis://not.started",),
                amqp_url="",
            )
        )
        stack.up(until=Stage.SERVERS, attached=True)
        try:
            yield stack
        finally:
            stack.down()


@pytest.fixture
def amqp_url(broker: Stack) -> str:
    """Where the broker is."""
    return broker.env()["AMQP_URL"]


@pytest.fixture
async def topology(amqp_url: str) -> AsyncIterator[Topology]:
    """Queues of this test's own, with a ladder of hundredths of seconds; deleted afterwards."""
    topology = Topology(
        prefix=unique(), window=0.2, ladder=(0.05, 0.1, 0.15), max_attempts=5, late_pause=0.05
    )
    yield topology
    await delete(amqp_url, topology)


@pytest.fixture
async def slow_topology(amqp_url: str) -> AsyncIterator[Topology]:
    """Queues of this test's own with the numbers that services have by default; deleted afterwards."""
    topology = Topology(prefix=unique())
    yield topology
    await delete(amqp_url, topology)


def unique() -> str:
    """A prefix that no other test has."""
    return f"{uuid.uuid4().hex}."


@stamina.retry(on=AMQPError, timeout=10)
async def delete(url: str, topology: Topology) -> None:
    """Removes a topology and what its queues hold; again where the broker has just been restarted."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        for queue in topology.queues():
            await channel.queue_delete(queue.name)
        for exchange in topology.exchanges():
            await channel.exchange_delete(exchange)


@pytest.fixture
async def publisher(amqp_url: str, topology: Topology) -> AsyncIterator[Publisher]:
    """A publisher that is connected."""
    async with Publisher(amqp_url, topology) as publisher:
        await publisher.ready()
        yield publisher
