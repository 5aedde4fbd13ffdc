"""Work on shards side by side, and none waits for one that is far behind: its own goes on aside."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Any

from mesh.amqp import Done, Later, Outcome, Received, Retry
from mesh.batching import Batcher
from mesh.errors import ResourceExhausted

PATIENCE = 0.5
"""Seconds that all work may take together before each shard's goes on by itself."""

GRACE = 0.2
"""Seconds that others may take longer than twice the first."""

WAITING = 128
"""Events that wait in a lane that is behind; more of them climb the ladder at once, out of the prefetch."""


async def in_step(work: Collection[asyncio.Task[Any]]) -> None:
    """Returns when all of it is done; sooner where some is far behind the rest, or nothing gets on."""
    if not work:
        return
    began = asyncio.get_running_loop().time()
    done, others = await asyncio.wait(work, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    if done and others:
        first = asyncio.get_running_loop().time() - began
        await asyncio.wait(others, timeout=first + GRACE)


class Lanes:
    """What is behind, by lane. Events of a lane that is behind gather there, for one call at a time.

    A lane stays behind for as long as nothing in it comes to an end: trying it must hold up nobody else.

    Args:
        handle: takes effect of events of one lane: one outcome an event, in order.
    """

    def __init__(self, handle: Callable[[Sequence[Received]], Awaitable[Sequence[Outcome]]]) -> None:
        self._handle = handle
        self._under_way = Counter[int]()
        self._away: set[int] = set()
        self._lanes: dict[int, Batcher[Received, Outcome]] = {}

    def is_behind(self, lane: int) -> bool:
        """Whether work in the lane goes on aside."""
        return self._under_way[lane] > 0 or lane in self._away

    def aside(self, lane: int, work: Awaitable[Sequence[Outcome]], count: int) -> list[Later]:
        """Waits aside for the outcomes of so many events of a lane."""
        whole = asyncio.ensure_future(work)
        return [self._follow(lane, _one_of(whole, index)) for index in range(count)]

    def join(self, lane: int, received: Sequence[Received]) -> list[Later]:
        """Has events wait for their turn in a lane that is behind."""
        turns = self._lanes.setdefault(lane, Batcher(self._handle, name="behind", max_pending=WAITING))
        return [self._follow(lane, _turn(turns, one)) for one in received]

    def _follow(self, lane: int, outcome: Coroutine[Any, Any, Outcome]) -> Later:
        later = asyncio.create_task(outcome)
        self._under_way[lane] += 1
        later.add_done_callback(partial(self._ended, lane))
        return later

    def _ended(self, lane: int, later: Later) -> None:
        self._under_way[lane] -= 1
        if later.cancelled() or later.exception():
            return
        match later.result():
            case Done():
                self._away.discard(lane)
            case Retry(outage=True):
                self._away.add(lane)


async def _one_of(whole: "asyncio.Future[Sequence[Outcome]]", index: int) -> Outcome:
    return (await asyncio.shield(whole))[index]


async def _turn(turns: Batcher[Received, Outcome], one: Received) -> Outcome:
    try:
        return await turns.submit(one)
    except ResourceExhausted:
        return Retry("Too much waits for a shard that is behind.", outage=True)
