"""What becomes of a delivery once its events are handled: acknowledged, held, or handed back."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from mesh.amqp.wire import Incoming
from mesh.errors import Unavailable

log = structlog.get_logger()

Step = Callable[[], Awaitable[None]]
"""Publishes something that must stand elsewhere before the delivery may be acknowledged."""

HOLD_PAUSE = 1.0
"""Seconds until a delivery whose events nothing took is tried again."""


class Settler:
    """Settles the deliveries of one queue. What is held has its bound in the consumer's prefetch.

    Args:
        queue: its name, for the log.
    """

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._held: set[asyncio.Task[None]] = set()

    async def settle(self, message: Incoming, steps: deque[Step]) -> None:
        """Takes the steps and acknowledges; where nothing takes what they publish, later."""
        if not await self._taken(message, steps):
            task = asyncio.create_task(self._hold(message, steps))
            self._held.add(task)
            task.add_done_callback(self._held.discard)

    def let_go(self) -> None:
        """Forgets what is held: its connection is gone, or is about to; the broker takes it back."""
        for task in self._held:
            task.cancel()

    async def _hold(self, message: Incoming, steps: deque[Step]) -> None:
        # Handed back it would come again at once, each time a step towards its delivery limit: an outage must
        # not park it.
        while True:
            await asyncio.sleep(HOLD_PAUSE)
            if await self._taken(message, steps):
                return

    async def _taken(self, message: Incoming, steps: deque[Step]) -> bool:
        try:
            while steps:
                await steps[0]()
                steps.popleft()
        except Unavailable:
            return False
        except Exception:  # whatever it was, the delivery must not be acknowledged
            log.exception("events could not be passed on", queue=self._queue)
            await asyncio.sleep(HOLD_PAUSE)
            # Reject, not nack: it counts towards the delivery limit, at which the broker parks the body.
            answer(message.reject)
        else:
            answer(message.ack)
        return True


def answer(settle: Callable[[], None]) -> None:
    """Settles a delivery; without its connection there is nothing to settle: the broker has it back."""
    with contextlib.suppress(Unavailable):
        settle()
