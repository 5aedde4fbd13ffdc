"""Exchanges, queues and the retry ladder, as data, and their declaration. Why: docs/adr/0004-queues.md.

messages ──► messages ──(TTL: the antispam window)──┐
                 └─► antispam ──────────────────────┴─► checked ──► checked ──► dbstore
                                                           ▲                      │
                              retry.1s  retry.10s  retry.60s ◄────── retry ◄──────┤
                                                         parked ◄─── parked ◄─────┤
                 antispam ◄── late ◄── (late.pause) ◄──── late ◄─── unchecked ◄───┘
"""

from dataclasses import dataclass

from aio_pika.abc import AbstractChannel

MESSAGES = "messages"
"""Direct exchange and queue of messages that antispam has not seen yet."""
CHECKED = "checked"
"""Fanout exchange and queue of what dbstore carries over to the receiver."""
RETRY = "retry"
"""Direct exchange before the ladder; its routing keys are the rungs."""
LATE = "late"
"""Direct exchange and queue of messages that passed unchecked; by the key `PAUSE` they wait there first."""
PAUSE = "pause"
PARKED = "parked"
"""Fanout exchange and queue of what only an operator can help."""

DELIVERY_LIMIT = 20
"""Deliveries of one message that kills its consumers, before the broker itself parks it."""

Arguments = dict[str, str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A durable quorum queue and its one binding."""

    name: str
    exchange: str
    routing_key: str
    arguments: Arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Names and numbers of the queues. All processes on one broker must agree on them.

    Attributes:
        prefix: put before every name, so that several systems share a broker.
        late_pause: seconds after which a message that passed unchecked, and that antispam still has no answer
            for, is judged again.
        window: seconds that a message waits for antispam before it goes on without a verdict.
        ladder: seconds of pause before each further attempt; the last one repeats.
        max_attempts: attempts until an event is parked.
        max_length: bodies a queue holds; beyond it the broker refuses, and publishers raise Unavailable.
    """

    prefix: str = ""
    window: float = 2.0
    late_pause: float = 10.0
    ladder: tuple[float, ...] = (1, 10, 60)
    max_attempts: int = 10
    max_length: int = 1_000_000

    def name(self, base: str) -> str:
        """The broker's name for an exchange or a queue."""
        return self.prefix + base

    def rung(self, attempt: int, *, outage: bool = False) -> str:
        """Routing key of the rung after the given attempt (1, 2 …) failed; "" when it was the last.

        In an outage there is no last one.
        """
        if attempt >= self.max_attempts and not outage:
            return ""
        return _key(self.ladder[min(attempt, len(self.ladder)) - 1])

    def attempt_after(self, attempt: int, *, outage: bool = False) -> int:
        """The number of the next attempt; an outage uses up none beyond those that lead to the top rung."""
        return max(attempt, min(attempt + 1, len(self.ladder))) if outage else attempt + 1

    def exchanges(self) -> dict[str, str]:
        """Exchange names and their types."""
        kinds = {MESSAGES: "direct", CHECKED: "fanout", RETRY: "direct", LATE: "direct", PARKED: "fanout"}
        return {self.name(base): kind for base, kind in kinds.items()}

    def queues(self) -> list[Queue]:
        """Every queue with its binding."""
        rungs = [
            self._queue(f"{RETRY}.{_key(pause)}", RETRY, _key(pause), dead_letters=CHECKED, ttl=pause)
            for pause in self.ladder
        ]
        return [
            self._queue(MESSAGES, MESSAGES, "", dead_letters=CHECKED, ttl=self.window),
            self._queue(CHECKED, CHECKED, "", dead_letters=PARKED),
            *rungs,
            self._queue(LATE, LATE, "", dead_letters=PARKED),
            self._queue(
                f"{LATE}.{PAUSE}", LATE, PAUSE, dead_letters=LATE, dead_letter_key="", ttl=self.late_pause
            ),
            self._queue(PARKED, PARKED, ""),
        ]

    def _queue(
        self,
        base: str,
        exchange: str,
        key: str,
        *,
        dead_letters: str = "",
        dead_letter_key: str | None = None,
        ttl: float = 0,
    ) -> Queue:
        arguments: Arguments = {
            "x-queue-type": "quorum",
            "x-max-length": self.max_length,
            "x-overflow": "reject-publish",
        }
        if dead_letters:
            arguments |= {
                "x-dead-letter-exchange": self.name(dead_letters),
                "x-dead-letter-strategy": "at-least-once",
                "x-delivery-limit": DELIVERY_LIMIT,
            }
        if dead_letter_key is not None:
            arguments["x-dead-letter-routing-key"] = dead_letter_key
        if ttl:
            arguments["x-message-ttl"] = round(ttl * 1000)
        return Queue(name=self.name(base), exchange=self.name(exchange), routing_key=key, arguments=arguments)


def _key(pause: float) -> str:
    return f"{pause:g}s"


async def declare(channel: AbstractChannel, topology: Topology) -> None:
    """Declares everything that is not there yet.

    Raises:
        aio_pika.exceptions.ChannelPreconditionFailed: a queue of that name is there with other arguments.
    """
    exchanges = {
        name: await channel.declare_exchange(name, kind, durable=True)
        for name, kind in topology.exchanges().items()
    }
    for spec in topology.queues():
        queue = await channel.declare_queue(spec.name, durable=True, arguments=dict(spec.arguments))
        await queue.bind(exchanges[spec.exchange], spec.routing_key)
