"""Carries out client calls: limits, order, deadline, transcoding, the gRPC call, and every error's answer.

Knows no transport: ws and http hand in text and a Caller, and get text back.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import structlog
from google.protobuf.message import Message

from edge import jsonrpc
from edge.admission import Admission
from edge.fallback import Fallback
from edge.faults import data_of, describe
from edge.lanes import Lanes
from edge.table import Method
from mesh import call, metrics, tracing
from mesh.channel import Channel
from mesh.errors import (
    DeadlineExceeded,
    Internal,
    MessengerError,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from mesh.server import check
from mesh.streams import EventId
from messenger.edge.v1 import session_pb2

log = structlog.get_logger()


CALLS = metrics.histogram(
    "messenger_edge_call_duration",
    "Client calls, from the parsed frame to the answer's text.",
    ("method", "code"),
    bounds=metrics.SECONDS,
    unit="s",
)
REFUSED = metrics.counter(
    "messenger_edge_refused", "Client calls that were throttled or shed.", ("method", "reason")
)
DEGRADED = metrics.counter(
    "messenger_edge_degraded", "Answers that went without a part, by what is missing.", ("method", "part")
)


class Caller(Protocol):
    """The client on whose behalf a call runs."""

    @property
    def user_id(self) -> str:
        """Its user; raises Unauthenticated while it has none."""

    @property
    def lanes(self) -> Lanes:
        """The order of its calls."""

    async def connect(self, token: str, cursor: EventId | None) -> session_pb2.ConnectResponse:
        """Authenticates, and begins notifications after the cursor."""

    async def refresh(self, token: str) -> session_pb2.RefreshResponse:
        """Takes a younger token."""


LocalCall = Callable[[Any, Caller], Awaitable[Message | msgspec.Raw]]
"""A method that the edge answers itself: `(request, caller) -> response`, or its JSON."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What goes back for one frame or body.

    Attributes:
        text: the response; empty where nothing is to be answered.
        is_batch: it is an array.
        errors: the errors in it, for transports that have a status of their own.
    """

    text: bytes
    is_batch: bool
    errors: tuple[MessengerError, ...]


Part = jsonrpc.Call | jsonrpc.Malformed
Outcome = tuple[bytes, MessengerError | None]
"""The response to one part, and the error in it."""


class Taken(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A frame or body that was read.

    Attributes:
        is_batch: the answer is an array.
        parts: what it holds, with the outcome of what needs no work.
    """

    is_batch: bool
    parts: tuple[tuple[Part, Outcome | None], ...]

    @property
    def answer(self) -> Answer | None:
        """The answer, where nothing is left to be done for it."""
        outcomes = [outcome for _, outcome in self.parts if outcome is not None]
        return _join(outcomes, is_batch=self.is_batch) if len(outcomes) == len(self.parts) else None


def _join(outcomes: Sequence[Outcome], *, is_batch: bool) -> Answer:
    return Answer(
        text=jsonrpc.join([response for response, _ in outcomes if response], is_batch=is_batch),
        is_batch=is_batch,
        errors=tuple(error for _, error in outcomes if error is not None),
    )


class Calls:
    """Every method that clients can call.

    Args:
        methods: the table, by JSON-RPC name.
        channels: gRPC channel a service's full name.
        local: what the edge answers itself, by JSON-RPC name.
        fallbacks: other ways to answer while a method's service is away, by JSON-RPC name.
        admission: the limiters.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        *,
        channels: Mapping[str, Channel],
        local: Mapping[str, LocalCall],
        fallbacks: Mapping[str, Fallback],
        admission: Admission,
    ) -> None:
        self._methods = methods
        self._fallbacks = fallbacks
        self._admission = admission
        self._local = local
        self._remote = {
            method.name: channels[method.service].unary_unary(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
            for method in methods.values()
            if method.name not in local
        }

    def take(self, text: bytes) -> Taken:
        """Reads a frame or body, and turns away what is shed: all that can be done at once and cheaply."""
        parsed = jsonrpc.parse(text)
        return Taken(
            is_batch=parsed.is_batch, parts=tuple((part, self._at_once(part)) for part in parsed.parts)
        )

    def _at_once(self, part: Part) -> Outcome | None:
        if isinstance(part, jsonrpc.Malformed):
            trace_id = call.trace_id(call.new_traceparent())
            return jsonrpc.error(None, part.code, part.message, data_of(part.reason, trace_id)), None
        method = self._methods.get(part.method)
        refusal = self._admission.shed(method) if method is not None else None
        if refusal is None:
            return None
        _measure(part.method, 0.0, refusal)
        return _failed(part, refusal, call.trace_id(call.new_traceparent()))

    async def answer(self, taken: Taken, caller: Caller) -> Answer:
        """Answers a frame or body, whatever it holds; never raises but for cancellation."""
        if len(taken.parts) == 1:
            outcomes = [await self._part(*taken.parts[0], caller)]
        else:
            outcomes = await asyncio.gather(*(self._part(*part, caller) for part in taken.parts))
        return _join(outcomes, is_batch=taken.is_batch)

    async def _part(self, part: Part, outcome: Outcome | None, caller: Caller) -> Outcome:
        if outcome is not None:
            return outcome
        assert isinstance(part, jsonrpc.Call)  # noqa: S101  # the others have an outcome
        started = time.perf_counter()
        name = part.method if part.method in self._methods else "unknown"
        root = tracing.root(name)
        trace_id = call.trace_id(root.traceparent)
        text, error = b"", None
        try:
            with root:
                text = jsonrpc.result(part.request_id, await self._result(part, caller, root.traceparent))
        except MessengerError as failure:
            error = failure
        except Exception:
            log.exception("call failed", method=part.method, trace_id=trace_id)
            error = Internal("unexpected")
        _measure(name, time.perf_counter() - started, error)
        if error is not None:
            return _failed(part, error, trace_id)
        return (text if part.wants_response else b""), None

    async def _result(self, part: jsonrpc.Call, caller: Caller, traceparent: str) -> Any:  # a JSON value
        method = self._methods.get(part.method)
        if method is None:
            raise Unimplemented(f"There is no method {part.method!r}.", reason="METHOD_NOT_FOUND")
        with call.within(call.Call(deadline=time.monotonic() + method.deadline, traceparent=traceparent)):
            try:
                async with asyncio.timeout(method.deadline):  # whatever it waits for, also for its turn
                    response = await self._perform(method, part.params, caller)
                    return response if isinstance(response, msgspec.Raw) else method.write(response)
            except TimeoutError:
                raise DeadlineExceeded("The call ran out of time.") from None

    async def _perform(self, method: Method, params: bytes, caller: Caller) -> Message | msgspec.Raw:
        local = self._local.get(method.name)
        request: Any
        if local is not None:
            request = method.reader.read(params)
            check(request)
            with contextlib.suppress(Unauthenticated):  # who has no user yet is the doorkeeper's business
                await self._admission.pay(caller.user_id, method.name, method.cost)
            return await local(request, caller)
        user_id = caller.user_id
        self._admission.begin(user_id, method)
        try:
            request = method.reader.read(params)
            check(request)
            if method.takes_request_id and not request.request_id:
                request.request_id = secrets.token_hex(16)  # the same for every retry further in
            lane = getattr(request, method.ordered_by) if method.ordered_by else ""
            async with caller.lanes.enter(lane):
                await self._admission.pay(user_id, method.name, method.cost)
                with call.on_behalf_of(user_id):
                    return await self._forward(method.name, request, user_id)
        finally:
            self._admission.end(user_id, method)

    async def _forward(self, name: str, request: Message, user_id: str) -> Message:
        began = time.monotonic()
        try:
            response: Message = await self._remote[name](request)
        except Unavailable:
            if name not in self._fallbacks:
                raise
            response = await self._fallbacks[name](request, user_id)
        finally:
            self._admission.answered(time.monotonic() - began)
        for part in getattr(response, "degraded", ()):
            DEGRADED.labels(name, part).add()
        return response


def _failed(part: jsonrpc.Call, error: MessengerError, trace_id: str) -> Outcome:
    text = jsonrpc.error(part.request_id, *describe(error, trace_id)) if part.wants_response else b""
    return text, error


def _measure(name: str, seconds: float, error: MessengerError | None) -> None:
    CALLS.labels(name, error.code.name if error else "OK").record(seconds)
    if isinstance(error, ResourceExhausted):
        REFUSED.labels(name, error.reason).add()
