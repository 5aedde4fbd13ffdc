"""Connections that wait for nobody for ever: WebSockets of `websockets`, HTTP connections of uvicorn.

A peer that sends nothing, sends byte by byte, reads nothing, or does not hang up is let go after a bound.
"""

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from edge.session import Close

MISSED_PINGS = 2
"""Pings in a row without a sign of life, after which a socket is dead."""

MAX_HEAD = 64 * 1024
"""Bytes of a request's line and headers. NGINX has its own, smaller bound; this is for who comes past it."""

LINGER = 1.0
"""Seconds that a refused client has to take the answer in."""


class PatientConnection(ServerConnection):
    """A WebSocket that ends with `Close.IDLE` when its client is dead or dawdles over a message.

    Its own pings, instead of the library's: those wait for room to write, which a client that does not read
    never makes, and take a task each.

    Args:
        patience: seconds from a message's first byte to its last.

    Attributes:
        address: under which the client is counted.
    """

    def __init__(self, *args: Any, patience: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.address = ""
        self._patience = patience
        self._heard = False
        self._missed = 0
        self._pulse: asyncio.TimerHandle | None = None
        self._unfinished: asyncio.TimerHandle | None = None
        self._last_resort: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    def hang_up(self, code: Close, reason: str) -> None:
        """Begins to close without waiting for the other side; it is cut off where it does not answer."""
        if self._closing is None:
            self._closing = self.loop.create_task(self.close(code, reason))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """See `Connection.close`; ends also where nothing more can be written."""
        self._cut_off_in_the_end()
        await super().close(code, reason)

    def _cut_off_in_the_end(self) -> None:
        if self._last_resort is None and self.protocol.state is not State.CLOSED:
            self._last_resort = self.loop.call_later(self.close_timeout or 0, self.transport.abort)

    # ── the pulse ───────────────────────────────────────────────────────────────────────────────────────────

    def start_keepalive(self) -> None:
        """See `Connection.start_keepalive`."""
        assert self.ping_interval is not None  # noqa: S101  # the server has set it
        self._pulse = self.loop.call_later(self.ping_interval, self._beat)

    def _beat(self) -> None:
        if self.protocol.state is not State.OPEN:
            return
        if self._heard:
            self._heard, self._missed = False, 0
        if self._missed == MISSED_PINGS:
            self.hang_up(Close.IDLE, "nothing was heard, and no ping was answered")
            return
        self._missed += 1
        self.protocol.send_ping(b"")
        self.send_data()
        self.start_keepalive()

    # ── messages that do not end ────────────────────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        super().data_received(data)
        self._heard = True
        protocol = self.protocol
        if protocol.state is State.OPEN:
            if not protocol.reader.buffer and protocol.current_size is None:
                if self._unfinished is not None:
                    self._unfinished.cancel()
                    self._unfinished = None
            elif self._unfinished is None:
                self._unfinished = self.loop.call_later(self._patience, self._dawdled)
        elif protocol.state is State.CLOSING:
            self._cut_off_in_the_end()  # also where the library failed the connection itself

    def _dawdled(self) -> None:
        if self.recv_messages.paused:  # it is us who do not read on
            self._unfinished = self.loop.call_later(self._patience, self._dawdled)
        else:
            self.hang_up(Close.IDLE, "a message took too long to come")

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        for timer in (self._pulse, self._unfinished, self._last_resort):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)


def patient(seconds: float) -> Callable[..., PatientConnection]:
    """Makes connections with so much patience, for `serve(create_connection=…)`."""
    return functools.partial(PatientConnection, patience=seconds)


class PatientHttp(HttpToolsProtocol):
    """An HTTP connection whose requests must come in time, and whose answers must be taken.

    Attributes:
        patience: seconds for a whole request, and for any progress in taking an answer.
    """

    patience = 15.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._head = 0
        self._in_head, self._went_on, self._refused = True, False, False
        self._stalled: asyncio.TimerHandle | None = None
        self._unfinished: asyncio.TimerHandle | None = self.loop.call_later(self.patience, self._dawdled)

    # ── requests that do not end ────────────────────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._refused:
            return
        if self._unfinished is None:
            self._unfinished = self.loop.call_later(self.patience, self._dawdled)
        self._went_on = False
        super().data_received(data)
        if self._in_head and not self._went_on:
            self._head += len(data)
            if self._head > MAX_HEAD:
                self._refuse(431)

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._in_head, self._went_on = False, True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """See httptools."""
        self._in_head, self._went_on, self._head = True, True, 0
        if self._unfinished is not None:
            self._unfinished.cancel()
            self._unfinished = None
        super().on_message_complete()

    def _dawdled(self) -> None:
        if self.flow.read_paused:  # it is us who do not read on
            self._unfinished = self.loop.call_later(self.patience, self._dawdled)
        else:
            self._refuse(408)

    def _refuse(self, status: int) -> None:
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(STATUS_LINE[status] + b"connection: close\r\ncontent-length: 0\r\n\r\n")
        # To close while something is unread would reset the connection, and lose the answer (RFC 9112, 9.6).
        self.transport.write_eof()
        self.loop.call_later(LINGER, self.transport.abort)

    # ── answers that nobody takes ───────────────────────────────────────────────────────────────────────────

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        super().pause_writing()
        self._await_progress()

    def _await_progress(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        self._stalled = self.loop.call_later(self.patience, self._look_at_progress, waiting)

    def _look_at_progress(self, before: int) -> None:
        if self.transport.get_write_buffer_size() < before:
            self._await_progress()
        else:
            self.transport.abort()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        for timer in (self._unfinished, self._stalled):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
