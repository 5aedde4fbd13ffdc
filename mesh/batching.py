"""Adaptive batching: what arrives while the previous flush is in flight goes with the next one.

There is no timer: a lone item waits for nothing, and under load batches form by themselves.
"""

import asyncio
import contextvars
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar, cast

from opentelemetry.trace import SpanKind

from mesh import call, metrics, tracing
from mesh.errors import DeadlineExceeded, ResourceExhausted

T = TypeVar("T")
R = TypeVar("R")

SIZE = metrics.histogram(
    "messenger_batch_size", "Items that went together.", ("batch",), bounds=metrics.SIZES
)

Flush = Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]]


MANY = 4
"""Items under way beside a batch for which it is worth waiting."""

GRACE = 0.02
"""Seconds that others may take longer than twice as long as who waits for them."""


class Step:
    """Keeps batches in step under load: those that began side by side go on together.

    What follows then gathers for all of them at once. Two shards whose batches end by turns have all that
    comes after them done in batches of half the size.
    """

    def __init__(self) -> None:
        self._under_way: dict[object, int] = {}
        self._waiting: list[asyncio.Future[None]] = []

    async def run(self, work: Awaitable[R], items: int) -> R:
        """The work's result, once what is under way beside it has ended.

        Who is far behind is not waited for, nor counted again before its end; neither are few items.

        Args:
            work: one batch.
            items: how many are in it.
        """
        loop = asyncio.get_running_loop()
        began, me = loop.time(), object()
        self._under_way[me] = items
        try:
            result = await work
        finally:
            self._under_way.pop(me, None)
            is_last = sum(self._under_way.values()) < MANY
            released = self._release() if is_last else 0
        if not is_last:
            await self._wait(loop.time() - began + GRACE)
        elif released:
            await asyncio.sleep(0)  # it goes on with those that it has released
        return result

    async def _wait(self, longest_s: float) -> None:
        released = asyncio.get_running_loop().create_future()
        self._waiting.append(released)
        try:
            async with asyncio.timeout(longest_s):
                await released
        except TimeoutError:
            self._under_way.clear()
            self._release()

    def _release(self) -> int:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)
        return len(waiting)


class Batcher(Generic[T, R]):
    """Gathers concurrent submissions into calls of `flush`.

    Each item keeps its own result, error and deadline: `flush` answers one result or exception an item, in
    order; an exception that it raises is every item's. A submitter that gives up does not disturb the others.
    A flush runs under the latest of its items' deadlines. Items are flushed in the order of submission.

    Args:
        flush: does the work of a batch.
        name: in traces and metrics.
        max_items: items a flush, at most.
        max_pending: items that may wait; beyond it `submit` raises ResourceExhausted.
        concurrency: flushes that may be in flight at once; 1 keeps the order of effects.
    """

    def __init__(
        self,
        flush: Flush[T, R],
        *,
        name: str = "other",
        max_items: int = 256,
        max_pending: int = 10_000,
        concurrency: int = 1,
    ) -> None:
        self._flush = flush
        self._name = name
        self._size = SIZE.labels(name)
        self._max_items = max_items
        self._max_pending = max_pending
        self._concurrency = concurrency
        self._pending: list[tuple[T, call.Call, asyncio.Future[R]]] = []
        self._flushing: set[asyncio.Task[None]] = set()

    async def submit(self, item: T) -> R:
        """Hands one item in and waits for its result.

        Raises:
            ResourceExhausted: too many items wait already.
            DeadlineExceeded: the current call's deadline passed first; the effect is not known.
            Exception: what `flush` gave for this item.
        """
        future = self._put(item)
        left = call.time_left()
        try:
            async with asyncio.timeout(None if math.isinf(left) else left):
                return await future
        except TimeoutError:
            raise _too_late() from None

    async def submit_all(self, items: Sequence[T]) -> list[R | Exception]:
        """Hands items in together: per item, in order, its result or what `submit` would have raised."""
        room = max(self._max_pending - len(self._pending), 0)
        futures = [self._put(item) for item in items[:room]]
        left = call.time_left()
        try:
            if futures:
                await asyncio.wait(futures, timeout=None if math.isinf(left) else max(left, 0.0))
        finally:
            for future in futures:
                future.cancel()  # changes nothing about those that are done
        return [*map(_outcome, futures), *(_too_much() for _ in items[room:])]

    def _put(self, item: T) -> "asyncio.Future[R]":
        if len(self._pending) >= self._max_pending:
            raise _too_much()
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._pending.append((item, call.current(), future))
        if len(self._flushing) < self._concurrency:
            self._start()
        return future

    def _start(self) -> None:
        # An empty context: a batch belongs to no single caller, so it inherits nobody's user or deadline.
        task = asyncio.get_running_loop().create_task(self._run(), context=contextvars.Context())
        self._flushing.add(task)

    async def _run(self) -> None:
        try:
            while batch := self._take():
                await self._settle(batch)
        finally:
            current = asyncio.current_task()
            assert current is not None  # noqa: S101  # we are a task
            self._flushing.discard(current)

    def _take(self) -> list[tuple[T, call.Call, asyncio.Future[R]]]:
        batch, self._pending = self._pending[: self._max_items], self._pending[self._max_items :]
        return batch

    async def _settle(self, batch: list[tuple[T, call.Call, asyncio.Future[R]]]) -> None:
        live = [entry for entry in batch if not entry[2].done()]
        if not live:
            return
        self._size.record(len(live))
        futures = [future for _, _, future in live]
        try:
            with tracing.batch(
                f"batch {self._name}", SpanKind.INTERNAL, [c.traceparent for _, c, _ in live]
            ) as span:
                deadline = max(one.deadline for _, one, _ in live)
                call.enter(call.Call(deadline=deadline, traceparent=span.traceparent))
                settled = list(zip(futures, await self._flush([item for item, _, _ in live]), strict=True))
        except Exception as error:  # whatever it is, it is every submitter's to handle
            settled = [(future, error) for future in futures]
        for future, result in settled:
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)


def _outcome(future: "asyncio.Future[R]") -> R | Exception:
    if future.cancelled():
        return _too_late()
    error = future.exception()
    return future.result() if error is None else cast(Exception, error)  # a flush gives nothing else


def _too_much() -> ResourceExhausted:
    return ResourceExhausted("Too much is waiting to be written.", reason="OVERLOADED", retry_after_ms=200)


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("The call ran out of time while its batch was written.")
