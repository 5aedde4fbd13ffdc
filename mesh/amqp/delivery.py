"""What a body says and what becomes of it: decoding, outcomes, the way up the ladder. Pure; no broker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from mesh.amqp.topology import MESSAGES, PARKED, RETRY, Topology
from messenger.events.v1.queue_pb2 import Event, EventBatch

VERSION = 1
"""The version of EventBatch that this code writes and reads."""

ATTEMPT, CAUSE, TRACE, PUBLISHED = "attempt", "cause", "traceparent", "published"

CAUSE_LENGTH = 500
"""Characters of a cause that travel in the headers."""

Headers = Mapping[str, str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What the headers of one AMQP message say.

    Attributes:
        attempt: 1 the first time, then 2, 3 … up the ladder.
        cause: why the attempt before failed.
        expired: it left `messages` because antispam did not take it within the window.
        redelivered: it was delivered before, and not acknowledged.
        traceparent: the publisher's trace context.
        published_ms: when it was published, by the publisher's clock: Unix time, ms; 0 where it does not say.
    """

    attempt: int = 1
    cause: str = ""
    expired: bool = False
    redelivered: bool = False
    traceparent: str = ""
    published_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One event and the delivery that it came with.

    Attributes:
        waited: seconds since it was published, as far as two hosts' clocks can be trusted.
    """

    event: Event
    delivery: Delivery
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class Done:
    """The event had its effect."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The event should come again after a pause.

    Attributes:
        cause: why, for operators.
        outage: a part is away, which is not the event's fault: it comes again for as long as that lasts, and
            is not parked for it.
    """

    cause: str
    outage: bool = False


@dataclass(frozen=True, slots=True)
class Park:
    """No retry can help the event."""

    cause: str


Outcome = Done | Retry | Park
DONE = Done()


@dataclass(frozen=True, slots=True, kw_only=True)
class Republish:
    """Where some events of a delivery go next."""

    exchange: str
    routing_key: str
    events: tuple[Event, ...]
    headers: Headers


class UnreadableError(ValueError):
    """A body that this version of the code cannot read."""


def encode(events: Sequence[Event], traceparents: Sequence[str] = ()) -> bytes:
    """The body that carries `events`, under these trace contexts where they are given."""
    batch = EventBatch(version=VERSION, events=events)
    for event, traceparent in zip(batch.events, traceparents, strict=False):
        event.traceparent = traceparent
    return batch.SerializeToString()


def decode(body: bytes) -> list[Event]:
    """The events in a body.

    Raises:
        UnreadableError: not an EventBatch, or of a version that this code does not know.
    """
    try:
        batch = EventBatch.FromString(body)
    except DecodeError as error:
        raise UnreadableError("the body is not an EventBatch") from error
    if batch.version != VERSION:
        raise UnreadableError(f"EventBatch version {batch.version} is not {VERSION}")
    return list(batch.events)


def describe(headers: Mapping[str, object], topology: Topology, *, redelivered: bool = False) -> Delivery:
    """Reads the headers of a delivery; what is missing or odd counts as a first attempt."""
    deaths = headers.get("x-death")
    return Delivery(
        attempt=_positive(headers.get(ATTEMPT)) or 1,
        cause=str(headers.get(CAUSE, "")),
        expired=any(_expired(death, topology.name(MESSAGES)) for death in deaths)
        if isinstance(deaths, list)
        else False,
        redelivered=redelivered,
        traceparent=str(headers.get(TRACE, "")),
        published_ms=_positive(headers.get(PUBLISHED)),
    )


def _positive(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def age_of(delivery: Delivery, now_ms: float, longest: float) -> float:
    """Seconds since a delivery was published.

    Args:
        delivery: says when, by its publisher's clock.
        now_ms: Unix time, ms, by this host's clock.
        longest: seconds that a body can wait in its queue at most. What claims more, or comes from the
            future, shows that the clocks differ, and counts as published now.
    """
    seconds = (now_ms - delivery.published_ms) / 1000
    return seconds if delivery.published_ms and 0 <= seconds <= longest else 0.0


def _expired(death: object, queue: str) -> bool:
    return isinstance(death, Mapping) and death.get("queue") == queue and death.get("reason") == "expired"


def plan(
    delivery: Delivery, events: Sequence[Event], outcomes: Sequence[Outcome], topology: Topology
) -> list[Republish]:
    """What must go on before a delivery may be acknowledged; events of one cause stay together."""
    groups: dict[Outcome, list[Event]] = {}
    for event, outcome in zip(events, outcomes, strict=True):
        if not isinstance(outcome, Done):
            groups.setdefault(outcome, []).append(event)
    return [
        _park(delivery, tuple(group), outcome.cause)
        if isinstance(outcome, Park) or not topology.rung(delivery.attempt, outage=outcome.outage)
        else _retry(delivery, tuple(group), outcome, topology)
        for outcome, group in groups.items()
        if not isinstance(outcome, Done)
    ]


def _park(delivery: Delivery, events: tuple[Event, ...], cause: str) -> Republish:
    headers = headers_of(delivery, attempt=delivery.attempt, cause=cause)
    return Republish(exchange=PARKED, routing_key="", events=events, headers=headers)


def _retry(delivery: Delivery, events: tuple[Event, ...], outcome: Retry, topology: Topology) -> Republish:
    attempt = topology.attempt_after(delivery.attempt, outage=outcome.outage)
    return Republish(
        exchange=RETRY,
        routing_key=topology.rung(delivery.attempt, outage=outcome.outage),
        events=events,
        headers=headers_of(delivery, attempt=attempt, cause=outcome.cause),
    )


def headers_of(delivery: Delivery, *, attempt: int, cause: str) -> Headers:
    """The headers under which a delivery's events go on."""
    trace = {TRACE: delivery.traceparent} if delivery.traceparent else {}
    return {ATTEMPT: attempt, CAUSE: cause[:CAUSE_LENGTH], **trace}
