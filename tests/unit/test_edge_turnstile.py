"""Many devices that come at once: few side by side, in order, and the rest at times of their own."""

import asyncio

import pytest

from edge.turnstile import PER_SECOND, Pace, Turnstile
from mesh.errors import ResourceExhausted


class Crowd:
    """Devices that pass a turnstile and stay in it until they are let go."""

    def __init__(self, turnstile: Turnstile) -> None:
        self._turnstile = turnstile
        self.inside: list[int] = []
        self.come: list[int] = []
        self.go = asyncio.Semaphore(0)

    async def come_in(self, number: int) -> None:
        async with self._turnstile.turn():
            self.come.append(number)
            self.inside.append(number)
            await self.go.acquire()
            self.inside.remove(number)


async def settled() -> None:
    """Lets every task that can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_few_side_by_side_and_all_in_order() -> None:
    """No more than the places are taken at once, and who came first goes first."""
    crowd = Crowd(Turnstile(at_once=3))
    async with asyncio.TaskGroup() as group:
        for number in range(9):
            group.create_task(crowd.come_in(number))
        for gone in range(9):
            await settled()
            assert len(crowd.inside) == min(3, 9 - gone)
            crowd.go.release()
    assert crowd.come == list(range(9))


async def test_who_would_wait_too_long_is_told_when_to_come() -> None:
    """Beyond the queue each is sent away at once, with a slot of its own behind those who wait."""
    turnstile = Turnstile(at_once=1, longest=PER_SECOND, clock=lambda: 100.0)
    crowd = Crowd(turnstile)
    tasks = [asyncio.ensure_future(crowd.come_in(number)) for number in range(1 + PER_SECOND)]
    await settled()
    slots = []
    for _ in range(3):
        with pytest.raises(ResourceExhausted) as refused:
            await asyncio.wait_for(crowd.come_in(-1), 5)
        slots.append(refused.value.retry_after_ms)
    each = 1000 // PER_SECOND
    assert slots == [1000 + each, 1000 + 2 * each, 1000 + 3 * each]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    crowd.go.release()
    await crowd.come_in(-1)
    assert crowd.come[-1] == -1


async def test_who_leaves_the_queue_holds_no_place() -> None:
    """A device that gives up while it waits keeps nobody out."""
    crowd = Crowd(Turnstile(at_once=1))
    first, second, third = (asyncio.ensure_future(crowd.come_in(number)) for number in range(3))
    await settled()
    second.cancel()
    crowd.go.release()
    await first
    await settled()
    assert crowd.inside == [2]
    crowd.go.release()
    await third


async def test_a_pace_leaves_the_loop_to_others() -> None:
    """However many come at once, no turn of the loop takes more than a few of them; all come through."""
    pace, through, most = Pace(4), 0, 0

    async def come_in() -> None:
        nonlocal through
        await pace.wait()
        through += 1

    tasks = [asyncio.ensure_future(come_in()) for _ in range(50)]
    while through < 50:
        before = through
        await asyncio.sleep(0)
        most = max(most, through - before)
    assert most == 4
    await asyncio.gather(*tasks)
