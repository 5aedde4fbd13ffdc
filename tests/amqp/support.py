"""What the queue tests share: events told apart by a name, and a handler that records what it gets."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from mesh.amqp import DONE, Outcome, Received, Topology
from messenger.events.v1.queue_pb2 import Event, MessageAccepted, ReadAdvanced


def event(name: str) -> Event:
    """An event that needs no antispam."""
    return Event(read_advanced=ReadAdvanced(chat_id=name))


def message(message_id: str, text: str = "Is it still for sale?") -> Event:
    """A message on its way to antispam."""
    accepted = MessageAccepted(receiver_id=f"to-{message_id}")
    accepted.message.message_id = message_id
    accepted.message.sender_id = f"from-{message_id}"
    accepted.message.text = text
    return Event(message_accepted=accepted)


def name_of(event: Event) -> str:
    """What `event` or `message` named it."""
    return event.read_advanced.chat_id or event.message_accepted.message.message_id


@dataclass
class Recorder:
    """A handler that answers each event by `judge`, and lets a test wait for what it got."""

    judge: Callable[[Received], Outcome] = lambda _: DONE
    calls: list[list[str]] = field(default_factory=list)
    _got: asyncio.Queue[Received] = field(default_factory=asyncio.Queue)

    async def __call__(self, received: Sequence[Received]) -> list[Outcome]:
        """Records and answers."""
        self.calls.append([name_of(one.event) for one in received])
        for one in received:
            self._got.put_nowait(one)
        return [self.judge(one) for one in received]

    async def next(self, seconds: float = 10) -> Received:
        """Waits for the next event."""
        return await asyncio.wait_for(self._got.get(), seconds)

    async def names(self, count: int) -> list[str]:
        """Waits for as many events and answers their names."""
        return [name_of((await self.next()).event) for _ in range(count)]

    def is_empty(self) -> bool:
        """Whether everything was looked at."""
        return self._got.empty()


async def eventually(condition: Callable[[], object]) -> None:
    """Waits until something holds that has no event of its own to wait for."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # see above
            await asyncio.sleep(0.01)


async def take(url: str, topology: Topology, queue: str) -> AbstractIncomingMessage:
    """Waits for one body in a queue and takes it out."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        source = await channel.get_queue(topology.name(queue))
        async with source.iterator(timeout=10) as bodies:
            body = await anext(bodies)
            await body.ack()
            return body


async def count(url: str, topology: Topology, queue: str) -> int:
    """Bodies that wait in a queue."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        found = await channel.declare_queue(topology.name(queue), passive=True)
        return found.declaration_result.message_count or 0


class Proxy:
    """A TCP hop before the broker that can fall silent without closing anything.

    Args:
        broker: its URL.
        tls: by which it takes connections; None for plain ones.
    """

    def __init__(self, broker: str, *, tls: ssl.SSLContext | None = None) -> None:
        self._broker = urlsplit(broker)
        self._tls = tls
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._pumps: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server
        self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    @property
    def url(self) -> str:
        """The broker's, through this hop."""
        assert self._server
        credentials, _, _ = self._broker.netloc.rpartition("@")
        scheme = "amqps" if self._tls else "amqp"
        return f"{scheme}://{credentials}@127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"

    def freeze(self) -> None:
        """Lets nothing through from now on."""
        self._flowing.clear()

    def cut(self) -> None:
        """Ends all connections."""
        for pump in self._pumps:
            pump.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._broker.hostname, self._broker.port)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            self._pumps.append(asyncio.create_task(self._pump(source, sink)))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._flowing.wait()
                sink.write(data)
        finally:
            sink.close()
