"""The HTTP driver: JSON-RPC by POST, the fallback's notifications, the documents, the probes, the web client.

Starlette on uvicorn; decides nothing itself.
"""

import asyncio
import contextlib
import math
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge import dev, jsonrpc
from edge.auth import Authenticator, Identity
from edge.backlog import Pushed
from edge.calls import Calls
from edge.faults import data_of, describe
from edge.hub import Follower, Hub, Start
from edge.lanes import Lanes
from mesh import call
from mesh.bus import EventId
from mesh.errors import InvalidArgument, MessengerError, PermissionDenied, ResourceExhausted, Unauthenticated
from messenger.edge.v1 import session_pb2

MAX_WAIT = 25.0
KEEPALIVE_SECONDS = 15.0

SECURITY_HEADERS = {
    b"content-security-policy": (
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: https:; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
}

_encode = msgspec.json.Encoder().encode
Handler = Callable[[Request], Awaitable[Response]]


class HttpApi:
    """Every HTTP path of one edge.

    Args:
        authenticator: verifies tokens.
        calls: carries calls out.
        hub: pushes events.
        openrpc: the OpenRPC document.
        failing: names of the readiness checks that fail now.
        dev_secret: signs the tokens of those who sign in by a name; empty where nobody may.
    """

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        calls: Calls,
        hub: Hub,
        openrpc: Mapping[str, Any],
        failing: Callable[[], Awaitable[list[str]]],
        dev_secret: str = "",
    ) -> None:
        self._authenticator = authenticator
        self._calls = calls
        self._hub = hub
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
        return Starlette(routes=routes, middleware=[Middleware(_SecurityHeaders)])

    async def drain(self) -> None:
        """Answers those who wait for events, with none."""
        self._going_away.set()

    async def _identity(self, request: Request) -> Identity:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return await self._authenticator.identify(token.strip() if scheme.lower() == "bearer" else "")

    # ── JSON-RPC ────────────────────────────────────────────────────────────────────────────────────────────

    async def _rpc(self, request: Request) -> Response:
        caller = _HttpCaller(await self._identity(request), self._authenticator, self._hub)
        body = await _read_body(request)
        if body is None:
            data = data_of("TOO_LARGE", call.trace_id(call.new_traceparent()))
            text = jsonrpc.error(
                None, jsonrpc.INVALID_REQUEST, f"The body is over {jsonrpc.MAX_BYTES} bytes.", data
            )
            return Response(text, status_code=413, media_type="application/json")
        answer = await self._calls.answer(body, caller)
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
        async with _following(self._hub, identity.user_id, cursor) as inbox:
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
        return StreamingResponse(
            self._lines(identity.user_id, cursor),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    async def _lines(self, user_id: str, cursor: EventId | None) -> AsyncIterator[bytes]:
        async with _following(self._hub, user_id, cursor) as inbox:
            # An id without data moves the client's cursor and dispatches nothing (HTML, 9.2.6).
            yield f"retry: 1000\nid: {inbox.start.last_event_id}\n\n".encode()
            events: Sequence[Pushed] = inbox.start.events
            while not self._going_away.is_set():
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

    def __init__(self, identity: Identity, authenticator: Authenticator, hub: Hub) -> None:
        self.user_id = identity.user_id
        self.lanes = Lanes()
        self._identity = identity
        self._authenticator = authenticator
        self._hub = hub

    async def connect(self, token: str, cursor: EventId | None) -> session_pb2.ConnectResponse:
        """Checks the token and says from where `/events` can go on; there is no session to keep."""
        expires_at = (await self._same_user(token)).expires_at if token else self._identity.expires_at
        async with _following(self._hub, self.user_id, cursor) as inbox:
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
        identity = await self._authenticator.identify(token)
        if identity.user_id != self.user_id:
            raise PermissionDenied("The token is another user's than the request's.", reason="OTHER_USER")
        return identity


class _Inbox:
    """Collects one HTTP client's live events."""

    def __init__(self) -> None:
        self.start = Start(last_event_id="", recovered=False, events=())
        self._events: list[Pushed] = []
        self._arrived = asyncio.Event()

    def put(self, events: Sequence[Pushed]) -> None:
        self._events.extend(events)
        self._arrived.set()

    async def wait(self, seconds: float, going_away: asyncio.Event) -> None:
        """Returns when there is an event, when time is up, or when the edge goes away."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._arrived, going_away)]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def take(self) -> Sequence[Pushed]:
        events, self._events = self._events, []
        self._arrived.clear()
        return events


@contextlib.asynccontextmanager
async def _following(hub: Hub, user_id: str, cursor: EventId | None) -> AsyncIterator[_Inbox]:
    inbox = _Inbox()
    follower = Follower(user_id, inbox.put)
    inbox.start = await hub.join(follower, cursor)
    try:
        follower.release(follower.position)
        yield inbox
    finally:
        await hub.leave(follower)


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
    pause = str(math.ceil((errors[0].retry_after_ms or 1000) / 1000))
    return (429 if errors[0].reason == "THROTTLED" else 503), {"retry-after": pause}


def _mapped(handler: Handler) -> Handler:
    """Answers an error of the mesh as a JSON-RPC error body under the HTTP status that fits."""

    async def mapped(request: Request) -> Response:
        try:
            return await handler(request)
        except ClientDisconnect:
            return Response(status_code=499)
        except MessengerError as error:
            trace_id = call.trace_id(call.new_traceparent())
            text = jsonrpc.error(None, *describe(error, trace_id))
            headers = {"www-authenticate": "Bearer"} if isinstance(error, Unauthenticated) else {}
            status = _HTTP_STATUS.get(type(error), 503 if error.retryable else 500)
            return Response(text, status_code=status, headers=headers, media_type="application/json")

    return mapped


_HTTP_STATUS: dict[type[MessengerError], int] = {
    Unauthenticated: 401,
    InvalidArgument: 400,
    ResourceExhausted: 429,
}


class _SecurityHeaders:
    """Adds the page's Content-Security-Policy and its like to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *SECURITY_HEADERS.items()]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class HttpServer(uvicorn.Server):
    """uvicorn inside our own lifecycle: it does not touch the signals.

    Args:
        app: the ASGI application.
        listen: host:port.
        grace: seconds that running requests may take when it stops.
    """

    def __init__(self, app: ASGIApp, listen: str, *, grace: float) -> None:
        host, _, port = listen.rpartition(":")
        self._ended = asyncio.Event()
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=int(port),
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=math.ceil(grace),
            )
        )

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves until `drain`."""
        try:
            await super().serve(sockets)
        finally:
            self._ended.set()

    async def drain(self) -> None:
        """Takes no new requests, and returns when the running ones are answered."""
        self.should_exit = True
        await self._ended.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leaves SIGTERM and SIGINT to the process's lifecycle."""
        yield
