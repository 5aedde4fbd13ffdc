"""A TCP hop before each port that breaks connections as told. Run: python -m faults.proxy PORT:TARGET … .

A line on standard input is `PORT MODE [SECONDS]`. Modes:
  open    passes everything on
  reset   closes every connection at once; new ones pass
  closed  closes every connection and refuses new ones
  delay   holds everything back for SECONDS, in its order
  mute    passes what clients send, and holds back every answer
  frozen  holds back everything; new connections are accepted and go nowhere
It prints `ready` when it listens, and ends with its standard input.
"""

import asyncio
import sys
from collections import deque
from typing import cast

import uvloop

LOOPBACK = "127.0.0.1"
MODES = ("open", "reset", "closed", "delay", "mute", "frozen")


class Hop:
    """One listening port and the connections through it."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self.target = target
        self.mode = "open"
        self.delay = 0.0
        self.ends: set[End] = set()
        self.passing = asyncio.Event()
        self.passing.set()

    def set(self, mode: str, seconds: float) -> None:
        """Begins a mode."""
        self.mode = "open" if mode == "reset" else mode
        self.delay = seconds if mode == "delay" else 0.0
        if mode == "frozen":
            self.passing.clear()
        else:
            self.passing.set()
        for end in tuple(self.ends):
            if mode in ("reset", "closed"):
                end.abort()
            else:
                end.look()


class End(asyncio.Protocol):
    """One end of a connection: the client's (which was accepted) or the server's (which was made)."""

    def __init__(self, hop: Hop, other: "End | None" = None) -> None:
        self.hop = hop
        self.other = other
        self.is_client = other is None
        self.transport: asyncio.Transport | None = None
        self._held: deque[tuple[float, bytes]] = deque()  # what this end sent and the other one has not got
        self._choked = False  # the other end cannot take more

    # ── asyncio.Protocol ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes its place, and for a client reaches out for the server."""
        self.transport = cast(asyncio.Transport, transport)
        self.hop.ends.add(self)
        if self.hop.mode == "closed":
            self.abort()
            return
        self.look()
        if self.is_client:
            self._reaching = asyncio.ensure_future(self._reach())
        elif self.other:
            self.other.other = self
            self.other.pump()

    async def _reach(self) -> None:
        loop = asyncio.get_running_loop()
        await self.hop.passing.wait()
        try:
            await loop.create_connection(lambda: End(self.hop, self), LOOPBACK, self.hop.target)
        except OSError:
            self.abort()

    def data_received(self, data: bytes) -> None:
        """Passes on, at once or later, in any case in order."""
        due = asyncio.get_running_loop().time() + self.hop.delay
        self._held.append((due, data))
        self.pump()

    def pump(self) -> None:
        """Passes on what is due."""
        if self.other is None or self.other.transport is None:
            return
        loop = asyncio.get_running_loop()
        while self._held:
            due, data = self._held[0]
            if due > loop.time():
                loop.call_at(due, self.pump)
                return
            self._held.popleft()
            if not self.other.transport.is_closing():
                self.other.transport.write(data)

    def eof_received(self) -> bool:
        """The whole connection ends with either side."""
        return False

    def connection_lost(self, _error: Exception | None) -> None:
        """Ends the other side, too, after what is still on its way."""
        self.hop.ends.discard(self)
        self.transport = None
        if self.other and self.other.transport:
            if self.hop.mode in ("frozen", "mute"):
                return  # nobody tells anybody anything
            asyncio.get_running_loop().call_later(self.hop.delay + 0.01, self.other.transport.close)

    def pause_writing(self) -> None:
        """Backpressure."""
        if self.other:
            self.other._choked = True
            self.other.look()

    def resume_writing(self) -> None:
        """The end of backpressure."""
        if self.other:
            self.other._choked = False
            self.other.look()

    # ── as told ──

    def look(self) -> None:
        """Reads or does not, as the mode wants it."""
        if self.transport is None:
            return
        held_back = self.hop.mode == "frozen" or (self.hop.mode == "mute" and not self.is_client)
        if held_back or self._choked:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()
            if self.other and self.other.transport is None:
                self.transport.close()  # the other side left while nothing was told

    def abort(self) -> None:
        """Ends it without a goodbye (RST)."""
        if self.transport:
            self.transport.abort()


async def serve(pairs: list[tuple[int, int]]) -> None:
    """Listens until standard input ends."""
    loop = asyncio.get_running_loop()
    hops = {port: Hop(port, target) for port, target in pairs}
    for hop in hops.values():
        await loop.create_server(lambda hop=hop: End(hop), LOOPBACK, hop.port, backlog=1024)  # type: ignore[misc]
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("ready", flush=True)  # noqa: T201  # to whoever started us
    while line := await reader.readline():
        port, mode, *seconds = line.decode().split()
        hops[int(port)].set(mode, float(seconds[0]) if seconds else 0.0)


if __name__ == "__main__":
    uvloop.run(
        serve([(int(port), int(target)) for port, _, target in (arg.partition(":") for arg in sys.argv[1:])])
    )
