"""The load generator's WebSocket, as cheap as can be: raw frames, told apart by their first bytes.

It takes the server's JSON as the server writes it, member by member; anything else raises, so that no figure
comes from frames that were not understood.
"""

import asyncio
import enum
import socket
import struct
from collections.abc import Callable
from typing import cast

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

NOTIFICATION = b'{"jsonrpc":"2.0","method":"'
KIND_AT = 17
"""Where result, error and method differ."""

OPEN_S = 20.0
"""Seconds for connecting and the upgrade."""

IP_BIND_ADDRESS_NO_PORT = 24
"""Of ip(7): the port is chosen when connecting, by what is free towards that peer."""

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: hanging up leaves no TIME_WAIT. With ten thousands of them the kernel takes 100 times as long to
find a port."""

# RFC 6455 wants unpredictable masks, against proxies that a browser's script would deceive. With a mask of
# zeros the text goes as it is; the server unmasks it at the same cost.
NO_MASK = bytes(4)


class Kind(enum.IntEnum):
    """What a frame is, by the byte at KIND_AT."""

    RESULT = ord("r")
    ERROR = ord("e")
    NOTIFICATION = ord("m")


def frame(text: bytes, opcode: int = 1) -> bytes:
    """A client's frame (RFC 6455, 5.2) of at most 64 KiB."""
    size = len(text)
    if size < 126:
        return bytes((0x80 | opcode, 0x80 | size)) + NO_MASK + text
    return bytes((0x80 | opcode, 0xFE, size >> 8, size & 0xFF)) + NO_MASK + text


def call(method: str, params: str, number: int) -> bytes:
    """The frame of a call; `params` is JSON."""
    return frame(f'{{"jsonrpc":"2.0","id":{number},"method":"{method}","params":{params}}}'.encode())


def kind_of(text: bytes) -> Kind:
    """What the server sent."""
    return Kind(text[KIND_AT + 1])


def number_of(text: bytes) -> int:
    """The id of an answer; the server writes it last."""
    return int(text[text.rfind(b":") + 1 : -1])


def method_of(text: bytes) -> bytes:
    """The name of a notification."""
    start = len(NOTIFICATION)
    return text[start : text.index(b'"', start)]


def member_of(text: bytes, name: bytes) -> bytes:
    """The first text member of that name, wherever it stands; it must hold no quotation mark."""
    start = text.index(b'"' + name + b'":"') + len(name) + 4
    return text[start : text.index(b'"', start)]


class Socket(asyncio.Protocol):
    """One client's connection.

    Args:
        take: called with the text of each frame.
        closed: called when the connection is gone.
    """

    __slots__ = ("_closed", "_rest", "_take", "_transport", "_upgraded")

    def __init__(self, take: Callable[[bytes], None], closed: Callable[[], None] = lambda: None) -> None:
        self._take = take
        self._closed = closed
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self._upgraded: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self, host: str, port: int, source: str) -> None:
        """Connects from the source address.

        Raises:
            OSError: nobody listens, the server refused, or it took too long (TimeoutError).
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(OPEN_S):
            plug = await _connected(host, port, source)
            await loop.create_connection(lambda: self, sock=plug)
            await self._upgraded

    def send(self, data: bytes) -> None:
        """Sends frames; those of a closed connection go nowhere."""
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """Hangs up without a goodbye."""
        if self._transport is not None:
            self._transport.abort()

    def take_by(self, take: Callable[[bytes], None]) -> None:
        """Hands frames to somebody else from now on."""
        self._take = take

    # ── asyncio.Protocol ────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)  # a stream; uvloop's is none by name
        self._transport.write(UPGRADE)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._transport = None
        if not self._upgraded.done():
            self._upgraded.set_exception(ConnectionResetError("closed before the upgrade"))
        else:
            self._closed()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._rest:
            data = self._rest + data
        self._rest = self._frames(data) if self._upgraded.done() else self._handshake(data)

    def _handshake(self, data: bytes) -> bytes:
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            return data
        if not head.startswith(b"HTTP/1.1 101"):
            self._upgraded.set_exception(ConnectionRefusedError(head.decode(errors="replace")))
            self.close()
            return b""
        self._upgraded.set_result(None)
        return self._frames(rest) if rest else b""

    def _frames(self, data: bytes) -> bytes:
        """Takes whole frames; gives what is left of the last one."""
        at, end = 0, len(data)
        while end - at >= 2:
            size, head = data[at + 1], 2
            if size == 126:
                size, head = int.from_bytes(data[at + 2 : at + 4]), 4
            elif size == 127:
                size, head = int.from_bytes(data[at + 2 : at + 10]), 10
            if end - at < head + size:
                break
            opcode, text = data[at] & 15, data[at + head : at + head + size]
            at += head + size
            if opcode == 1:
                self._take(text)
            elif opcode == 9:
                self.send(frame(text, opcode=10))
        return data[at:]


async def _connected(host: str, port: int, source: str) -> socket.socket:
    plug = socket.socket()
    try:
        plug.setblocking(False)
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        plug.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        plug.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(plug, (host, port))
    except BaseException:
        plug.close()
        raise
    return plug
