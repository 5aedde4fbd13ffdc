"""One connection with one channel to RabbitMQ that comes back by itself, and the translation of its errors.

Each connection, the first like every later one, goes the same way: connect, declare, set up. In between there
is no channel, so that a publish fails at once instead of waiting for a broker that may stay away.
"""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel
from aio_pika.connection import make_url
from aio_pika.exceptions import AMQPError, ChannelPreconditionFailed
from pamqp.exceptions import PAMQPException

from mesh.amqp.topology import Topology, declare
from mesh.errors import Unavailable

log = structlog.get_logger()

CONNECT_TIMEOUT = 10.0
"""Seconds for connecting and for everything that is declared after it."""

CLOSE_TIMEOUT = 3.0
"""Seconds that a broker gets to say goodbye."""

RECONNECT_PAUSE = 0.5
"""Mean seconds between attempts; jittered, so that a fleet does not come back in step."""

HEARTBEAT = 10
"""Seconds; a broker that is silent for about two of them is gone."""

Setup = Callable[[AbstractChannel], Awaitable[None]]


class Link:
    """A channel that comes back; an async context manager that opens in the background.

    Args:
        url: the broker, amqp://user:password@host:port/vhost; a cluster's nodes separated by white space.
        topology: declared on every connection.
        name: shown in the broker's list of connections.
        setup: called with every new channel, before the link counts as ready.
    """

    def __init__(self, url: str, topology: Topology, *, name: str, setup: Setup | None = None) -> None:
        urls = [make_url(node, heartbeat=HEARTBEAT) for node in url.split()]
        random.shuffle(urls)  # a fleet spreads over the nodes
        self._urls = itertools.cycle(urls)
        self._topology = topology
        self._name = name
        self._setup = setup
        self._channel: AbstractChannel | None = None
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
        """Whether there is a channel now."""
        return self._channel is not None

    async def ready(self) -> None:
        """Waits until there is a channel."""
        await self._ready.wait()

    def channel(self) -> AbstractChannel:
        """The channel.

        Raises:
            Unavailable: there is none now.
        """
        if self._channel is None:
            raise Unavailable("The queue is down; try again.")
        return self._channel

    async def _run(self) -> None:
        told = False  # one line when it goes and one when it is back, however long it takes
        while True:
            try:
                with translated():
                    async with self._opened() as lost:
                        log.info("broker connected", link=self._name)
                        told = False
                        await lost.wait()
                        raise Unavailable("The broker closed the channel.")
            except Exception as error:  # whatever it was, the next attempt may go better
                if not told:
                    log.warning("broker lost", link=self._name, cause=_explain(error))
                told = True
            await asyncio.sleep(RECONNECT_PAUSE * random.uniform(0.5, 1.5))  # noqa: S311  # jitter

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[asyncio.Event]:
        lost = asyncio.Event()
        # Not aio_pika.connect(): a connection that never came about must be closed as well.
        connection = aio_pika.Connection(next(self._urls), client_properties={"connection_name": self._name})
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await connection.connect()
                channel = await self._open_channel(connection, lost)
            self._channel = channel
            self._ready.set()
            yield lost
        finally:
            self._channel = None
            self._ready.clear()
            with contextlib.suppress(Unavailable), translated():
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await connection.close()

    async def _open_channel(
        self, connection: aio_pika.abc.AbstractConnection, lost: asyncio.Event
    ) -> AbstractChannel:
        channel = connection.channel(on_return_raises=True)
        await channel.initialize()
        channel.close_callbacks.add(lambda *_: lost.set())
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda *_: lost.set())
        await declare(channel, self._topology)
        if self._setup:
            await self._setup(channel)
        return channel


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
    """One connection for a command: to the first node that answers, and no second try.

    Raises:
        Unavailable: none answers.
    """
    last: Exception = Unavailable("There is no broker to connect to.")
    for node in url.split():
        try:
            with translated():
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    connection = await aio_pika.connect(node)
            break
        except (Unavailable, TimeoutError) as error:
            last = error
    else:
        raise Unavailable("The queue is down; try again.") from last
    async with connection:
        yield connection


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turns what aio-pika and its layers raise into Unavailable, with the original as its cause."""
    try:
        yield
    except (AMQPError, PAMQPException, OSError, RuntimeError) as error:  # closed channels raise RuntimeError
        raise Unavailable("The queue is down; try again.") from error
    except asyncio.CancelledError as error:
        # A dying connection cancels the futures that we wait on, without anybody having cancelled us.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Unavailable("The queue is down; try again.") from error
