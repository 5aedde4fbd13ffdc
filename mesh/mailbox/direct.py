"""Commands straight to a shard's primary, past most of the client library (docs/adr/0012-commands-direct.md).

The library finds the primary, proves to it who we are, and does all that is rare. What each message and each
page needs goes over connections of our own, one command at a time on each. Nothing is retried here: a command
that does not get through is for the library to send again, and its error is the one that counts.

Source: https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/ (OP_MSG).
"""

import asyncio
import contextlib
import itertools
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from typing import Any, cast

import bson
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from pymongo.asynchronous.auth import authenticate
from pymongo.asynchronous.pool import AsyncConnection
from pymongo.errors import AutoReconnect, ConnectionFailure, NetworkTimeout, PyMongoError
from pymongo.monitoring import CommandListener, CommandStartedEvent
from pymongo.pool_options import PoolOptions
from pymongo.topology_description import TopologyDescription

from mesh.mailbox.documents import Document

Address = tuple[str, int | None]

OPEN_S = 2.0
"""Seconds for opening a connection, at most."""

HEAD = Struct("<iiiiIB")
"""Length, request, which request it answers, opcode, flags, kind of the one section."""

LENGTH = Struct("<i")
OP_MSG = 2013
NUMBERS = 2**31
"""Of requests."""

MECHANISMS = {"DEFAULT", "SCRAM-SHA-1", "SCRAM-SHA-256", "MONGODB-X509"}
"""Ways to prove who we are that need nothing but commands."""


class Connection(asyncio.Protocol):
    """One connection, which takes one command at a time.

    Args:
        address: of the server.
        codec: how replies are read.
        done: called when it can take a command again: with each reply, whether or not anybody still waits.
        lost: called when it is closed.
    """

    auth_ctx = None  # the library's `authenticate` looks for it

    def __init__(
        self,
        address: Address,
        codec: CodecOptions[Document],
        done: Callable[["Connection"], None],
        lost: Callable[["Connection"], None],
    ) -> None:
        self.address = address
        self.negotiated_mechs: Sequence[str] = ()
        self._codec = codec
        self._done = done
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._number = 0
        self._reply: asyncio.Future[Document] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def send(self, number: int, body: bytes, seconds: float) -> asyncio.Future[Document]:
        """Sends a command; the reply is to come. Without one in time the connection is broken off.

        The future raises ConnectionFailure: there will be no reply.
        """
        loop = asyncio.get_running_loop()
        self._number, self._reply = number, loop.create_future()
        reply = self._reply
        if self._transport is None or self._transport.is_closing():
            self._fail(AutoReconnect("connection closed"))
            return reply
        self._timer = loop.call_later(seconds, self._fail, NetworkTimeout("no reply in time"))
        self._transport.write(HEAD.pack(HEAD.size + len(body), number, 0, OP_MSG, 0, 0) + body)
        return reply

    async def command(self, source: str, command: Mapping[str, Any]) -> Document:
        """A reply that is good; the library's `authenticate` calls this."""
        return good(await self.send(0, bson.encode({**command, "$db": source}), OPEN_S))

    def close(self) -> None:
        """Breaks off."""
        self._fail(AutoReconnect("connection closed"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._received or not _is_whole(data):
            self._received += data
            if not _is_whole(self._received):
                return
            data = bytes(self._received)
            self._received.clear()
        try:
            self._answer(data)
        except (BSONError, ValueError) as error:
            self._fail(AutoReconnect(f"not a reply: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._lost(self)
        self.close()

    def _answer(self, data: bytes) -> None:
        length, _, number, opcode, _, kind = HEAD.unpack_from(data)
        if self._reply is None or (length, number, opcode, kind) != (len(data), self._number, OP_MSG, 0):
            raise ValueError("nobody asked")
        document = bson.decode(data[HEAD.size :], self._codec)
        reply, self._reply = self._reply, None
        if self._timer is not None:
            self._timer.cancel()
        self._done(self)
        if not reply.cancelled():
            reply.set_result(document)

    def _fail(self, error: ConnectionFailure) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        reply, self._reply = self._reply, None
        if reply is not None and not reply.done():
            reply.set_exception(error)


class Direct:
    """The way to one shard's primary.

    Args:
        client: the library's; it says where the primary is and how it takes us.
        database: whose commands they are.
        codec: how replies are read.
        listeners: hear of each command that is sent.
    """

    def __init__(
        self,
        client: Any,
        database: str,
        codec: CodecOptions[Document],
        listeners: Sequence[CommandListener],
    ) -> None:
        self._client = client
        pool: PoolOptions = client.options.pool_options
        self._credentials = pool._credentials  # the library has no other word for them
        self._metadata = pool.metadata
        self._tls = cast(ssl.SSLContext | None, pool._ssl_context)
        self._can_prove = self._credentials is None or self._credentials.mechanism in MECHANISMS
        self._database = database
        self._codec = codec
        self._listeners = listeners
        self._seen: TopologyDescription | None = None
        self._primary: Address | None = None
        self._open: set[Connection] = set()
        self._free: list[Connection] = []
        self._numbers = itertools.count(1)

    @property
    def is_open(self) -> bool:
        """Whether the library sees a primary, and this module can prove to it who we are."""
        return self._can_prove and self._where() is not None

    async def command(self, command: Document, seconds: float) -> Document:
        """The reply.

        Args:
            command: as the server takes it.
            seconds: until it must be there.

        Raises:
            ConnectionFailure: it did not get through, or the server refused it; its effect is not known.
        """
        message = {**command, "$db": self._database, "maxTimeMS": max(int(seconds * 1000), 1)}
        number, body = next(self._numbers) % NUMBERS, bson.encode(message)
        if not (connection := self._take()):
            loop = asyncio.get_running_loop()
            began = loop.time()
            connection = await self._connect(min(seconds, OPEN_S))
            seconds = max(seconds - (loop.time() - began), 0.0)
        for one in self._listeners:
            one.started(CommandStartedEvent(message, self._database, number, connection.address, None))
        return good(await connection.send(number, body, seconds))

    def close(self) -> None:
        """Breaks off what is open."""
        for connection in [*self._open]:
            connection.close()

    def _where(self) -> Address | None:
        description: TopologyDescription = self._client.topology_description
        if description is not self._seen:  # it never changes, but is followed by another one
            self._seen = description
            primaries = (one for one in description.known_servers if one.server_type_name == "RSPrimary")
            self._primary = next((one.address for one in primaries), None)
        return self._primary

    def _take(self) -> Connection | None:
        while self._free:
            connection = self._free.pop()  # the one that was used last: what is not needed stays idle
            if connection.address == self._where():
                return connection
            connection.close()
        return None

    async def _connect(self, seconds: float) -> Connection:
        address = self._where()
        if address is None:
            raise AutoReconnect("no primary")
        connection = Connection(address, self._codec, self._done, self._lost)
        try:
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection, address[0], cast(int, address[1]), ssl=self._tls
                )
                await self._introduce(connection)
        except (OSError, PyMongoError) as error:
            connection.close()
            raise AutoReconnect(f"{address[0]}:{address[1]}: {error}") from error
        except BaseException:
            connection.close()
            raise
        self._open.add(connection)
        return connection

    async def _introduce(self, connection: Connection) -> None:
        hello: Document = {"hello": 1, "client": self._metadata}
        if self._credentials and self._credentials.username:
            hello["saslSupportedMechs"] = f"{self._credentials.source}.{self._credentials.username}"
        reply = await connection.command("admin", hello)
        if not reply.get("isWritablePrimary"):
            raise AutoReconnect("the primary until now")
        if self._credentials:
            connection.negotiated_mechs = reply.get("saslSupportedMechs", ())
            await authenticate(self._credentials, cast(AsyncConnection, connection))

    def _done(self, connection: Connection) -> None:
        if connection in self._open:
            self._free.append(connection)

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        with contextlib.suppress(ValueError):
            self._free.remove(connection)


def good(reply: Document) -> Document:
    """A reply of a command that the server has carried out.

    Raises:
        AutoReconnect: it has not, whatever the reason.
    """
    if not reply["ok"]:
        raise AutoReconnect(str(reply.get("errmsg")))
    return reply


def _is_whole(data: bytes | bytearray) -> bool:
    size: int = LENGTH.unpack_from(data)[0] if len(data) >= HEAD.size else HEAD.size
    return len(data) >= size
