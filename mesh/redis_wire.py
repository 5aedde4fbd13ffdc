"""Commands straight to a Redis node, past most of the client library (docs/adr/0014-redis-direct.md).

The library reads URLs, names errors and does all that is rare. What each event needs goes over a connection
of our own that all callers share: commands go out in the order in which they were handed in, and Redis
answers in it. Nothing is retried here.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/ (RESP2).
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis
import redis.asyncio
from redis.asyncio.connection import DefaultParser, SSLConnection, UnixDomainSocketConnection
from redis.credentials import UsernamePasswordCredentialProvider
from redis.exceptions import InvalidResponse

Command = tuple[str | int | bytes, ...]

Hear = Callable[[Any], None]
"""Takes what a node says unasked: pushes, and what subscribing is answered with."""

_pack = cast(Callable[[Command], bytes], hiredis.pack_command)  # its own types know commands of one word only

MOST_WAITING = 4096
"""Requests that may wait for one node; those beyond it fail at once."""

NOTHING = object()
"""What the parser says when a reply is not yet there as a whole."""


def pack(*commands: Command) -> bytes:
    """Commands as they are sent."""
    return b"".join([_pack(command) for command in commands])


class Request:
    """Commands that are sent in one write.

    Attributes:
        due: when all must be answered, by the loop's clock.
        packed: as it is sent.
        replies: one a command, in order; that of a command that was refused is its error. Raises RedisError
            or OSError: they will not come, and what was done is not known.
    """

    __slots__ = ("_count", "_received", "due", "packed", "replies")

    def __init__(self, commands: tuple[Command, ...]) -> None:
        self.packed = pack(*commands)
        self.replies: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self.due = 0.0
        self._count = len(commands)
        self._received: list[Any] = []

    def take(self, reply: Any) -> bool:
        """Takes the next reply; whether it was the last one."""
        self._received.append(reply)
        if len(self._received) < self._count:
            return False
        if not self.replies.done():
            self.replies.set_result(self._received)
        return True

    def fail(self, error: Exception) -> None:
        """Tells that there will be no replies."""
        if not self.replies.done():
            self.replies.set_exception(error)


class Connection(asyncio.Protocol):
    """One connection.

    A caller that goes away undoes nothing: its replies are still awaited, and dropped.

    Args:
        seconds: until a request must be answered; otherwise the connection is broken off.
        hear: without it anything that comes unasked ends the connection.

    Attributes:
        closed: is given why it is closed, when it is.
    """

    def __init__(self, seconds: float, hear: Hear | None) -> None:
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[Exception] = self._loop.create_future()
        self._seconds = seconds
        self._hear = hear
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=DefaultParser.parse_error, notEnoughData=NOTHING
        )
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[Request] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, request: Request) -> None:
        """Sends a request."""
        if len(self._waiting) >= MOST_WAITING:
            request.fail(ConnectionError("too much waits for this Redis node"))
            return
        try:
            self.write(request.packed)
        except OSError as error:
            request.fail(error)
            return
        request.due = self._loop.time() + self._seconds
        self._waiting.append(request)
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._look)

    def write(self, packed: bytes) -> None:
        """Sends commands that have no replies of their own.

        Raises:
            OSError: the connection is closed.
        """
        if self._transport is None or self.closed.done():
            raise ConnectionResetError("the connection to Redis is closed")
        self._transport.write(packed)

    def close(self, error: Exception) -> None:
        """Breaks off; whatever waits is told why."""
        if self.closed.done():
            return
        self.closed.set_result(error)
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        while self._waiting:
            self._waiting.popleft().fail(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not NOTHING:
                self._take(reply)
        except Exception as error:
            self.close(error)

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.close(error or ConnectionResetError("Redis closed the connection"))

    def _take(self, reply: Any) -> None:
        if self._waiting:
            if self._waiting[0].take(reply):
                self._waiting.popleft()
        elif isinstance(reply, Exception):
            raise reply
        elif self._hear is None:
            raise InvalidResponse("a reply that nobody waits for")
        else:
            self._hear(reply)

    def _look(self) -> None:
        self._timer = None
        if self._waiting:
            left = self._waiting[0].due - self._loop.time()
            if left > 0:
                self._timer = self._loop.call_later(left, self._look)
            else:
                self.close(TimeoutError("Redis did not answer in time"))


class Endpoint:
    """How a node is reached.

    Args:
        url: as the library's `from_url` takes it.
        seconds: for connecting, and for each answer, unless the URL says otherwise.
    """

    def __init__(self, url: str, seconds: float) -> None:
        pool = redis.asyncio.ConnectionPool.from_url(
            url, protocol=2, socket_timeout=seconds, socket_connect_timeout=seconds
        )
        # It is never connected: it holds what the library has read from the URL, with the defaults.
        self._known: Any = pool.make_connection()  # type: ignore[no-untyped-call]

    async def connect(self, hear: Hear | None = None) -> Connection:
        """A connection that is signed in.

        Raises:
            OSError: the node is away.
            RedisError: it does not take us.
        """
        connection = Connection(self._known.socket_timeout, hear)
        try:
            async with asyncio.timeout(self._known.socket_connect_timeout):
                await self._reach(connection)
            if commands := self._introduction():
                request = Request(commands)
                connection.ask(request)
                for reply in await request.replies:
                    if isinstance(reply, Exception):
                        raise reply
        except BaseException:
            connection.close(ConnectionResetError("the connection to Redis was not made"))
            raise
        return connection

    async def _reach(self, connection: Connection) -> None:
        loop, known = asyncio.get_running_loop(), self._known
        if isinstance(known, UnixDomainSocketConnection):
            await loop.create_unix_connection(lambda: connection, known.path)
            return
        tls = known.ssl_context.get() if isinstance(known, SSLConnection) else None
        transport, _ = await loop.create_connection(lambda: connection, known.host, known.port, ssl=tls)
        if known.socket_keepalive:
            opened = transport.get_extra_info("socket")
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in known.socket_keepalive_options.items():
                opened.setsockopt(socket.SOL_TCP, option, value)

    def _introduction(self) -> tuple[Command, ...]:
        known, commands = self._known, list[Command]()
        if known.username or known.password:
            proof = UsernamePasswordCredentialProvider(known.username, known.password)
            commands.append(("AUTH", *proof.get_credentials()))  # type: ignore[no-untyped-call]
        if known.client_name:
            commands.append(("CLIENT", "SETNAME", known.client_name))
        if known.db:
            commands.append(("SELECT", known.db))
        return tuple(commands)


class Node:
    """A node that is asked; its one connection is opened when it is needed.

    Args:
        url: as the library's `from_url` takes it.
        seconds: for connecting, and for each answer, unless the URL says otherwise.
    """

    def __init__(self, url: str, seconds: float) -> None:
        self._endpoint = Endpoint(url, seconds)
        self._connection: Connection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._pending: list[Request] = []

    def ask(self, *commands: Command) -> asyncio.Future[list[Any]]:
        """Sends commands in one write, behind those that were handed in before.

        Returns:
            Their replies, as in `Request`. Who no longer waits when the connection is made sends nothing.
        """
        request = Request(commands)
        if self._connection is not None and not self._connection.closed.done():
            self._connection.ask(request)
        elif len(self._pending) >= MOST_WAITING:
            request.fail(ConnectionError("too much waits for this Redis node"))
        else:
            self._pending.append(request)
            if self._opening is None or self._opening.done():
                self._opening = asyncio.get_running_loop().create_task(self._open())
        return request.replies

    def close(self) -> None:
        """Breaks off; whatever waits is told so."""
        closed = ConnectionResetError("the connection to Redis was closed here")
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if self._connection is not None:
            self._connection.close(closed)
        self._settle(lambda request: request.fail(closed))

    async def _open(self) -> None:
        try:
            self._connection = await self._endpoint.connect()
        except Exception as error:
            failure = error
            self._settle(lambda request: request.fail(failure))
        else:
            self._settle(self._connection.ask)

    def _settle(self, settle: Callable[[Request], None]) -> None:
        pending, self._pending = self._pending, []
        for request in pending:
            if not request.replies.done():
                settle(request)
