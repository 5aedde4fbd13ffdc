"""One connection with one channel to RabbitMQ that comes back by itself; and the library's, for what is rare.

Each connection, the first like every later one, goes the same way: declare, connect, set up. In between there
is none, so that a publish fails at once instead of waiting for a broker that may stay away.
"""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import aio_pika
import structlog
from aio_pika.connection import make_url
from aio_pika.exceptions import AMQPError, ChannelPreconditionFailed
from pamqp.exceptions import PAMQPException

from mesh.amqp.broker import Broker
from mesh.amqp.topology import Topology, declare
from mesh.amqp.wire import CLOSE_TIMEOUT, DOWN, Wire, connect
from mesh.errors import Unavailable

log = structlog.get_logger()

CONNECT_TIMEOUT = 10.0
"""Seconds for connecting and for everything that is declared after it."""

RECONNECT_PAUSE = 0.5
"""Mean seconds between attempts; jittered, so that a fleet does not come back in step."""

ERRORS = AMQPError, PAMQPException, OSError, RuntimeError, StopAsyncIteration
"""Of the library's. Closed channels raise RuntimeError; the last comes where the broker hangs up early."""

Setup = Callable[[Wire], Awaitable[None]]


class Link:
    """A connection that comes back; an async context manager that opens in the background.

    Args:
        url: the broker, amqp://user:password@host:port/vhost; a cluster's nodes separated by white space.
        topology: declared on every connection.
        name: shown in the broker's list of connections.
        setup: called with every new connection, before the link counts as ready.
    """

    def __init__(self, url: str, topology: Topology, *, name: str, setup: Setup | None = None) -> None:
        nodes = url.split()
        random.shuffle(nodes)  # a fleet spreads over them
        self._nodes = itertools.cycle(nodes)
        self._topology = topology
        self._name = name
        self._setup = setup
        self._wire: Wire | None = None
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Link":
        self._task = asyncio.create_task(self._run(), name=f"amqp {self._name}")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def is_ready(self) -> bool:
        """Whether there is a connection now."""
        return self._wire is not None

    async def ready(self) -> None:
        """Waits until there is a connection."""
        await self._ready.wait()

    def wire(self) -> Wire:
        """The connection.

        Raises:
            Unavailable: there is none now.
        """
        if self._wire is None:
            raise Unavailable(DOWN)
        return self._wire

    async def _run(self) -> None:
        told = False  # one line when it goes and one when it is back, however long it takes
        while True:
            try:
                async with self._opened() as wire:
                    log.info("broker connected", link=self._name)
                    told = False
                    await wire.lost()
            except Exception as error:  # whatever it was, the next attempt may go better
                if not told:
                    log.warning("broker lost", link=self._name, cause=_explain(error))
                told = True
            await asyncio.sleep(RECONNECT_PAUSE * random.uniform(0.5, 1.5))  # noqa: S311  # jitter

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[Wire]:
        wire = None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                node = next(self._nodes)
                async with connected(node) as connection:
                    with translated():
                        await declare(await connection.channel(), self._topology)
                wire = await connect(Broker.of(node), self._name)
                if self._setup:
                    await self._setup(wire)
            self._wire = wire
            self._ready.set()
            yield wire
        finally:
            self._wire = None
            self._ready.clear()
            if wire:
                await wire.aclose()


def _explain(error: Exception) -> str:
    cause = error.__cause__ or error
    cure = (
        " Give every process the same queue settings, or delete the queue once it has run empty."
        if isinstance(cause, ChannelPreconditionFailed)
        else ""
    )
    return f"{type(cause).__name__}: {cause}{cure}"


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[aio_pika.abc.AbstractConnection]:
    """A connection of the library's: to the first node that answers, and no second try.

    Raises:
        Unavailable: none answers.
    """
    last: BaseException | None = None
    for node in url.split():
        # Not aio_pika.connect(): a connection that never came about must be closed as well.
        connection = aio_pika.Connection(make_url(node))
        try:
            try:
                with translated():
                    async with asyncio.timeout(CONNECT_TIMEOUT):
                        await connection.connect()
            except (Unavailable, TimeoutError) as error:
                last = error.__cause__ or error
                continue
            yield connection
            return
        finally:
            with contextlib.suppress(Unavailable, TimeoutError), translated():
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await connection.close()
    raise Unavailable(DOWN) from last


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turns what aio-pika and its layers raise into Unavailable, with the original as its cause."""
    try:
        yield
    except ERRORS as error:
        raise Unavailable(DOWN) from error
    except asyncio.CancelledError as error:
        # A dying connection cancels the futures that we wait on, without anybody having cancelled us.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Unavailable(DOWN) from error
