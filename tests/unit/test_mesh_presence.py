"""The register of presence over a node that falls silent in the middle of a conversation."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from mesh.errors import Unavailable
from mesh.presence import Register


@pytest.fixture
async def silent(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A node that lets clients in, and answers nothing about scripts any more; its URL."""
    monkeypatch.setattr("mesh.presence.TIMEOUT", 0.05)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if b"SCRIPT" not in data:
                writer.write(b"+OK\r\n" * data.count(b"*"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()


async def test_a_silent_node_costs_no_connections(silent: str) -> None:
    """However often it is asked in vain, no connection stays taken from the pool."""
    async with Register([silent], place="here") as register:
        for _ in range(5):
            with pytest.raises(Unavailable):
                await register.here(["ann"])
        assert not register._nodes[0].connection_pool._in_use_connections
