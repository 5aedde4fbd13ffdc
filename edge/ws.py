"""The WebSocket driver: sockets in, frames to `Calls`, events of the hub out. Decides nothing itself.

Source: RFC 6455, by the library websockets.
"""

import asyncio
import math
import random
import secrets
import time
from collections.abc import Sequence

import msgspec
import structlog
from google.protobuf.message import Message
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State

from edge import jsonrpc
from edge.auth import Identity
from edge.backlog import Pushed
from edge.calls import Calls, Taken
from edge.doorkeeper import Doorkeeper
from edge.frames import text_frame
from edge.hub import Follower, Hub, Start
from edge.lanes import Lanes
from edge.origins import Origins
from edge.patience import PatientConnection, patient
from edge.session import Close, Due, Session
from edge.sessions import Sessions
from edge.settings import Settings
from edge.table import Notifications
from edge.turnstile import Pace
from mesh.errors import MessengerError, ResourceExhausted, Unauthenticated
from mesh.streams import EventId
from messenger.edge.v1 import session_pb2
from messenger.events.v1 import notifications_pb2

log = structlog.get_logger()

SUBPROTOCOL = "jsonrpc-2.0"
MAX_CALLS = 64
"""Frames of one socket that are worked on at once; beyond it the socket is not read."""

EVENTS_A_WRITE = 16
"""Events that are written together; between two writes it is looked at whether the client reads."""

RECONNECTS_PER_SECOND = 500
"""How many clients of a leaving edge are told to come back in one second."""

BACKLOG = 4_096
"""Connections that the kernel keeps until they are accepted; who finds it full comes again in 1, 3, 7 s."""

SLOTS_SHARE, CLOSED_SHARE = 0.6, 0.9
"""Of the time for draining: until the last client has left, and until all sockets must be closed."""

_encode = msgspec.json.Encoder().encode


class Gateway:
    """Everything that one edge's sockets share.

    Args:
        settings: limits and times.
        doorkeeper: lets clients in.
        sessions: how many each user has, on all transports.
        calls: carries calls out.
        hub: pushes events.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        doorkeeper: Doorkeeper,
        sessions: Sessions,
        calls: Calls,
        hub: Hub,
    ) -> None:
        self.settings = settings
        self.doorkeeper = doorkeeper
        self.sessions = sessions
        self.calls = calls
        self.hub = hub
        self._origins = Origins((settings.public_url, *settings.allowed_origins))
        self._notifications = Notifications()
        self._sockets: set[_Socket] = set()
        self._pace = Pace()
        self._server: Server | None = None

    async def start(self) -> None:
        """Opens the listener."""
        host, _, port = self.settings.ws_listen.rpartition(":")
        self._server = await serve(
            self._serve_socket,
            host,
            int(port),
            backlog=BACKLOG,
            compression=None,  # permessage-deflate costs 30 KB a connection and most frames are small
            max_size=jsonrpc.MAX_BYTES,
            max_queue=16,
            open_timeout=self.settings.patience_seconds,
            ping_interval=self.settings.ping_seconds,
            close_timeout=self.settings.patience_seconds,
            create_connection=patient(self.settings.patience_seconds),  # type: ignore[arg-type]  # makes one
            process_request=self._welcome,
            select_subprotocol=lambda _, offered: SUBPROTOCOL if SUBPROTOCOL in offered else None,  # type: ignore[arg-type, return-value]
            server_header=None,
        )

    def __len__(self) -> int:
        return len(self._sockets)

    def frame(self, body: Message) -> bytes:
        """The frame of an ephemeral notification."""
        return _encode(self._notifications.write(body))

    async def drain(self) -> None:
        """Takes no new sockets, gives each its slot to come back in, serves it until then, and closes it.

        The slots are spread so that the other edges are not stormed, within `drain_seconds` in any case.
        """
        assert self._server is not None  # noqa: S101  # started
        self._server.close(close_connections=False)
        longest = self.settings.drain_seconds
        spread = min(len(self._sockets) / RECONNECTS_PER_SECOND, longest * SLOTS_SHARE)
        leaving = [
            asyncio.create_task(socket.leave(random.uniform(0, spread)))  # noqa: S311  # spreads load
            for socket in self._sockets
        ]
        if leaving:
            await asyncio.wait(leaving, timeout=longest * CLOSED_SHARE)
        for task in leaving:
            task.cancel()

    async def _welcome(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path.partition("?")[0] != "/ws":
            return connection.respond(404, "The WebSocket is at /ws.\n")
        headers = request.headers
        origins, hosts = headers.get_all("Origin"), headers.get_all("Host")
        if len(origins) > 1 or not self._origins.allow(next(iter(origins), None), next(iter(hosts), "")):
            return connection.respond(403, "Pages of this origin are not let in; see ALLOWED_ORIGINS.\n")
        assert isinstance(connection, PatientConnection)  # noqa: S101  # `start` makes no others
        connection.address = self.doorkeeper.address(
            connection.remote_address[0],
            headers.get_all("X-Forwarded-For"),
            next(iter(headers.get_all("X-Real-IP")), ""),
        )
        try:
            self.doorkeeper.knock(connection.address)
        except ResourceExhausted as refusal:
            response = connection.respond(429, f"{refusal.detail}\n")
            response.headers["Retry-After"] = str(math.ceil((refusal.retry_after_ms or 0) / 1000))
            return response
        await self._pace.wait()
        return None

    async def _serve_socket(self, connection: ServerConnection) -> None:
        assert isinstance(connection, PatientConnection)  # noqa: S101  # `start` makes no others
        try:
            with self.doorkeeper.inside(connection.address):
                await self._serve(_Socket(self, connection))
        except ConnectionClosed:
            pass
        except ResourceExhausted as refusal:
            await connection.close(Close.OVERLOADED, refusal.detail)

    async def _serve(self, socket: "_Socket") -> None:
        self._sockets.add(socket)
        try:
            await socket.run()
        finally:
            self._sockets.discard(socket)
            await socket.end()


class _Socket:
    """One client's socket; the `Caller` of its calls."""

    __slots__ = (
        "_connection", "_follower", "_following", "_gateway", "_session", "_slots", "_start", "_tasks",
        "_timer", "lanes",
    )  # fmt: skip

    def __init__(self, gateway: Gateway, connection: PatientConnection) -> None:
        settings = gateway.settings
        self.lanes = Lanes()
        self._gateway = gateway
        self._connection = connection
        self._session = Session(
            session_id=secrets.token_hex(8),
            opened_at=time.time(),
            connect_seconds=settings.connect_seconds,
            expiring_seconds=settings.expiring_seconds,
        )
        self._follower: Follower | None = None
        self._following = asyncio.Lock()
        self._start: Start | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(MAX_CALLS)
        self._timer: asyncio.TimerHandle | None = None

    @property
    def user_id(self) -> str:
        return self._session.user_id

    async def run(self) -> None:
        self._look_at_clock()
        request, response = self._connection.request, self._connection.response
        assert request is not None and response is not None  # noqa: S101, PT018  # the handshake is done
        if not await self._authenticate_upgrade(request.headers):
            return
        for read in (request, response):
            read.headers.clear()  # they would stay with the connection, for nobody
        async for frame in self._connection:
            if isinstance(frame, bytes):
                await self._connection.close(Close.BAD_PROTOCOL, "JSON-RPC comes in text frames")
                return
            taken = self._gateway.calls.take(frame.encode())
            if (answer := taken.answer) is not None:
                self.send_soon(answer.text)
            elif self._session.identity is None:
                await self._answer(taken)  # what follows session.connect needs its outcome
            else:
                await self._slots.acquire()
                self._spawn(taken)

    async def leave(self, after: float) -> None:
        """Tells the client to come back after so many seconds, and closes when what it asked is answered."""
        body = notifications_pb2.SessionReconnect(after_ms=int(after * 1000), reason="draining")
        self.send_soon(self._gateway.frame(body))
        await asyncio.sleep(after)
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._connection.close(Close.DRAINING, "this edge is going away")

    async def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        if self._session.identity is not None:
            self._gateway.sessions.leave(self.user_id, self)
        if self._follower is not None:
            await self._gateway.hub.leave(self._follower)

    def dismiss(self) -> None:
        """See `edge.sessions.Session`."""
        self.close_soon(Close.TOO_MANY_SESSIONS, "this user has too many sessions; this was the oldest")

    # ── calls ───────────────────────────────────────────────────────────────────────────────────────────────

    def _spawn(self, taken: Taken) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(taken))
        self._tasks.add(task)
        task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        if not task.cancelled() and task.exception() is not None:
            log.error("a frame's answer failed", exc_info=task.exception())

    async def _answer(self, taken: Taken) -> None:
        answer = await self._gateway.calls.answer(taken, self)
        try:
            if answer.text and not self._is_slow():
                await self._send(answer.text)
        except ConnectionClosed:
            return
        self._begin_events()

    async def _send(self, text: bytes) -> None:
        """Writes an answer, and goes on no faster than the client reads."""
        if self._connection.transport.get_write_buffer_size():
            await self._connection.send(text, text=True)
        else:
            self._write(text)

    # ── Caller: the session ─────────────────────────────────────────────────────────────────────────────────

    async def connect(self, token: str, cursor: EventId | None) -> session_pb2.ConnectResponse:
        if token or self._session.identity is None:
            self._session.authenticate(await self._identify(token))
            self._gateway.sessions.enter(self.user_id, self)
            self._look_at_clock()
        start = await self._follow(cursor)
        response = session_pb2.ConnectResponse(
            user_id=self.user_id,
            session_id=self._session.session_id,
            last_event_id=start.last_event_id,
            recovered=start.recovered,
        )
        response.expires_at.FromSeconds(int(self._expires_at))
        return response

    async def refresh(self, token: str) -> session_pb2.RefreshResponse:
        _ = self.user_id  # there must be one
        self._session.authenticate(await self._identify(token))
        self._look_at_clock()
        response = session_pb2.RefreshResponse()
        response.expires_at.FromSeconds(int(self._expires_at))
        return response

    async def _identify(self, token: str) -> Identity:
        return await self._gateway.doorkeeper.identify(token, self._connection.address)

    @property
    def _expires_at(self) -> float:
        assert self._session.identity is not None  # noqa: S101  # the session is authenticated
        return self._session.identity.expires_at

    async def _authenticate_upgrade(self, headers: Headers) -> bool:
        scheme, _, token = ", ".join(headers.get_all("Authorization")).partition(" ")
        if scheme.lower() != "bearer":
            return True
        try:
            await self.connect(token.strip(), None)
        except Unauthenticated as error:
            code = Close.TOKEN_EXPIRED if error.reason == "TOKEN_EXPIRED" else Close.NOT_AUTHENTICATED
            await self._connection.close(code, error.detail)
            return False
        except MessengerError as error:
            await self._connection.close(Close.OVERLOADED, error.detail)
            return False
        self._begin_events()
        return True

    def _look_at_clock(self) -> None:
        now = time.time()
        match self._session.due(now):
            case Due.CLOSE_UNAUTHENTICATED:
                self.close_soon(Close.NOT_AUTHENTICATED, "no session.connect came in time")
                return
            case Due.CLOSE_EXPIRED:
                self.close_soon(Close.TOKEN_EXPIRED, "the token is over")
                return
            case Due.TELL_EXPIRING:
                body = notifications_pb2.SessionExpiring()
                body.expires_at.FromSeconds(int(self._expires_at))
                self.send_soon(self._gateway.frame(body))
        if self._timer is not None:
            self._timer.cancel()
        pause = max(self._session.next_due() - now, 0.0) + 0.001
        self._timer = asyncio.get_running_loop().call_later(pause, self._look_at_clock)

    # ── events ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _follow(self, cursor: EventId | None) -> Start:
        async with self._following:  # of several session.connect at once the last one counts
            if self._follower is not None:
                await self._gateway.hub.leave(self._follower)
            follower = Follower(self.user_id, self._deliver)
            start = await self._gateway.hub.join(follower, cursor)
            self._follower, self._start = follower, start
            return start

    def _begin_events(self) -> None:
        """Lets the events of a fresh session.connect go, now that its result is on the wire."""
        start, self._start = self._start, None
        if start is not None and self._follower is not None:
            self._deliver(start.events)
            self._follower.release(self._follower.position)

    def _deliver(self, events: Sequence[Pushed]) -> None:
        """Writes events, few by one system call each: what a write costs hardly depends on its size."""
        frames = [event.frame for event in events if event.frame]
        for start in range(0, len(frames), EVENTS_A_WRITE):
            if self._is_slow():
                return
            self._write(*frames[start : start + EVENTS_A_WRITE])

    def send_soon(self, frame: bytes) -> None:
        """Writes a frame, unless it is empty, without waiting; who does not read is closed with 4001."""
        if frame and not self._is_slow():
            self._write(frame)

    def _is_slow(self) -> bool:
        """Whether too much waits for the client already; then its socket is being closed."""
        if self._connection.transport.get_write_buffer_size() <= self._gateway.settings.outbound_bytes:
            return False
        self.close_soon(Close.SLOW_CONSUMER, "too much waits to be read")
        return True

    def _write(self, *texts: bytes) -> None:
        """Writes frames past the library, whose own way took an eighth of an edge's time under `bench send`.

        Frames cannot mix: whatever the library writes it writes at once, and nobody asks it to fragment.
        """
        if self._connection.state is State.OPEN:
            self._connection.transport.write(b"".join(map(text_frame, texts)))

    def close_soon(self, code: Close, reason: str) -> None:
        """Begins to close the socket without waiting for the other side."""
        self._connection.hang_up(code, reason)
