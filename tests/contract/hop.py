"""A hop before the system under test or one of its parts, for what networks do."""

import asyncio
from urllib.parse import urlsplit


class Hop:
    """A hop before the system that loses connections, swallows what the server says, refuses WebSockets."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "", parts.port or 80)
        self._pumps: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._port = 0
        self.hears = asyncio.Event()
        self.hears.set()
        self.takes_sockets = True
        self.opened = 0

    async def __aenter__(self) -> "Hop":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Takes connections, at the same address as before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Takes no connections, and loses those that there are."""
        assert self._server
        self._server.close()
        await self.cut()

    @property
    def url(self) -> str:
        """The system, through this hop."""
        return f"http://127.0.0.1:{self._port}"

    async def cut(self) -> None:
        """Loses every connection."""
        pumps = tuple(self._pumps)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        head = await reader.read(65536)
        if b"upgrade: websocket" in head.lower() and not self.takes_sockets:
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        far_writer.write(head)
        for source, sink, gate in ((reader, far_writer, None), (far_reader, writer, self.hears)):
            pump = asyncio.create_task(self._pump(source, sink, gate))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: asyncio.Event | None
    ) -> None:
        try:
            while data := await source.read(65536):
                if gate is not None:
                    await gate.wait()
                sink.write(data)
        finally:
            sink.transport.abort()
