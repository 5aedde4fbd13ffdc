"""The calling side: looks like a `grpc.aio.Channel` to whoever makes unary calls."""

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
from grpc.aio import Metadata

from mesh.shared import frames

STREAMS = 2
"""Streams of one channel. Each stays with one process of the other side, so that two share the load: by
turns, but for calls that are made while a frame is about to be written."""

ATTEMPTS = 3
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5
"""Retries of UNAVAILABLE, as the service config has them for plain calls."""

THROTTLE, REFUND = 50.0, 0.1
"""Failures that may be retried until successes, at a tenth each, make up for them; half is kept."""

PLAIN_SECONDS = 60.0
"""How long a method that is not served on streams is called plainly, before that is tried again."""

LONGEST = 3600.0

Serialize = Callable[[Any], bytes] | None
Deserialize = Callable[[bytes], Any] | None
Pairs = Sequence[tuple[str, str]]


class SharedChannel:
    """Makes unary calls on shared streams of a channel.

    Args:
        channel: opened and closed by its owner; its service config balances and checks streams like calls.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._streams: list[_Stream | None] = [None] * STREAMS
        self._turn = 0
        self._tokens = THROTTLE

    def leave(self) -> None:
        """Ends each stream when the calls under way on it are answered."""
        for stream in filter(None, self._streams):
            stream.leave()

    def cancel(self) -> None:
        """Ends the streams; calls under way fail as cancelled."""
        for stream in filter(None, self._streams):
            stream.cancel()

    def unary_unary(
        self,
        method: str,
        request_serializer: Serialize = None,
        response_deserializer: Deserialize = None,
        _registered_method: bool | None = None,  # generated stubs pass it
    ) -> Callable[..., Awaitable[Any]]:
        """As of `grpc.aio.Channel`: a function of request, `timeout` and `metadata`; raises AioRpcError."""
        plain = self._channel.unary_unary(method, request_serializer, response_deserializer)
        plain_until = 0.0

        async def invoke(request: Any, *, timeout: float | None = None, metadata: Pairs = ()) -> Any:
            nonlocal plain_until
            if time.monotonic() < plain_until:
                return await plain(request, timeout=timeout, metadata=metadata)
            payload = request_serializer(request) if request_serializer else request
            until = time.monotonic() + (LONGEST if timeout is None else timeout)
            try:
                answer = await self._ask(method, payload, until, list(metadata))
            except _UnknownError as error:
                plain_until = time.monotonic() + error.seconds
                left = max(until - time.monotonic(), 0.0)
                return await plain(request, timeout=left, metadata=metadata)
            return response_deserializer(answer) if response_deserializer else answer

        return invoke

    async def _ask(self, method: str, payload: bytes, until: float, metadata: list[tuple[str, str]]) -> bytes:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = await self._stream().ask(method, payload, until, metadata)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                pause = random.random() * min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE)  # noqa: S311
                self._tokens = max(self._tokens - 1, 0.0)
                if attempt == ATTEMPTS or self._tokens <= THROTTLE / 2 or time.monotonic() + pause >= until:
                    raise
                await asyncio.sleep(pause)
            else:
                self._tokens = min(self._tokens + REFUND, THROTTLE)
                return answer
        raise AssertionError("the last attempt returns or raises")

    def _stream(self) -> "_Stream":
        stream = self._streams[self._turn]
        if stream and stream.takes and stream.gathers:
            return stream
        self._turn = (self._turn + 1) % STREAMS
        stream = self._streams[self._turn]
        if stream is None or not stream.takes:
            stream = self._streams[self._turn] = _Stream(self._channel)
        return stream


class _UnknownError(Exception):
    """The server does not know the stream, or does not serve the method on it; or that may be so.

    Attributes:
        seconds: how long the method is to be called plainly.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


class _Stream:
    """One stream.

    Attributes:
        takes: calls may be made on it.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.takes = True
        self._closed = False
        self._call = channel.stream_stream(frames.METHOD)()
        self._heard = 0.0
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._asks: list[frames.Ask] = []
        self._dropped: list[int] = []
        self._woken = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._reader = loop.create_task(self._read())
        self._writer = loop.create_task(self._write())

    @property
    def gathers(self) -> bool:
        """Whether a frame is about to be written, in which one call more costs next to nothing."""
        return bool(self._asks)

    def leave(self) -> None:
        self.takes = False
        self._leave_when_empty()

    def cancel(self) -> None:
        self._closed = True
        self._call.cancel()

    async def ask(self, method: str, payload: bytes, until: float, metadata: list[tuple[str, str]]) -> bytes:
        number, began = next(self._numbers), time.monotonic()
        seconds = until - began
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        self._waiting[number] = answer
        self._asks.append(
            frames.Ask(number=number, method=method, payload=payload, seconds=seconds, metadata=metadata)
        )
        self._woken.set()
        timer = loop.call_later(seconds, self._expire, number, began)
        try:
            return await answer
        except asyncio.CancelledError:
            self._drop(number)
            raise
        finally:
            timer.cancel()
            self._waiting.pop(number, None)
            self._leave_when_empty()

    def _expire(self, number: int, began: float) -> None:
        self._drop(number)
        if self._heard < began:
            self.leave()  # its process may hang, and the next stream may find another
        answer = self._waiting.get(number)
        if answer is not None and not answer.done():
            answer.set_exception(_error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))

    def _drop(self, number: int) -> None:
        self._dropped.append(number)
        self._woken.set()

    def _leave_when_empty(self) -> None:
        if not self.takes and not self._waiting:
            self._woken.set()

    async def _write(self) -> None:
        try:
            while self.takes or self._waiting:
                await self._woken.wait()
                self._woken.clear()
                while self._asks or self._dropped:
                    if frames.waits(len(self._asks), len(self._waiting)):
                        await asyncio.sleep(frames.LINGER)
                    dropped, self._dropped = self._dropped, []
                    await self._call.write(
                        frames.encode(frames.Asks(asks=frames.take(self._asks), dropped=dropped))
                    )
            await self._call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            return  # the reader tells everybody

    async def _read(self) -> None:
        try:
            while (data := await self._call.read()) is not grpc.aio.EOF:
                self._take(frames.decode_answers(data))
            self._end(await self._call.code(), await self._call.details())
        except grpc.aio.AioRpcError as error:
            self._end(error.code(), error.details() or "")
        except asyncio.CancelledError:
            self._end(grpc.StatusCode.CANCELLED, "")

    def _take(self, frame: frames.Answers) -> None:
        self._heard = time.monotonic()
        for one in frame.answers:
            answer = self._waiting.get(one.number)
            if answer is None or answer.done():
                continue
            if one.code == frames.NOT_SHARED:
                answer.set_exception(_UnknownError(PLAIN_SECONDS))
            elif one.code:
                answer.set_exception(_error(_STATUS[one.code], one.detail, one.trailers))
            else:
                answer.set_result(one.payload)
        if frame.leaving:
            self.leave()

    def _end(self, code: grpc.StatusCode, detail: str) -> None:
        self.takes = False
        self._writer.cancel()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(self._failure(code, detail))

    def _failure(self, code: grpc.StatusCode, detail: str) -> Exception:
        if self._closed:
            return _error(grpc.StatusCode.CANCELLED, "The channel was closed.")
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return _UnknownError(PLAIN_SECONDS)
        if code is grpc.StatusCode.INTERNAL and not self._heard:
            # gRPC puts it over the true status where a write found the stream ended. A plain call, this once,
            # is told why.
            return _UnknownError(0.0)
        # Whatever ended the stream, each call on it may go again.
        return _error(grpc.StatusCode.UNAVAILABLE, detail or "The stream ended.")


_STATUS = {status.value[0]: status for status in grpc.StatusCode}


def _error(code: grpc.StatusCode, detail: str, trailers: Sequence[tuple[str, bytes]] = ()) -> Exception:
    error: Exception = grpc.aio.AioRpcError(code, Metadata(), Metadata(*trailers), details=detail)
    return error
