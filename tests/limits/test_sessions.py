"""A user with too many sessions, on real listeners."""

import json
from contextlib import AsyncExitStack

import pytest
from websockets.exceptions import ConnectionClosed

from tests.limits.support import ask, running_edge, token, until


async def test_the_oldest_socket_is_closed() -> None:
    """One session too many: the oldest is closed with 4503, the others go on, and other users' as well."""
    async with running_edge(user_sessions=2) as edge, AsyncExitStack() as leave:
        sockets = [await leave.enter_async_context(edge.socket()) for _ in range(4)]
        *mine, other = sockets
        assert "result" in await ask(other, "session.connect", token=token("bob"))
        for socket in mine:
            assert "result" in await ask(socket, "session.connect", token=token("ann"))
        with pytest.raises(ConnectionClosed):
            await mine[0].recv()
        assert mine[0].close_code == 4503
        for socket in (*mine[1:], other):
            assert "result" in await ask(socket, "session.ping")


async def test_a_socket_that_signs_in_again_takes_no_second_place() -> None:
    """However often a socket calls session.connect, it is one session; when it is closed, it is none."""
    async with running_edge(user_sessions=2) as edge, edge.socket() as first:
        async with edge.socket() as second:
            for socket in (first, second, second, second):
                assert "result" in await ask(socket, "session.connect", token=token("ann"))
        await until(lambda: len(edge.gateway) == 1)
        async with edge.socket() as third:
            assert "result" in await ask(third, "session.connect", token=token("ann"))
            assert "result" in await ask(first, "session.ping")


async def test_streams_of_the_fallback_are_sessions() -> None:
    """A stream of events is a session as well: it is ended for a newer one, and ends an older socket."""
    async with running_edge(user_sessions=1) as edge, edge.socket() as socket:
        assert "result" in await ask(socket, "session.connect", token=token("ann"))
        async with (
            edge.client(token=token("ann")) as http,
            http.stream("GET", "/events/stream") as stream,
        ):
            lines = stream.aiter_lines()
            assert (await anext(lines)).startswith("retry")
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert socket.close_code == 4503
            async with edge.socket() as newest:
                assert "result" in await ask(newest, "session.connect", token=token("ann"))
                assert [line async for line in lines if line.startswith("data")] == []
                edge.hub.push("ann", 1)
                assert json.loads(await newest.recv())["method"] == "typing"
