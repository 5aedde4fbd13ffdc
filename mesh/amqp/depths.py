"""Tells how full the queues are. Every process that asks says the same, so take the greatest, not the sum."""

import asyncio

import structlog

from mesh import metrics
from mesh.amqp.publisher import Publisher
from mesh.amqp.topology import Topology
from mesh.errors import Unavailable

log = structlog.get_logger()

DEPTH = metrics.gauge(
    "messenger_queue_depth", "Bodies that wait in a queue, without those handed out.", ("queue",)
)
CONSUMERS = metrics.gauge("messenger_queue_consumers", "Consumers of a queue.", ("queue",))

EVERY = 5.0
"""Seconds between two looks."""


async def watch_depths(publisher: Publisher, topology: Topology) -> None:
    """Looks at every queue until cancelled; while the broker is away the last numbers stay."""
    while True:
        for queue in topology.queues():
            try:
                depth, consumers = await publisher.look(queue.name)
            except Unavailable as error:
                log.debug("queues not seen", queue=queue.name, cause=error.detail)
                break
            DEPTH.labels(queue.name).set(depth)
            CONSUMERS.labels(queue.name).set(consumers)
        await asyncio.sleep(EVERY)
