"""Example: a team consumes the stream of messages by a queue of its own, here for push notifications.

`checked` is a fanout exchange of what antispam has seen: a queue that is bound to it gets a copy of it all.
"""

from collections.abc import Awaitable, Callable

import aio_pika

from messenger.antispam.v1.antispam_pb2 import DECISION_REJECT
from messenger.events.v1.queue_pb2 import EventBatch, MessageAccepted

VERSION = 1
"""Of EventBatch. What has another is not for this program."""

ARGUMENTS: dict[str, str | int] = {
    "x-queue-type": "quorum",
    # A queue that is full must lose what is oldest: with `reject-publish` it would hold up the messenger.
    "x-max-length": 100_000,
    "x-overflow": "drop-head",
    "x-message-ttl": 3_600_000,  # nobody wants to be told of an hour ago
    "x-delivery-limit": 5,
}

Push = Callable[[MessageAccepted], Awaitable[None]]
"""Tells the receiver's phone, at least once a message: the message_id makes a good collapse key."""


async def consume(url: str, push: Push, *, prefix: str = "") -> None:
    """Pushes every message that antispam let through, until it is cancelled.

    Args:
        url: of RabbitMQ, amqp://user:password@host:port/vhost.
        push: tells the phone; what it raises brings the delivery again.
        prefix: the messenger's QUEUE_PREFIX.
    """
    connection = await aio_pika.connect_robust(url)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=50)
        queue = await channel.declare_queue(f"{prefix}push", durable=True, arguments=ARGUMENTS)
        await queue.bind(f"{prefix}checked")
        async with queue.iterator() as deliveries:
            async for delivery in deliveries:
                async with delivery.process(requeue=True):  # acknowledged at the end of the block
                    for accepted in messages_in(delivery.body):
                        await push(accepted)


def messages_in(body: bytes) -> list[MessageAccepted]:
    """The messages of a body that are for their receivers' eyes."""
    batch = EventBatch.FromString(body)
    if batch.version != VERSION:
        return []
    accepted = [e.message_accepted for e in batch.events if e.WhichOneof("body") == "message_accepted"]
    return [one for one in accepted if one.verdict.decision != DECISION_REJECT]
