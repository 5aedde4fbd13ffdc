"""Every part of a message's path in one process, with a counter at each way out of a part.

The parts are the real ones, on a real MongoDB and Redis. Between them, where gRPC and RabbitMQ are in a
deployment, stand a channel that calls the next part, and a publisher that keeps what it is given.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any, cast

import msgspec
import pytest
from redis.asyncio.connection import AbstractConnection

from aggregator.parts import Parts
from aggregator.people import People
from aggregator.service import MessengerService
from antispam.consumer import Antispam
from antispam.judge import Judge
from antispam.settings import Settings as AntispamSettings
from antispam.wiring import rules
from dbapi.directory import ItemsService, ProfilesService
from dbapi.outbox import Announcer
from dbapi.service import MailboxService
from dbstore.consumer import EventHandler
from dbstore.late import LateCheck
from edge import table
from edge.admission import Admission
from edge.buckets import SharedBuckets
from edge.calls import Calls
from edge.lanes import Lanes
from edge.local import local_methods
from mesh import call
from mesh.amqp import DONE, Delivery, Publisher, Received
from mesh.assertion import Verifier
from mesh.bus import Bus
from mesh.channel import Channel
from mesh.mailbox.mongo import MongoMailbox
from mesh.presence import Register
from mesh.redis_wire import Connection, Endpoint, Hear
from messenger.dbapi.v1 import dbapi_pb2_grpc
from messenger.edge.v1 import session_pb2
from messenger.events.v1 import queue_pb2
from messenger.items.v1 import items_pb2_grpc
from messenger.profiles.v1 import profiles_pb2_grpc
from tests.mailbox.support import Commands, unique

PLENTY = 1e6

CLIENT_NAME = "path"
"""Of the path's own connections to Redis; others in this process are not counted."""


class Trips:
    """Round trips since the last look.

    Attributes:
        calls: gRPC calls by method.
        bodies: AMQP messages by exchange.
        commands: of MongoDB, heard by the drivers.
        redis: writes to a Redis connection: a command each, or a whole pipeline.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.bodies: Counter[str] = Counter()
        self.commands = Commands()
        self.redis = 0

    def forget(self) -> None:
        """Begins anew."""
        self.calls.clear()
        self.bodies.clear()
        self.commands.names.clear()
        self.redis = 0

    @property
    def database(self) -> dict[str, int]:
        """MongoDB's commands by name, less those by which a new connection signs in."""
        return dict(Counter(name for name in self.commands.names if not name.startswith("sasl")))


class Person:
    """A caller of the edge's calls, without a socket."""

    def __init__(self, name: str) -> None:
        self.user_id = unique(name)
        self.lanes = Lanes()
        self.chat_id = ""

    async def connect(self, *_: object) -> session_pb2.ConnectResponse:
        raise NotImplementedError

    async def refresh(self, _: str) -> session_pb2.RefreshResponse:
        raise NotImplementedError


class Path:
    """The path; a context manager.

    Args:
        mongo: URI of the one shard that everybody is on.
        redis: the bus's nodes.

    Attributes:
        trips: what was counted.
        queued: events that were published and not yet handed to the next part, by exchange.
    """

    def __init__(self, mongo: str, redis: Sequence[str]) -> None:
        self.trips = Trips()
        self.queued: dict[str, list[queue_pb2.Event]] = {}
        self._mongo, self._redis = mongo, [f"{url}?client_name={CLIENT_NAME}" for url in redis]
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Path":
        enter = self._stack.enter_async_context
        self.bus = await enter(Bus(self._redis, retention=60, length=100))
        # Its clock stands still: however slow the machine is, nobody's tokens run out.
        buckets = await enter(SharedBuckets(self._redis, rate=PLENTY, burst=PLENTY, clock=lambda: 0.0))
        admission = Admission(
            buckets, redis_url=self._redis[0], place="here", concurrent=1000, calls_per_edge=1000
        )
        register = await enter(Register(self._redis, place="here"))
        self._build(await enter(admission), People(register, self.bus, nodes=len(self._redis), seconds=5))
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.__aexit__(*error)
        await self.receiving.aclose()
        await self.sending.aclose()

    def _build(self, admission: Admission, people: People) -> None:
        # Two stores, as dbapi and dbstore have them: each knows only what it has seen itself.
        self.sending, self.receiving = (
            MongoMailbox([self._mongo], driver="pymongo", listeners=[self.trips.commands]) for _ in range(2)
        )
        publisher = cast(Publisher, _Publisher(self))
        self.announcer = Announcer(self.sending, publisher)
        dbapi = self._channel(MailboxService(self.sending, self.announcer, Verifier()))
        parts = Parts(
            profiles_pb2_grpc.ProfilesServiceStub(self._channel(ProfilesService())),
            items_pb2_grpc.ItemsServiceStub(self._channel(ItemsService())),
            seconds=5,
        )
        aggregator = MessengerService(dbapi_pb2_grpc.MailboxServiceStub(dbapi), parts, people, lanes=1)
        self.calls = Calls(
            table.methods(table.OWN),
            channels={"messenger.aggregator.v1.MessengerService": cast(Channel, self._channel(aggregator))},
            local=local_methods({}),
            fallbacks={},
            admission=admission,
        )
        settings = AntispamSettings(amqp_url="amqp://none")
        self.antispam = Antispam(Judge([rules(settings)], budget=5), publisher, budget=5)
        self.dbstore = EventHandler(self.receiving, self.bus, LateCheck(self.receiving, publisher))

    def _channel(self, servicer: object) -> Any:  # what a generated stub takes
        return _Channel(servicer, self.trips)

    # ── what clients do ─────────────────────────────────────────────────────────────────────────────────────

    async def ask(self, person: Person, method: str, **params: object) -> Any:
        """The result of a client's call."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = await self.calls.answer(self.calls.take(msgspec.json.encode(request)), cast(Any, person))
        return msgspec.json.decode(answer.text)["result"]

    async def open(self, name: str) -> Person:
        """Somebody with a chat, in which a message has come all the way: whatever is cached is warm."""
        person = Person(name)
        opened = await self.ask(person, "chats.open", peer_id=unique("peer"))
        person.chat_id = opened["chat"]["chat_id"]
        await self.send(person)
        await self.announcer.flush()
        await self.check()
        await self.deliver()
        return person

    async def send(self, person: Person) -> Any:
        """Sends a message."""
        key = unique("key")
        return await self.ask(person, "messages.send", chat_id=person.chat_id, text=key, client_msg_id=key)

    # ── what the queues do ──────────────────────────────────────────────────────────────────────────────────

    async def check(self) -> None:
        """Hands what waits in `messages` to antispam, at once."""
        received = self._take("messages")
        assert set(await self.antispam(received)) <= {DONE}

    async def deliver(self) -> None:
        """Hands what waits in `checked` to dbstore, at once."""
        received = self._take("checked")
        assert set(await self.dbstore.handle(received)) <= {DONE}

    def _take(self, exchange: str) -> list[Received]:
        return [Received(event=event, delivery=Delivery()) for event in self.queued.pop(exchange, [])]


class _Channel:
    """A channel for generated stubs that calls the servicer in this process."""

    def __init__(self, servicer: object, trips: Trips) -> None:
        self._servicer, self._trips = servicer, trips

    def unary_unary(self, method: str, *_: object, **__: object) -> Callable[..., Awaitable[Any]]:
        name = method.rpartition("/")[2]

        async def invoke(request: object) -> Any:
            self._trips.calls[name] += 1
            with call.within(call.current()):
                return await getattr(self._servicer, name)(request, None)

        return invoke


class _Publisher:
    """A publisher to queues in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def publish(self, exchange: str, _key: str, events: Sequence[queue_pb2.Event]) -> None:
        self._path.trips.bodies[exchange] += 1
        self._path.queued.setdefault(exchange, []).extend(events)


@contextmanager
def counted_redis(trips: Trips) -> Any:
    """Counts what goes out on the path's connections to Redis, the library's and our own."""
    send, connect, write = AbstractConnection.send_packed_command, Endpoint.connect, Connection.write
    ours = set[Connection]()

    async def sending(self: AbstractConnection, *args: Any, **kwargs: Any) -> None:
        trips.redis += self.client_name == CLIENT_NAME
        await send(self, *args, **kwargs)

    async def connecting(self: Endpoint, hear: Hear | None = None) -> Connection:
        connection = await connect(self, hear)
        if self._known.client_name == CLIENT_NAME:
            ours.add(connection)
        return connection

    def writing(self: Connection, packed: bytes) -> None:
        trips.redis += self in ours
        write(self, packed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AbstractConnection, "send_packed_command", sending)
        patch.setattr(Endpoint, "connect", connecting)
        patch.setattr(Connection, "write", writing)
        yield
