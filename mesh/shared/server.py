"""The called side: a stream handler that hands calls to the handlers of plain ones, each in its own task."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NoReturn

import grpc
import structlog

from mesh.shared import frames

log = structlog.get_logger()

LIFETIME = 60.0
"""Seconds, and up to half as many more, after which a stream's calls move to a new one: it may find a process
that the old one did not know, and is never cut off by the connection's greatest age."""

MAX_CALLS = 4_096
"""Calls of one stream under way at once; beyond it they are refused."""


class Sharing:
    """All shared streams of a server.

    Its handlers are those of plain calls, and see the same of their context: deadline, metadata, peer, abort.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, grpc.RpcMethodHandler] = {}
        self._streams: set[_Stream] = set()

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Left to `add_registered_method_handlers`, which generated code calls with the same handlers."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler]
    ) -> None:
        """Takes calls of a service's unary methods; generated code calls it as it does a server's."""
        self._handlers |= {f"/{service}/{name}": handler for name, handler in handlers.items()}

    @property
    def handler(self) -> grpc.GenericRpcHandler:
        """What the server needs, by `add_generic_rpc_handlers`."""
        name = frames.METHOD.rpartition("/")[2]
        return grpc.method_handlers_generic_handler(
            frames.SERVICE, {name: grpc.stream_stream_rpc_method_handler(self._share)}
        )

    def leave(self) -> None:
        """Sends all callers away; what they have sent is answered still."""
        for stream in self._streams:
            stream.leave()

    async def _share(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> None:
        stream = _Stream(self._handlers, context)
        self._streams.add(stream)
        try:
            await stream.run(requests)
        finally:
            self._streams.discard(stream)


class _Stream:
    def __init__(
        self, handlers: Mapping[str, grpc.RpcMethodHandler], context: grpc.aio.ServicerContext
    ) -> None:
        self._handlers = handlers
        self._context = context
        self._identity = context.auth_context()  # of the connection, which outlives the stream
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._answers: list[frames.Answer] = []
        self._leaving = self._done = False
        self._woken = asyncio.Event()

    async def run(self, requests: AsyncIterator[bytes]) -> None:
        loop = asyncio.get_running_loop()
        writer = loop.create_task(self._write())
        age = loop.call_later(LIFETIME * random.uniform(1, 1.5), self.leave)  # noqa: S311  # spreads load
        try:
            async for data in requests:
                self._take(frames.decode_asks(data))
            # The caller sends no more, because it was told to leave: all is answered by now. But an answer
            # may still be on its way out, and the stream cannot end in the middle of a write.
            self._done = True
            self._woken.set()
            await writer
        finally:
            age.cancel()
            for task in (writer, *self._tasks.values()):
                task.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    def leave(self) -> None:
        self._leaving = True
        self._woken.set()

    def _take(self, frame: frames.Asks) -> None:
        loop = asyncio.get_running_loop()
        for ask in frame.asks:
            if ask.method not in self._handlers:
                self._answers.append(frames.Answer(ask.number, b"", frames.NOT_SHARED))
                self._woken.set()
                continue
            if len(self._tasks) >= MAX_CALLS:
                self._answer(ask.number, grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many calls on one stream.")
                continue
            self._tasks[ask.number] = loop.create_task(self._work(ask))
        for number in frame.dropped:
            if task := self._tasks.get(number):
                task.cancel()

    async def _work(self, ask: frames.Ask) -> None:
        try:
            async with asyncio.timeout(ask.seconds):
                self._answers.append(frames.Answer(ask.number, await self._call(ask)))
        except _AbortedError as aborted:
            self._answer(ask.number, aborted.code, aborted.detail, aborted.trailers)
        except TimeoutError:
            self._answer(ask.number, grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        except Exception:
            log.exception("a shared call failed outside of its handler", method=ask.method)
            self._answer(ask.number, grpc.StatusCode.INTERNAL, "Something went wrong here.")
        finally:
            del self._tasks[ask.number]
            self._woken.set()

    async def _call(self, ask: frames.Ask) -> bytes:
        handler = self._handlers[ask.method]
        request = handler.request_deserializer(ask.payload)
        response = await handler.unary_unary(request, _Context(ask, self._context, self._identity))
        payload: bytes = handler.response_serializer(response)
        return payload

    def _answer(
        self, number: int, code: grpc.StatusCode, detail: str, trailers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        self._answers.append(frames.Answer(number, b"", code.value[0], detail, list(trailers)))
        self._woken.set()

    async def _write(self) -> None:
        told = False
        while not self._done:
            await self._woken.wait()
            self._woken.clear()
            while self._answers or (self._leaving and not told):
                told = self._leaving
                if frames.waits(len(self._answers), len(self._answers) + len(self._tasks)):
                    await asyncio.sleep(frames.LINGER)
                answers = frames.take(self._answers)
                await self._context.write(frames.encode(frames.Answers(answers=answers, leaving=told)))


class _AbortedError(Exception):
    """A handler has ended its call with a status."""

    def __init__(self, code: grpc.StatusCode, detail: str, trailers: Sequence[tuple[str, bytes]]) -> None:
        self.code, self.detail, self.trailers = code, detail, trailers


class _Context:
    """What a handler may ask of its call; of `grpc.aio.ServicerContext`, as much as the mesh uses."""

    def __init__(self, ask: frames.Ask, stream: grpc.aio.ServicerContext, identity: Any) -> None:
        self._metadata = ask.metadata
        self._until = time.monotonic() + ask.seconds
        self._stream = stream
        self._identity = identity

    def time_remaining(self) -> float:
        return self._until - time.monotonic()

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return self._metadata

    def auth_context(self) -> Any:
        return self._identity

    def peer(self) -> Any:
        return self._stream.peer()

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Sequence[tuple[str, bytes]] = ()
    ) -> NoReturn:
        raise _AbortedError(code, details, trailing_metadata)
