"""Parts that an answer can do without: each has a share of the time, and rest while it keeps failing.

CLOSED ──── failures in a row ────► OPEN for a pause ────► HALF_OPEN: one call tries
   ▲                                  ▲                       │  │
   │                                  └─ no: twice the pause ─┘  │
   └──────────────────────── it answers ─────────────────────────┘

Why this and no library: docs/adr/0008-breaker.md.
"""

import asyncio
import contextlib
import enum
import time
from collections.abc import AsyncIterator, Callable

import structlog

from mesh import call, metrics
from mesh.channel import MARGIN
from mesh.errors import DeadlineExceeded, Internal, MessengerError, Unavailable

log = structlog.get_logger()

STATE = metrics.gauge(
    "messenger_breaker_state", "0 the part is asked, 1 one call tries it, 2 it is left alone.", ("part",)
)
SPARED = metrics.counter(
    "messenger_breaker_spared", "Calls that went without a part at once, because it is left alone.", ("part",)
)

SAYS_SOMETHING = 0.5
"""The share of its share that a part must have had before its silence counts against it."""


class State(enum.IntEnum):
    """Of a breaker; the numbers are the metric's."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Breaker:
    """Tells when not to ask; pure.

    Outcomes of what was admitted before the last change of state are dropped: calls that hang together open
    it once, and do not lengthen the pause one after the other.

    Args:
        tolerance: failures in a row that open it.
        pause: seconds until one call may try; doubled each time that it fails.
        longest: seconds of the longest pause.

    Attributes:
        state: at the last `admit` or `settle`.
        pause: seconds of the last pause that began.
    """

    def __init__(self, *, tolerance: int = 3, pause: float = 1.0, longest: float = 30.0) -> None:
        self.state = State.CLOSED
        self.pause = 0.0
        self._tolerance = tolerance
        self._first_pause = pause
        self._longest = longest
        self._era = 1
        self._failures = 0
        self._trying = False
        self._until = 0.0

    def admit(self, now: float) -> int:
        """Whether to ask at this time (seconds, monotonic): a ticket for `settle`, or 0 for no."""
        if self.state is State.OPEN and now >= self._until:
            self._turn(State.HALF_OPEN)
        if self.state is State.OPEN or self._trying:
            return 0
        self._trying = self.state is State.HALF_OPEN
        return self._era

    def settle(self, ticket: int, answered: bool | None, now: float) -> None:
        """What became of it; None where that says nothing of the part."""
        if ticket != self._era:
            return
        self._trying = False
        if answered:
            self._failures = 0
            if self.state is State.HALF_OPEN:
                self.pause = 0.0
                self._turn(State.CLOSED)
        elif answered is False:
            self._failures += 1
            if self.state is State.HALF_OPEN or self._failures >= self._tolerance:
                self.pause = min(self.pause * 2 or self._first_pause, self._longest)
                self._until = now + self.pause
                self._turn(State.OPEN)

    def _turn(self, state: State) -> None:
        self.state = state
        self._era += 1
        self._failures = 0


class Part:
    """A part, here or elsewhere.

    Args:
        name: in metrics and logs.
        seconds: what one call may spend on it.
        breaker: when it is left alone.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        name: str,
        *,
        seconds: float,
        breaker: Breaker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.seconds = seconds
        self._breaker = breaker or Breaker()
        self._clock = clock
        self._state = STATE.labels(name)
        self._spared = SPARED.labels(name)

    @contextlib.asynccontextmanager
    async def asked(self) -> AsyncIterator[None]:
        """A block that asks the part, and ends when the share is spent, whatever the part does.

        Raises:
            Unavailable: it is left alone now.
            DeadlineExceeded: it did not answer within its share, or the call has nothing left for it.
        """
        share = min(self.seconds, call.time_left() - MARGIN)
        if share <= 0:
            raise DeadlineExceeded("There is no time left for another part.")
        began = self._clock()
        ticket = self._breaker.admit(began)
        self._state.set(self._breaker.state)
        if not ticket:
            self._spared.add()
            raise Unavailable(f"{self.name} is left alone for now.")
        failure: BaseException | None = None
        try:
            with call.budget(share):
                async with asyncio.timeout(share):
                    yield
        except TimeoutError:
            failure = DeadlineExceeded(f"{self.name} did not answer in time.")
            raise failure from None
        except BaseException as error:
            failure = error
            raise
        finally:
            now = self._clock()
            self._settle(ticket, failure, given=now - began, share=share, now=now)

    def _settle(
        self, ticket: int, failure: BaseException | None, *, given: float, share: float, now: float
    ) -> None:
        before = self._breaker.state
        self._breaker.settle(ticket, self._verdict(failure, given, share), now)
        state = self._breaker.state
        self._state.set(state)
        if state is State.OPEN and before is State.CLOSED:
            cause = failure.detail if isinstance(failure, MessengerError) else type(failure).__name__
            log.warning("a part is left alone", part=self.name, cause=cause)
        elif state is State.CLOSED and before is State.HALF_OPEN:
            log.info("a part is back", part=self.name)

    def _verdict(self, failure: BaseException | None, given: float, share: float) -> bool | None:
        """Whether the part answered; None where nobody can tell."""
        match failure:
            case DeadlineExceeded():
                # A caller with hardly any time left learns nothing of the part.
                return False if given >= self.seconds * SAYS_SOMETHING else None
            case asyncio.CancelledError():
                return False if given >= max(share, self.seconds * SAYS_SOMETHING) else None
            case MessengerError():
                return not isinstance(failure, Unavailable | Internal)
            case _:
                return failure is None
