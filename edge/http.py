"""The HTTP driver: JSON-RPC by POST, the fallback's notifications, the documents, the probes, the web client.

Starlette; decides nothing itself. What listens is edge.listener.
"""

import asyncio
import contextlib
import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from edge import dev, jsonrpc
from edge.addresses import UNKNOWN
from edge.admission import Admission
from edge.around import Counted, SecurityHeaders, error_response, refusal
from edge.auth import Identity
from edge.backlog import Pushed
from edge.calls import Calls
from edge.doorkeeper import Doorkeeper
from edge.faults import data_of
from edge.hub import Follower, Hub
from edge.inbox import Inbox
from edge.lanes import Lanes
from edge.sessions import Sessions
from mesh import call
from mesh.errors import Internal, InvalidArgument, MessengerError, PermissionDenied, ResourceExhausted
from mesh.streams import EventId
from messenger.edge.v1 import session_pb2

log = structlog.get_logger()

MAX_WAIT = 25.0
KEEPALIVE_SECONDS = 15.0

LOST = b'event: lost\ndata: {"recovered": false}\n\n'
"""Tells who follows a stream that not everything since its cursor follows. No notification has a name."""

EVENTS = "events"
"""The bucket that requests for events pay from."""

_encode = msgspec.json.Encoder().encode
Handler = Callable[[Request], Awaitable[Response]]


class HttpApi:
    """Every HTTP path of one edge.

    Args:
        doorkeeper: lets clients in.
        sessions: how many each user has, on all transports.
        admission: the limits of those who are in.
        calls: carries calls out.
        hub: pushes events.
        outbound_bytes: of events that may wait for one slow client.
        openrpc: the OpenRPC document.
        failing: names of the readiness checks that fail now.
        dev_secret: signs the tokens of those who sign in by a name; empty where nobody may.
    """

    def __init__(
        self,
        *,
        doorkeeper: Doorkeeper,
        sessions: Sessions,
        admission: Admission,
        calls: Calls,
        hub: Hub,
        outbound_bytes: int,
        openrpc: Mapping[str, Any],
        failing: Callable[[], Awaitable[list[str]]],
        dev_secret: str = "",
    ) -> None:
        self._doorkeeper = doorkeeper
        self._sessions = sessions
        self._admission = admission
        self._calls = calls
        self._hub = hub
        self._outbound_bytes = outbound_bytes
        self._openrpc = _encode(openrpc)
        self._failing = failing
        self._dev_secret = dev_secret
        self._going_away = asyncio.Event()

    def app(self) -> ASGIApp:
        """The ASGI application."""
        routes = [
            Route("/rpc", _mapped(self._rpc), methods=["POST"]),
            Route("/events", _mapped(self._events)),
            Route("/events/stream", _mapped(self._stream)),
            Route("/openrpc.json", self._document),
            Route("/healthz", self._alive),
            Route("/readyz", self._ready),
            dev.token_route(self._dev_secret),
            Mount("/", StaticFiles(directory=Path(__file__).parent / "web", html=True)),
        ]
        middleware = [Middleware(SecurityHeaders), Middleware(Counted, doorkeeper=self._doorkeeper)]
        return Starlette(routes=routes, middleware=middleware)

    async def drain(self) -> None:
        """Answers those who wait for events, with none."""
        self._going_away.set()

    async def _identity(self, request: Request) -> Identity:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        return await self._doorkeeper.identify(token, _address(request))

    @contextlib.asynccontextmanager
    async def following(self, user_id: str, cursor: EventId | None) -> AsyncIterator[Inbox]:
        """The user's events from a cursor on, as those of one more session."""
        inbox = Inbox(self._outbound_bytes)
        follower = Follower(user_id, inbox.put)
        inbox.start = await self._hub.join(follower, cursor)
        try:
            self._sessions.enter(user_id, inbox)
            follower.release(follower.position)
            yield inbox
        finally:
            self._sessions.leave(user_id, inbox)
            await self._hub.leave(follower)

    # ── JSON-RPC ────────────────────────────────────────────────────────────────────────────────────────────

    async def _rpc(self, request: Request) -> Response:
        identity = await self._identity(request)
        caller = _HttpCaller(self, identity, partial(self._doorkeeper.identify, address=_address(request)))
        body = await _read_body(request)
        if body is None:
            data = data_of("TOO_LARGE", call.trace_id(call.new_traceparent()))
            text = jsonrpc.error(
                None, jsonrpc.INVALID_REQUEST, f"The body is over {jsonrpc.MAX_BYTES} bytes.", data
            )
            return Response(text, status_code=413, media_type="application/json")
        answer = await self._calls.answer(self._calls.take(body), caller)
        if not answer.text:
            return Response(status_code=204)
        status, headers = _status_of(answer.errors, alone=not answer.is_batch)
        return Response(answer.text, status_code=status, headers=headers, media_type="application/json")

    # ── notifications ───────────────────────────────────────────────────────────────────────────────────────

    async def _events(self, request: Request) -> Response:
        identity = await self._identity(request)
        cursor, wait = (
            _cursor(request.query_params.get("after", "")),
            _wait(request.query_params.get("wait", "10")),
        )
        await self._admission.pay(identity.user_id, EVENTS, 1)
        async with self.following(identity.user_id, cursor) as inbox:
            if not inbox.start.events:
                await inbox.wait(wait, self._going_away)
            events = (*inbox.start.events, *inbox.take())
        kept = [event.event_id for event in events if event.event_id]
        last_event_id = kept[-1] if kept else inbox.start.last_event_id
        body = {
            "events": [msgspec.Raw(event.frame) for event in events],
            "last_event_id": last_event_id,
            "recovered": inbox.start.recovered,
        }
        return Response(_encode(body), media_type="application/json", headers={"cache-control": "no-store"})

    async def _stream(self, request: Request) -> Response:
        identity = await self._identity(request)
        after = request.headers.get("last-event-id") or request.query_params.get("after", "")
        cursor = _cursor(after)
        await self._admission.pay(identity.user_id, EVENTS, 1)
        return StreamingResponse(
            self._lines(identity.user_id, cursor),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    async def _lines(self, user_id: str, cursor: EventId | None) -> AsyncIterator[bytes]:
        async with self.following(user_id, cursor) as inbox:
            # An id without data moves the client's cursor and dispatches nothing (HTML, 9.2.6).
            yield f"retry: 1000\nid: {inbox.start.last_event_id}\n\n".encode()
            if not inbox.start.recovered:
                yield LOST
            events: Sequence[Pushed] = inbox.start.events
            while not self._going_away.is_set() and not inbox.is_over:
                for event in events:
                    # An ephemeral event has no id, and an empty one would wipe the client's cursor.
                    number = f"id: {event.event_id}\n".encode() if event.event_id else b""
                    yield b"%sdata: %s\n\n" % (number, event.frame)
                await inbox.wait(KEEPALIVE_SECONDS, self._going_away)
                events = inbox.take()
                if not events:
                    yield b": still here\n\n"

    # ── documents and probes ────────────────────────────────────────────────────────────────────────────────

    async def _document(self, _request: Request) -> Response:
        return Response(self._openrpc, media_type="application/json")

    async def _alive(self, _request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _ready(self, _request: Request) -> Response:
        failing = ["draining"] if self._going_away.is_set() else await self._failing()
        if failing:
            return PlainTextResponse(f"waiting for: {', '.join(failing)}\n", status_code=503)
        return PlainTextResponse("ready\n")


class _HttpCaller:
    """The `Caller` of one request: its token stands in the header."""

    def __init__(
        self, api: HttpApi, identity: Identity, identify: Callable[[str], Awaitable[Identity]]
    ) -> None:
        self.user_id = identity.user_id
        self.lanes = Lanes()
        self._api = api
        self._identity = identity
        self._identify = identify

    async def connect(self, token: str, cursor: EventId | None) -> session_pb2.ConnectResponse:
        """Checks the token and says from where `/events` can go on; there is no session to keep."""
        expires_at = (await self._same_user(token)).expires_at if token else self._identity.expires_at
        async with self._api.following(self.user_id, cursor) as inbox:
            response = session_pb2.ConnectResponse(
                user_id=self.user_id,
                session_id=secrets.token_hex(8),
                last_event_id=inbox.start.last_event_id,
                recovered=inbox.start.recovered,
            )
        response.expires_at.FromSeconds(int(expires_at))
        return response

    async def refresh(self, token: str) -> session_pb2.RefreshResponse:
        """Checks the token; over HTTP each request brings its own."""
        response = session_pb2.RefreshResponse()
        response.expires_at.FromSeconds(int((await self._same_user(token)).expires_at))
        return response

    async def _same_user(self, token: str) -> Identity:
        identity = await self._identify(token)
        if identity.user_id != self.user_id:
            raise PermissionDenied("The token is another user's than the request's.", reason="OTHER_USER")
        return identity


def _address(request: Request) -> str:
    """Under which address the client is counted, as `Counted` has found out."""
    return request.client.host if request.client else UNKNOWN


def _cursor(text: str) -> EventId | None:
    return EventId.parse(text) if text else None


def _wait(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MAX_WAIT:
        raise InvalidArgument(f"wait: must be a number of seconds from 0 to {MAX_WAIT:g}")
    return seconds


async def _read_body(request: Request) -> bytes | None:
    """The body; None where it is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > jsonrpc.MAX_BYTES:
            return None
    return bytes(body)


def _status_of(errors: Sequence[MessengerError], *, alone: bool) -> tuple[int, dict[str, str]]:
    """HTTP's own status for an answer: throttling and shedding show where the call stood alone."""
    if not alone or not errors or not isinstance(errors[0], ResourceExhausted):
        return 200, {}
    return refusal(errors[0])


def _mapped(handler: Handler) -> Handler:
    """Answers an error of the mesh as a JSON-RPC error body under the HTTP status that fits."""

    async def mapped(request: Request) -> Response:
        trace_id = call.trace_id(call.new_traceparent())
        try:
            return await handler(request)
        except ClientDisconnect:
            return Response(status_code=499)
        except MessengerError as error:
            return error_response(error, trace_id)
        except Exception:
            log.exception("request failed", path=request.url.path, trace_id=trace_id)
            return error_response(Internal("unexpected"), trace_id)

    return mapped
