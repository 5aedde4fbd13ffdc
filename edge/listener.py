"""The HTTP listener: uvicorn inside our own lifecycle, with connections that wait for nobody for ever."""

import asyncio
import contextlib
import math
import socket
from collections.abc import Generator

import uvicorn
from starlette.types import ASGIApp

from edge.patience import PatientHttp


class HttpServer(uvicorn.Server):
    """uvicorn that does not touch the signals.

    Args:
        app: the ASGI application.
        listen: host:port.
        grace: seconds that running requests may take when it stops.
        patience: seconds that a client may take for a request.
    """

    def __init__(self, app: ASGIApp, listen: str, *, grace: float, patience: float) -> None:
        host, _, port = listen.rpartition(":")
        self._ended = asyncio.Event()
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=int(port),
                http=type("Protocol", (PatientHttp,), {"patience": patience}),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # edge.addresses says whose word counts
                timeout_graceful_shutdown=math.ceil(grace),
            )
        )

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves until `drain`."""
        try:
            await super().serve(sockets)
        finally:
            self._ended.set()

    async def drain(self) -> None:
        """Takes no new requests, and returns when the running ones are answered."""
        self.should_exit = True
        await self._ended.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leaves SIGTERM and SIGINT to the process's lifecycle."""
        yield
