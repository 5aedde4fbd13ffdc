"""One connection with one channel to RabbitMQ that comes back by itself.

Each connection, the first like every later one, goes the same way: connect, declare, set up. In between there
is none, so that a publish fails at once instead of waiting for a broker that may stay away.
"""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

from mesh.amqp.broker import Broker
from mesh.amqp.topology import Topology, declare
from mesh.amqp.wire import DOWN, PRECONDITION_FAILED, ClosedError, Wire, connect
from mesh.errors import Unavailable

log = structlog.get_logger()

CONNECT_TIMEOUT = 10.0
"""Seconds for connecting and for everything that is declared after it."""

RECONNECT_PAUSE = 0.5
"""Mean seconds between attempts; jittered, so that a fleet does not come back in step."""

CURE = "Give every process the same queue settings, or delete the queue once it has run empty."
"""What helps when a queue is there with other arguments."""

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
        brokers = [Broker.of(node) for node in url.split()]
        random.shuffle(brokers)  # a fleet spreads over the nodes
        self._brokers = itertools.cycle(brokers)
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
                wire = await connect(next(self._brokers), self._name)
                await declare(wire, self._topology)
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
    return f"{type(cause).__name__}: {cause}{f'. {CURE}' if is_precondition(cause) else ''}"


def is_precondition(cause: BaseException | None) -> bool:
    """Whether a queue or an exchange is there with other arguments."""
    return isinstance(cause, ClosedError) and cause.code == PRECONDITION_FAILED


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Wire]:
    """One connection for a command: to the first node that answers, and no second try.

    Raises:
        Unavailable: none answers.
    """
    last: Exception = Unavailable("There is no broker to connect to.")
    for node in url.split():
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                wire = await connect(Broker.of(node), "command")
            break
        except (Unavailable, TimeoutError) as error:
            last = error
    else:
        raise Unavailable(DOWN) from last
    try:
        yield wire
    finally:
        await wire.aclose()
