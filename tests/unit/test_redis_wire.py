"""Redis' replies and pushes byte by byte, matched to who waits for them; on a transport that only listens."""

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any, cast

import pytest
from redis.exceptions import InvalidResponse, ResponseError

from mesh import redis_wire
from mesh.redis_wire import Command, Connection, Hear, Node, Request
from mesh.stack.ca import Authority


class Transport:
    """Takes what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True


def connection(hear: Hear | None = None) -> tuple[Connection, Transport]:
    """A connection on such a transport."""
    made, transport = Connection(10, hear), Transport()
    made.connection_made(cast(asyncio.Transport, transport))
    return made, transport


def ask(on: Connection, *commands: Command) -> "asyncio.Future[list[Any]]":
    """What the commands are answered."""
    request = Request(commands)
    on.ask(request)
    return request.replies


def feed_bytes(on: Connection, data: bytes) -> None:
    """Hands in bytes one by one."""
    for at in range(len(data)):
        on.data_received(data[at : at + 1])


async def test_replies_cut_anywhere_reach_their_requests() -> None:
    """However bytes are cut, each request gets as many replies as it has commands, errors among them."""
    made, transport = connection()
    first = ask(made, ("ECHO", b"\xff\r\n"), ("NO",))
    second = ask(made, ("GET", 5))
    assert transport.written == (
        b"*2\r\n$4\r\nECHO\r\n$3\r\n\xff\r\n\r\n*1\r\n$2\r\nNO\r\n*2\r\n$3\r\nGET\r\n$1\r\n5\r\n"
    )
    feed_bytes(made, b"$3\r\n\xff\r\n\r\n-ERR no such thing\r\n*2\r\n$-1\r\n:7\r\n")
    echoed, refused = await first
    assert echoed == b"\xff\r\n"
    assert isinstance(refused, ResponseError)
    assert await second == [[None, 7]]
    made.close(ConnectionResetError())


async def test_pushes_come_between_confirmations() -> None:
    """What comes unasked is heard in the call that reads it, in order, once the introduction is answered."""
    heard: list[Any] = []
    made, _ = connection(heard.append)
    introduced = ask(made, ("AUTH", "x"))
    feed_bytes(
        made,
        b"+OK\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n"
        b"*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n",
    )
    assert heard == [[b"subscribe", b"a", 1], [b"message", b"a", b"hi"], [b"subscribe", b"b", 2]]
    assert await introduced == [b"OK"]
    made.close(ConnectionResetError())


@pytest.mark.parametrize(
    ("data", "hears", "error"),
    [
        (b"+OK\r\n", False, InvalidResponse),
        (b"-NOPERM no\r\n", True, ResponseError),
        (b"?\r\n", True, InvalidResponse),
    ],
)
async def test_what_makes_no_sense_ends_a_connection(
    data: bytes, hears: bool, error: type[Exception]
) -> None:
    """A reply that nobody waits for, an error of nobody's command and what is no reply break it off."""
    made, transport = connection((lambda _: None) if hears else None)
    made.data_received(data)
    assert isinstance(made.closed.result(), error)
    assert transport.aborted
    with pytest.raises(OSError, match="closed"):
        await ask(made, ("PING",))


async def test_a_hearer_that_fails_ends_a_connection() -> None:
    """What goes wrong in the one who hears is not lost in the loop: the connection ends with it."""

    def hear(_: object) -> None:
        raise KeyError("a mistake")

    made, _ = connection(hear)
    made.data_received(b"*1\r\n+x\r\n")
    assert isinstance(made.closed.result(), KeyError)


async def test_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a request fails at once and is not sent; those before it wait on."""
    monkeypatch.setattr(redis_wire, "MOST_WAITING", 1)
    made, transport = connection()
    first = ask(made, ("PING",))
    sent = transport.written
    with pytest.raises(ConnectionError):
        await ask(made, ("PING",))
    assert transport.written == sent
    made.data_received(b"+PONG\r\n")
    assert await first == [b"PONG"]
    made.close(ConnectionResetError())


class Pleased:
    """A server that likes whatever it is sent."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(1000):
                writer.write(b"+OK\r\n")
        writer.close()
        self.ended.set()


async def test_tls_of_a_url(tmp_path: Path) -> None:
    """`rediss` trusts the CA that its URL names and no other server's certificate."""
    Authority(tmp_path).issue(["localhost", "other"])
    for name, is_trusted in (("localhost", True), ("other", False)):
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
        pleased = Pleased()
        async with await asyncio.start_server(pleased, "localhost", 0, ssl=tls) as server:
            port = server.sockets[0].getsockname()[1]
            node = Node(f"rediss://localhost:{port}?ssl_ca_certs={tmp_path / 'ca.pem'}", 10)
            if is_trusted:
                assert await node.ask(("PING",)) == [b"OK"]
                node.close()
                await pleased.ended.wait()
            else:
                with pytest.raises(ssl.SSLCertVerificationError):
                    await node.ask(("PING",))


async def test_a_socket_in_a_directory(tmp_path: Path) -> None:
    """`unix` is a path."""
    pleased = Pleased()
    async with await asyncio.start_unix_server(pleased, tmp_path / "s"):
        node = Node(f"unix://{tmp_path / 's'}", 10)
        assert await node.ask(("PING",)) == [b"OK"]
        node.close()
        await pleased.ended.wait()
