"""Publishes batches of events with publisher confirm and a time limit. Gathering them is left to callers."""

import time
from collections.abc import Sequence
from typing import Self

from opentelemetry.trace import SpanKind

from mesh import call, tracing
from mesh.amqp.delivery import PUBLISHED, TRACE, Headers, encode
from mesh.amqp.link import Link
from mesh.amqp.topology import Topology
from mesh.batching import SIZE
from messenger.events.v1.queue_pb2 import Event

TIMEOUT = 5.0
"""Seconds that one publish may take until the broker has confirmed it."""


class Publisher:
    """Publishes to the topology's exchanges; an async context manager that connects in the background.

    What returns without an error is on the disks of most of the broker's nodes. After an error the effect is
    unknown: publish again, consumers are idempotent. Bodies published one after the other keep their order.

    Args:
        url: the broker, amqp://user:password@host:port/vhost; a cluster's nodes separated by white space.
        topology: declared on every connection.
        name: shown in the broker's list of connections.
    """

    def __init__(self, url: str, topology: Topology, *, name: str = "publisher") -> None:
        self._topology = topology
        self._link = Link(url, topology, name=name)
        self._size = SIZE.labels("publish")

    async def __aenter__(self) -> Self:
        await self._link.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._link.__aexit__(*error)

    @property
    def is_ready(self) -> bool:
        """Whether a publish has a chance now."""
        return self._link.is_ready

    async def ready(self) -> None:
        """Waits for the broker."""
        await self._link.ready()

    async def publish(
        self,
        exchange: str,
        routing_key: str,
        events: Sequence[Event],
        headers: Headers | None = None,
        *,
        timeout: float = TIMEOUT,
    ) -> None:
        """Publishes events as one body and waits for the broker's confirm.

        Args:
            exchange: MESSAGES, CHECKED, RETRY or PARKED; the topology's prefix is added.
            routing_key: a rung for RETRY, "" for the others.
            events: at least one; those without a trace context get the current call's.
            headers: `attempt`, `cause`; added are `traceparent`, the first traced event's, and `published`.
            timeout: seconds; less where the current call has less left.

        Raises:
            Unavailable: no broker, no confirm in time, refused because a queue is full, or no queue is bound.
        """
        self._size.record(len(events))
        name = self._topology.name(exchange)
        ours = call.current().traceparent
        traceparents = [event.traceparent or ours for event in events]
        with tracing.batch(f"publish {name}", SpanKind.PRODUCER, traceparents) as span:
            published_ms = time.time_ns() // 1_000_000
            headers = {**(headers or {}), TRACE: span.traceparent, PUBLISHED: published_ms}
            await self.publish_body(
                exchange, routing_key, encode(events, span.traceparents), headers, timeout=timeout
            )

    async def look(self, queue: str, *, timeout: float = TIMEOUT) -> tuple[int, int]:
        """How many bodies wait in a queue and how many consumers it has.

        Raises:
            Unavailable: no broker, or no answer in time.
        """
        return await self._link.wire().look(queue, seconds=timeout)

    async def publish_body(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        headers: Headers | None = None,
        *,
        timeout: float = TIMEOUT,
    ) -> None:
        """Publishes a body as it is: `publish` for those that cannot be read."""
        await self._link.wire().publish(
            self._topology.name(exchange),
            routing_key,
            headers or {},
            body,
            seconds=min(timeout, call.time_left()),
        )
