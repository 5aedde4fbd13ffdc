"""Which devices of which users this edge holds, and each one's place in its user's events."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog
from opentelemetry.trace import SpanKind

from edge.attendance import Attendance
from edge.backlog import Backlog, Caught, Pushed
from edge.turnstile import Turnstile
from mesh import metrics, tracing
from mesh.errors import MessengerError, Unavailable
from mesh.feed import Deliver, Feed
from mesh.streams import Entry, EventId

log = structlog.get_logger()

DELIVERY = metrics.histogram(
    "messenger_delivery_latency",
    "From the sender's mailbox to the socket, for new messages that are pushed.",
    bounds=metrics.LONG_SECONDS,
    unit="s",
).labels()
BUS_LAG = metrics.histogram(
    "messenger_bus_lag",
    "From publishing on the bus to hearing it here; differs from the truth by the clocks' difference.",
    bounds=metrics.SECONDS,
    unit="s",
).labels()

MAX_HELD = 10_000
"""Live events that may wait for a device's catch-up; those beyond it are found missing by their numbers."""


POLL_SECONDS = 2.0
"""How often the mailbox is asked for users whose Redis node is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How a device's events begin.

    Attributes:
        last_event_id: the cursor behind which `events` and then the live ones follow.
        recovered: nothing between the device's own cursor and now is missing.
        events: the catch-up, oldest first.
    """

    last_event_id: str
    recovered: bool
    events: tuple[Pushed, ...]


class Follower:
    """One device: hears its user's events from a cursor on, each at least once, in the order of publishing.

    Args:
        user_id: whose events.
        deliver: takes events that are due now; must not block.

    Attributes:
        position: the last event that was delivered.
        missed: called where the numbers show that an event is missing; the next catch-up brings it.
    """

    # There is one for each device that is held.
    __slots__ = ("_deliver", "_filled", "_held", "missed", "position", "user_id")

    def __init__(self, user_id: str, deliver: Callable[[Sequence[Pushed]], None]) -> None:
        self.user_id = user_id
        self.position = EventId(0, 0, 0)
        self.missed: Callable[[Follower], None] = _nobody_asks
        self._deliver = deliver
        self._held: list[Pushed] | None = []
        self._filled: frozenset[str] = frozenset()

    def push(self, events: Sequence[Pushed]) -> None:
        """Takes live events; holds them back while a catch-up is under way."""
        if self._held is None:
            self._pass(events)
        else:
            self._held += events[: MAX_HELD - len(self._held)]

    def _pass(self, events: Sequence[Pushed]) -> None:
        if due := [event for event in events if self._is_due(event)]:
            self._deliver(due)

    def _is_due(self, event: Pushed) -> bool:
        if event.place is not None and not event.place.is_next_after(self.position):
            if event.place.follows(self.position):
                self.missed(self)
            return False
        self.position = event.place or self.position
        return bool(event.frame)

    def catch_up(self, events: Sequence[Pushed]) -> None:
        """Delivers a catch-up, less what the one before filled in already."""
        fresh = [event for event in events if not event.filled or event.filled not in self._filled]
        self._filled = frozenset(event.filled for event in events if event.filled)
        if fresh:
            self._deliver(fresh)

    @property
    def is_live(self) -> bool:
        """Whether live events are delivered at once."""
        return self._held is None

    def hold(self) -> None:
        """Holds live events back until `release`."""
        if self._held is None:
            self._held = []

    def release(self, position: EventId) -> None:
        """Goes live behind `position`, beginning with what was held back."""
        self.position = position
        held, self._held = self._held or [], None
        self._pass(held)


class Hub:
    """Connects followers to the bus: subscribes a user while one of its devices is here.

    Args:
        backlog: tells what a device missed.
        attendance: is told when a user's first device comes and the last one goes.
        make_feed: makes the push feed around `(deliver, resumed)`.
    """

    def __init__(
        self,
        backlog: Backlog,
        attendance: Attendance,
        make_feed: Callable[[Deliver, Callable[[Iterable[str]], None]], Feed],
    ) -> None:
        self._backlog = backlog
        self._attendance = attendance
        self._feed = make_feed(self._on_push, self._resync)
        self._followers: dict[str, set[Follower]] = {}
        self._subscriptions: dict[str, asyncio.Future[None]] = {}
        self._resyncs: set[asyncio.Task[None]] = set()
        self._late: set[Follower] = set()
        self._turnstile = Turnstile()

    async def run(self) -> None:
        """Keeps the feed up until cancelled; asks the mailbox while it is not."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed.run())
            group.create_task(self._poll())

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            late = {follower.user_id for follower in self._late}
            self._late.clear()
            self._resync(late.union(self._feed.unheard()))

    def __len__(self) -> int:
        return sum(len(followers) for followers in self._followers.values())

    async def join(self, follower: Follower, cursor: EventId | None) -> Start:
        """Begins to follow; the caller sends `events` and then calls `follower.release(position)`.

        Args:
            follower: holds live events back until it is released.
            cursor: the last event that the device has; None for a fresh one.

        Raises:
            ResourceExhausted: too many come at once.
            MessengerError: the gap could not be filled now; the follower has left again.
        """
        async with self._turnstile.turn():
            return await self._join(follower, cursor)

    async def _join(self, follower: Follower, cursor: EventId | None) -> Start:
        follower.missed = self._late.add
        if follower.user_id not in self._followers:
            self._followers[follower.user_id] = set()
            self._attendance.arrive(follower.user_id)
            self._subscriptions[follower.user_id] = asyncio.ensure_future(self._subscribe(follower.user_id))
        self._followers[follower.user_id].add(follower)
        try:
            # Also a second device must not look before its user's events are heard.
            await asyncio.shield(self._subscriptions[follower.user_id])
            caught = await self._backlog.since(follower.user_id, cursor)
        except BaseException:
            await self.leave(follower)
            raise
        follower.position = caught.position
        return _start(cursor, caught)

    async def leave(self, follower: Follower) -> None:
        """Ends following; the last device of a user ends its subscription."""
        followers = self._followers.get(follower.user_id)
        if followers is None or follower not in followers:
            return
        followers.discard(follower)
        if not followers:
            del self._followers[follower.user_id], self._subscriptions[follower.user_id]
            self._attendance.leave(follower.user_id)
            await self._feed.unsubscribe(follower.user_id)

    async def _subscribe(self, user_id: str) -> None:
        try:
            await self._feed.subscribe(user_id)
        except Unavailable:
            # The device is served without push; `_poll` and `_resync` make it whole.
            log.warning("no push for a user while its Redis node is away", user_id=user_id)

    def _on_push(self, user_id: str, pushed: Sequence[Entry] | bytes) -> None:
        followers = self._followers.get(user_id)
        if not followers:
            return
        if isinstance(pushed, bytes):
            events = [self._backlog.ephemeral(pushed)]
        else:
            events = [self._backlog.written(entry) for entry in pushed]
            BUS_LAG.record(max(time.time() - pushed[0].event_id.ms / 1000, 0.0))
        with contextlib.ExitStack() as spans:
            for event in events:
                if tracing.sampled(event.traceparent):
                    of_user = {"user.id": user_id}
                    spans.enter_context(
                        tracing.span("push", SpanKind.CONSUMER, parent=event.traceparent, **of_user)
                    )
            for follower in tuple(followers):
                follower.push(events)
        for event in events:
            if event.accepted_at:
                DELIVERY.record(max(time.time() - event.accepted_at, 0.0))

    def _resync(self, users: Iterable[str]) -> None:
        """Brings the devices of users up from their places, as if they had just connected."""
        for user_id in users:
            for follower in self._followers.get(user_id, ()):
                if not follower.is_live:
                    # It is at it, and may have looked before what it missed was there.
                    self._late.add(follower)
                    continue
                follower.hold()
                task = asyncio.get_running_loop().create_task(self._bring_up(follower))
                self._resyncs.add(task)
                task.add_done_callback(self._resyncs.discard)

    async def _bring_up(self, follower: Follower) -> None:
        position = follower.position
        try:
            caught = await self._backlog.since(follower.user_id, position)
            follower.catch_up(caught.events)
            position = caught.position
        except MessengerError as error:
            # Its place has not moved: the next try finds the gap again, and no next event need show it.
            self._late.add(follower)
            log.warning("a device could not be brought up", user_id=follower.user_id, cause=error.detail)
        finally:
            follower.release(position)


def _nobody_asks(_: Follower) -> None:
    """Before a hub has taken a follower on."""


def _start(cursor: EventId | None, caught: Caught) -> Start:
    keeps_cursor = cursor is not None and bool(caught.events)
    return Start(
        last_event_id=str(cursor if keeps_cursor else caught.position),
        recovered=caught.recovered,
        events=caught.events,
    )
