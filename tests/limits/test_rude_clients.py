"""Clients that say nothing, say it slowly, or do not listen: each is let go, and nobody else suffers."""

import asyncio
import json
import os
from collections.abc import AsyncIterator

import psutil
import pytest
from websockets.frames import Opcode

from tests.limits.support import Edge, Rude, ask, frame, running_edge, token, until

OUTBOUND = 256 * 1024
PUSHED = 64 * 1024
MIB = 2**20


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    """An edge with little patience."""
    async with running_edge(patience_seconds=0.5, ping_seconds=0.3, outbound_bytes=OUTBOUND) as edge:
        yield edge


@pytest.fixture
async def rude(edge: Edge) -> AsyncIterator[Rude]:
    """A client that has opened a TCP connection to the WebSocket's port."""
    async with await Rude.meets(edge.ws) as rude:
        yield rude


# ── silence ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_who_answers_no_ping_is_dead(edge: Edge, rude: Rude) -> None:
    """A socket that sends nothing and answers no ping is pinged twice, and closed with 4003."""
    await rude.signs_in("ann")
    heard = [await rude.hears() for _ in range(3)]
    assert [opcode for opcode, _ in heard] == [Opcode.PING, Opcode.PING, Opcode.CLOSE]
    assert int.from_bytes(heard[-1][1][:2]) == 4003
    assert await rude.ends() == b"", "the connection ends, also when the close is not answered"
    await until(lambda: len(edge.gateway) == 0)
    assert not edge.hub.followers["ann"]


async def test_who_answers_pings_lives(edge: Edge) -> None:
    """A socket that only answers pings stays open."""
    async with edge.socket() as socket:
        assert "result" in await ask(socket, "session.connect", token=token("ann"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.recv(), 2)
        assert "result" in await ask(socket, "session.ping")


async def test_who_talks_lives(edge: Edge, rude: Rude) -> None:
    """A socket that answers no ping but goes on talking is not dead."""
    await rude.signs_in("ann")
    pings = 0
    while pings < 6:
        opcode, _ = await rude.hears()
        assert opcode != Opcode.CLOSE
        if opcode == Opcode.PING:
            pings += 1
            rude.says("session.ping")


async def test_who_never_signs_in(rude: Rude) -> None:
    """Also a socket without a session that answers nothing ends; who stays alive is closed with 4501."""
    await rude.opens()
    assert await rude.is_closed_with() == 4003
    async with (
        running_edge(connect_seconds=0.3, patience_seconds=0.5) as edge,
        await Rude.meets(edge.ws) as other,
    ):
        await other.opens()
        assert await other.is_closed_with() == 4501
        assert await other.ends() == b""


# ── slow writers ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_dribbled_frame(rude: Rude) -> None:
    """Who does not finish a frame in time is closed with 4003."""
    await rude.signs_in("ann")
    dribbling = asyncio.create_task(rude.dribbles(frame(b"x" * 10_000), 0.02))
    assert await rude.is_closed_with() == 4003
    dribbling.cancel()


async def test_a_message_in_endless_pieces(rude: Rude) -> None:
    """Nor does it help to send whole frames that never make a whole message, and to answer pings."""
    await rude.signs_in("ann")

    async def pieces() -> None:
        rude.writer.write(frame(b"{", fin=False))
        while True:
            rude.writer.write(frame(b" ", Opcode.CONT, fin=False) + frame(b"", Opcode.PONG))
            await asyncio.sleep(0.05)

    sending = asyncio.create_task(pieces())
    assert await rude.is_closed_with() == 4003
    sending.cancel()


async def test_a_slow_but_whole_message(edge: Edge, rude: Rude) -> None:
    """A message that comes in pieces within the time is answered, and the next one has its own time."""
    await rude.signs_in("ann")
    whole = frame(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "session.ping"}).encode())
    for _ in range(4):
        await rude.dribbles(whole, 0.3 / len(whole))
        while (heard := await rude.hears())[0] != Opcode.TEXT:
            rude.writer.write(frame(b"", Opcode.PONG))
        assert b"server_time" in heard[1]


HEAD = b"GET /readyz HTTP/1.1\r\nHost: x\r\nX-Padding: " + b"x" * 1_000
POST = b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nAuthorization: Bearer "


async def test_a_dribbled_upgrade(rude: Rude) -> None:
    """A handshake that is not whole in time ends the connection."""
    dribbling = asyncio.create_task(rude.dribbles(HEAD, 0.02))
    await rude.ends()
    dribbling.cancel()


@pytest.mark.parametrize("begins", [b"", HEAD[:1], HEAD, POST + token("ann").encode() + b"\r\n\r\n{"])
async def test_a_dribbled_request(edge: Edge, begins: bytes) -> None:
    """A request that does not begin, or whose head or body does not come in time, is answered with 408."""
    async with await Rude.meets(edge.http) as rude:
        rude.writer.write(begins)
        dribbling = asyncio.create_task(rude.dribbles(b"x" * 1_000, 0.02) if len(begins) > 1 else _nothing())
        assert (await rude.ends()).startswith(b"HTTP/1.1 408")
        dribbling.cancel()


async def _nothing() -> None:
    return None


async def test_blank_lines_after_an_answer(edge: Edge) -> None:
    """Nor is a connection kept by what is no request, once it has been answered."""
    async with await Rude.meets(edge.http) as rude:
        rude.writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await rude.reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")
        dribbling = asyncio.create_task(rude.dribbles(b"\r\n" * 1_000, 0.02))
        assert (await rude.ends()).startswith(b"HTTP/1.1 408")
        dribbling.cancel()


async def test_an_endless_head(edge: Edge) -> None:
    """A request's head is refused with 431 once it is too long, however fast it comes."""
    async with await Rude.meets(edge.http) as rude:
        rude.writer.write(HEAD + b"x" * 64 * 1024)
        assert (await rude.ends()).startswith(b"HTTP/1.1 431")


async def test_long_requests_are_none_of_that(edge: Edge) -> None:
    """Requests near the body's limit, one after the other on one connection, are answered."""
    async with edge.client(token=token("ann")) as http:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "session.ping"})
        for _ in range(4):
            answer = await http.post("/rpc", content=body + " " * (64 * 1024 - len(body)))
            assert "result" in answer.json()


async def test_a_long_poll_is_no_dawdler(edge: Edge) -> None:
    """A request that we take long to answer is not the client's fault."""
    async with edge.client(token=token("ann")) as http:
        assert (await http.get("/events", params={"wait": 1.5})).json()["events"] == []


# ── slow readers ────────────────────────────────────────────────────────────────────────────────────────────


async def test_who_does_not_read_events(edge: Edge, rude: Rude) -> None:
    """Who reads nothing is closed with 4001: what waits is bounded, memory too, and others go on hearing."""
    async with await Rude.meets(edge.ws, room=4096) as deaf, edge.socket(max_size=None) as other:
        await deaf.signs_in("ann")
        assert "result" in await ask(other, "session.connect", token=token("bob"))
        [connection] = [s._connection for s in edge.gateway._sockets if s.user_id == "ann"]
        before, most = psutil.Process(os.getpid()).memory_info().rss, 0
        for number in range(1_000):
            edge.hub.push("ann", PUSHED)
            most = max(most, connection.transport.get_write_buffer_size())
            if number % 100 == 0:
                edge.hub.push("bob", 10)
                assert json.loads(await other.recv())["method"] == "typing"
        assert OUTBOUND < most < OUTBOUND + 2 * PUSHED
        assert psutil.Process(os.getpid()).memory_info().rss - before < 16 * MIB, "64 MiB were pushed"
        await until(lambda: len(edge.gateway) == 1)
        sent = connection.protocol.close_sent
        assert sent is not None
        assert sent.code == 4001
        assert "result" in await ask(other, "session.ping")


async def test_who_reads_late_learns_why(edge: Edge) -> None:
    """A slow client that reads on finds the close frame behind what had been written."""
    async with await Rude.meets(edge.ws, room=4096) as slow:
        await slow.signs_in("ann")
        for _ in range(200):
            edge.hub.push("ann", PUSHED)
        assert await slow.is_closed_with() == 4001


async def test_who_does_not_read_answers(edge: Edge) -> None:
    """Who calls on and on and takes no answer is let go as well, and takes no more memory."""
    async with await Rude.meets(edge.ws, room=4096) as deaf:
        await deaf.signs_in("ann")
        [connection] = [s._connection for s in edge.gateway._sockets]
        most = 0
        for _ in range(2_000):  # 54 MB of answers
            deaf.says("rpc.discover")
            most = max(most, connection.transport.get_write_buffer_size())
            await asyncio.sleep(0)
        await until(lambda: len(edge.gateway) == 0)
        assert most < OUTBOUND + 64 * 1024


async def test_who_does_not_read_a_stream(edge: Edge) -> None:
    """A stream that nobody takes is cut off, and what waits for it is bounded."""
    async with await Rude.meets(edge.http, room=4096) as deaf:
        deaf.writer.write(
            f"GET /events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token('ann')}\r\n\r\n".encode()
        )
        assert (await deaf.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        await until(lambda: edge.hub.followers.get("ann"))
        [follower] = edge.hub.followers["ann"]
        before = psutil.Process(os.getpid()).memory_info().rss
        for _ in range(1_000):
            edge.hub.push("ann", PUSHED)
            await asyncio.sleep(0)
        assert psutil.Process(os.getpid()).memory_info().rss - before < 16 * MIB
        await until(lambda: follower not in edge.hub.followers["ann"])
