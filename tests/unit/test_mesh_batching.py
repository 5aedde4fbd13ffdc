"""Adaptive batching, with a flush that waits for the test."""

import asyncio
import math
import time
from collections.abc import Sequence

import pytest

from mesh import call
from mesh.batching import MANY, Batcher, Step
from mesh.errors import DeadlineExceeded, NotFound, ResourceExhausted, Unavailable


class Flush:
    """Doubles numbers and refuses negative ones; each batch waits until the test opens the gate."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.deadlines: list[float] = []
        self.users: list[str] = []
        self.gate = asyncio.Event()
        if is_open:
            self.gate.set()

    async def __call__(self, items: Sequence[int]) -> Sequence[int | Exception]:
        """One result an item."""
        self.batches.append(list(items))
        self.deadlines.append(call.current().deadline)
        self.users.append(call.current().user_id)
        await self.gate.wait()
        return [item * 2 if item >= 0 else NotFound(f"no {item}") for item in items]


@pytest.fixture
def flush() -> Flush:
    """Closed until the test opens it."""
    return Flush()


async def submitted(batcher: Batcher[int, int], *items: int) -> list[asyncio.Task[int]]:
    """Submissions one after the other, each as far under way as it gets."""
    tasks = []
    for item in items:
        tasks.append(asyncio.create_task(batcher.submit(item)))
        for _ in range(3):  # the submission, the flush that it may start, and what that may wake
            await asyncio.sleep(0)
    return tasks


async def test_a_lone_item_waits_for_nothing() -> None:
    """With nothing in flight an item is flushed at once, alone, and no clock is asked."""
    flush = Flush(is_open=True)
    assert await Batcher(flush).submit(1) == 2
    assert flush.batches == [[1]]


async def test_a_batch_forms_while_another_is_in_flight(flush: Flush) -> None:
    """What arrives during a flush goes together with the next one, in the order of arrival."""
    batcher = Batcher(flush)
    tasks = await submitted(batcher, 1, 2, 3)
    assert flush.batches == [[1]]
    flush.gate.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6]
    assert flush.batches == [[1], [2, 3]]


async def test_a_batch_is_bounded(flush: Flush) -> None:
    """No flush takes more than max_items; the rest goes with the next ones."""
    batcher = Batcher(flush, max_items=2)
    tasks = await submitted(batcher, *range(6))
    flush.gate.set()
    await asyncio.gather(*tasks)
    assert flush.batches == [[0], [1, 2], [3, 4], [5]]


async def test_several_flushes_at_once(flush: Flush) -> None:
    """With concurrency 2 a second flush does not wait for the first."""
    tasks = await submitted(Batcher(flush, concurrency=2), 1, 2, 3)
    assert flush.batches == [[1], [2]]
    flush.gate.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6]


async def test_one_items_error_is_its_own(flush: Flush) -> None:
    """An item that is refused fails alone."""
    batcher = Batcher(flush)
    tasks = await submitted(batcher, 0, 1, -1, 2)
    flush.gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [0, 2, 4]
    assert isinstance(outcomes[2], NotFound)


async def test_a_flush_that_fails_fails_for_all_of_it() -> None:
    """What flush raises is every item's error, and the next items are flushed as if nothing had been."""

    async def broken(items: Sequence[int]) -> Sequence[int]:
        if 1 in items:
            raise Unavailable("down")
        return items

    batcher: Batcher[int, int] = Batcher(broken)
    tasks = await submitted(batcher, 1, 2)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[0], Unavailable)
    assert outcomes[1] == 2
    assert await batcher.submit(3) == 3


async def test_a_flush_that_loses_count() -> None:
    """Where flush answers another number of results, nobody hangs, and the next item is served."""

    async def forgetful(items: Sequence[int]) -> Sequence[int]:
        return items[1:] if len(items) > 1 or items[0] == 0 else items

    batcher: Batcher[int, int] = Batcher(forgetful)
    with pytest.raises(ValueError, match="argument"):
        await asyncio.wait_for(batcher.submit(0), 5)
    assert await asyncio.wait_for(batcher.submit(1), 5) == 1


async def test_an_items_deadline_is_its_own(flush: Flush) -> None:
    """An item whose call runs out of time fails alone; a flush has the latest deadline of its items."""
    batcher = Batcher(flush)
    [first] = await submitted(batcher, 1)
    soon, late = time.monotonic() + 0.02, time.monotonic() + 60
    with call.within(call.Call(deadline=soon)):
        [hasty] = await submitted(batcher, 2)
    with call.within(call.Call(deadline=late, user_id="alice")):
        [patient] = await submitted(batcher, 3)
    with pytest.raises(DeadlineExceeded):
        await hasty
    flush.gate.set()
    assert (await first, await patient) == (2, 6)
    assert flush.batches == [[1], [3]], "what has been given up is not written any more"
    assert flush.deadlines == [math.inf, late]
    assert flush.users == ["", ""], "a batch is nobody's own"


async def test_a_flush_has_the_latest_deadline(flush: Flush) -> None:
    """A batch of items with different deadlines may take as long as the most patient one's."""
    batcher = Batcher(flush)
    tasks = await submitted(batcher, 0)
    deadlines = [time.monotonic() + seconds for seconds in (30, 90, 60)]
    for deadline in deadlines:
        with call.within(call.Call(deadline=deadline)):
            tasks += await submitted(batcher, 1)
    flush.gate.set()
    await asyncio.gather(*tasks)
    assert flush.deadlines == [math.inf, max(deadlines)]


async def test_a_submitter_that_gives_up(flush: Flush) -> None:
    """A cancelled submitter disturbs neither its batch nor the next one."""
    batcher = Batcher(flush)
    tasks = await submitted(batcher, 1, 2, 3)
    tasks[0].cancel()
    tasks[1].cancel()
    await asyncio.sleep(0)
    flush.gate.set()
    assert await tasks[2] == 6
    assert tasks[0].cancelled()
    assert tasks[1].cancelled()
    assert flush.batches == [[1], [3]]


async def test_too_much_waits(flush: Flush) -> None:
    """Beyond max_pending an item is refused at once, retryably; those that wait are served."""
    batcher = Batcher(flush, max_pending=2)
    tasks = await submitted(batcher, 1, 2, 3)
    with pytest.raises(ResourceExhausted) as refused:
        await batcher.submit(4)
    assert refused.value.retry_after_ms
    flush.gate.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6]


async def test_items_handed_in_together_keep_their_own_results(flush: Flush) -> None:
    """Each has its result or its error, in order; they share a flush with what else waits."""
    batcher = Batcher(flush)
    [first] = await submitted(batcher, 1)
    together = asyncio.create_task(batcher.submit_all([2, -3, 4]))
    await asyncio.sleep(0)
    flush.gate.set()
    results = await together
    assert (results[0], results[2]) == (4, 8)
    assert isinstance(results[1], NotFound)
    assert await first == 2
    assert flush.batches == [[1], [2, -3, 4]]


async def test_items_handed_in_together_end_at_the_deadline(flush: Flush) -> None:
    """What is not written by then is reported so, item by item; what finds no room is refused at once."""
    batcher = Batcher(flush, max_pending=2)
    with call.budget(0.05):
        results = await batcher.submit_all([1, 2, 3])
    assert [type(result) for result in results] == [DeadlineExceeded, DeadlineExceeded, ResourceExhausted]
    flush.gate.set()


class Beside:
    """Batches in step, each under way until the test ends it."""

    def __init__(self) -> None:
        self._step = Step()

    def begin(self, items: int) -> tuple[asyncio.Task[str], "asyncio.Future[str]"]:
        """A batch of so many items, and what ends it."""
        work: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return asyncio.create_task(self._step.run(work, items)), work

    async def one_waits(self) -> tuple[asyncio.Task[str], asyncio.Task[str], "asyncio.Future[str]"]:
        """One that is done and waits for another, the other, and what ends that."""
        (task, work), (other, end) = self.begin(1), self.begin(MANY)
        await turns()
        work.set_result("stored")
        await turns()
        assert not task.done()
        return task, other, end


async def turns(count: int = 10) -> None:
    """Lets everything go on that waits for no clock."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_batches_that_began_together_go_on_together() -> None:
    """Under load the first to end waits for the others, and all go on in the same turn of the loop."""
    beside = Beside()
    batches = [beside.begin(MANY) for _ in range(3)]
    await turns()
    for _, work in batches[:2]:
        work.set_result("stored")
        await turns()
    assert not any(task.done() for task, _ in batches)
    batches[2][1].set_result("stored")
    while not any(task.done() for task, _ in batches):  # noqa: ASYNC110  # turns are what counts
        await asyncio.sleep(0)
    assert all(task.done() for task, _ in batches)


async def test_few_are_not_waited_for() -> None:
    """Without load a batch goes on when it ends, whatever is under way beside it."""
    beside = Beside()
    (task, work), (other, others_work) = beside.begin(MANY), beside.begin(MANY - 1)
    await turns()
    work.set_result("stored")
    await turns()
    assert task.done()
    assert not other.done()
    others_work.set_result("stored")
    await other


async def test_who_is_far_behind_is_waited_for_once() -> None:
    """A batch that hangs costs those beside it one short wait, and their next batches none."""
    beside = Beside()
    task, hanging, end = await beside.one_waits()
    assert await asyncio.wait_for(task, 5) == "stored"
    again, work = beside.begin(1)
    await turns()
    work.set_result("stored")
    await turns()
    assert again.done(), "no clock was asked"
    assert not hanging.done()
    end.set_result("stored")
    await hanging


async def test_what_fails_in_step_fails_alone() -> None:
    """A batch that fails holds up nobody who waits for it, and its error is its own."""
    task, failing, end = await Beside().one_waits()
    end.set_exception(Unavailable("down"))
    await turns()
    assert task.result() == "stored"
    assert isinstance(failing.exception(), Unavailable)


async def test_who_gives_up_in_step_is_not_waited_for() -> None:
    """A batch that is cancelled lets those go on that wait for it."""
    task, leaving, _ = await Beside().one_waits()
    leaving.cancel()
    await turns()
    assert task.result() == "stored"
    assert leaving.cancelled()
