"""The push side of the bus: one PUB/SUB connection a Redis node for all the users that this process holds."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence

import structlog
from redis.exceptions import RedisError

from mesh.bus import TIMEOUT, translated
from mesh.errors import InvalidArgument, Unavailable
from mesh.mailbox.buckets import BucketMap
from mesh.redis_wire import Connection, Endpoint, pack
from mesh.streams import Entry, channel_of, parse_push

log = structlog.get_logger()

IDLE_SECONDS = 0.5
"""A connection that was silent for so long is asked whether it lives: what a node that hangs has not pushed
must be found in the mailbox soon."""

ANSWER_SECONDS = 1.0
"""Seconds that the node has to say so."""

SUBSCRIBED_AT_ONCE = 1000
"""Channels in one command."""

FIRST_PAUSE = 0.1
"""Seconds before a lost connection is made again; doubled at each failure, up to 2 s."""

Deliver = Callable[[str, tuple[Entry, ...] | bytes], None]
"""Takes what is pushed to a user: entries of the stream, or the payload of an ephemeral event."""

PREFIX = channel_of("").encode()


class Feed:
    """Hears the channels of subscribed users and hands out what is pushed.

    A user's entries are handed out in the order of publishing. What was published while a node's connection
    was away is lost here: `resumed` tells whose it may concern, after their channels are subscribed again.

    Args:
        urls: Redis nodes, in node order, as the bus has them.
        deliver: called with what is pushed.
        resumed: called with the users of a node whose connection was lost and is back.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        deliver: Deliver,
        resumed: Callable[[Iterable[str]], None],
    ) -> None:
        self._buckets = BucketMap.even(len(urls))
        self._nodes = [_NodeFeed(url, deliver, resumed) for url in urls]

    async def run(self) -> None:
        """Keeps the connections up until cancelled."""
        async with asyncio.TaskGroup() as group:
            for node in self._nodes:
                group.create_task(node.run())

    def unheard(self) -> list[str]:
        """The subscribed users of whom nothing is heard now, because their node is away."""
        return [user for node in self._nodes if not node.connected for user in node.wanted]

    async def subscribe(self, user_id: str) -> None:
        """Returns when everything published to the user from now on is heard.

        Raises:
            Unavailable: the user's node is away; the subscription is made as soon as it is back, and told by
                `resumed`.
        """
        await self._nodes[self._buckets.node_of(user_id)].subscribe(user_id)

    async def unsubscribe(self, user_id: str) -> None:
        """Hears no more of the user."""
        await self._nodes[self._buckets.node_of(user_id)].unsubscribe(user_id)


class _NodeFeed:
    def __init__(self, url: str, deliver: Deliver, resumed: Callable[[Iterable[str]], None]) -> None:
        self._endpoint = Endpoint(url, TIMEOUT)
        self._deliver = deliver
        self._resumed = resumed
        self.wanted: set[str] = set()
        self._connection: Connection | None = None
        self._pause = FIRST_PAUSE
        self._told = self._silent = False
        self._confirmations: dict[str, deque[asyncio.Future[None]]] = defaultdict(deque)

    @property
    def connected(self) -> bool:
        return self._connection is not None

    async def subscribe(self, user_id: str) -> None:
        self.wanted.add(user_id)
        with translated():
            if self._connection is None:
                raise Unavailable("The real-time bus is down.", reason="BUS_UNAVAILABLE")
            await asyncio.wait_for(self._confirmation(self._connection, [user_id]), TIMEOUT)

    async def unsubscribe(self, user_id: str) -> None:
        self.wanted.discard(user_id)
        if self._connection is not None:
            try:
                self._connection.write(pack(("UNSUBSCRIBE", channel_of(user_id))))
            except OSError as error:
                log.debug("unsubscribing failed; the connection is going down", error=repr(error))

    async def run(self) -> None:
        while True:
            try:
                await self._listen()
            except (RedisError, OSError, TimeoutError) as error:
                if not self._told:
                    log.warning("the push feed lost its Redis node", error=repr(error))
                self._told = True
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, 2.0)

    async def _listen(self) -> None:
        connection = await self._endpoint.connect(self._hear)
        connection.closed.add_done_callback(self._lost)
        watch = asyncio.get_running_loop().create_task(self._watch(connection))
        try:
            await self._resubscribe(connection)
            raise await asyncio.shield(connection.closed)
        finally:
            watch.cancel()
            connection.close(ConnectionResetError("the push feed ended"))

    def _lost(self, closed: asyncio.Future[Exception]) -> None:
        self._connection = None
        for waiting in self._confirmations.values():
            for future in waiting:
                if not future.done():
                    future.set_exception(closed.result())
        self._confirmations.clear()

    def _confirmation(self, connection: Connection, users: Sequence[str]) -> asyncio.Future[None]:
        """Asks for users' channels; done when they are heard: Redis confirms one after the other."""
        connection.write(pack(("SUBSCRIBE", *map(channel_of, users))))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._confirmations[users[-1]].append(future)
        return future

    async def _resubscribe(self, connection: Connection) -> None:
        """Returns when every wanted channel is heard, also of those who came while it was at it."""
        heard: set[str] = set()
        while users := list(self.wanted - heard)[:SUBSCRIBED_AT_ONCE]:
            await self._confirmation(connection, users)
            heard.update(users)
        self._connection, self._pause = connection, FIRST_PAUSE
        if self._told:
            log.info("the push feed has its Redis node back", users=len(self.wanted))
        self._told = False
        if self.wanted:
            self._resumed(list(self.wanted))

    async def _watch(self, connection: Connection) -> None:
        """Ends a connection that no longer answers; whoever waits for it hears of that."""
        while not connection.closed.done():
            self._silent = True
            await asyncio.sleep(IDLE_SECONDS)
            if self._silent and not connection.closed.done():
                connection.write(pack(("PING",)))
                await asyncio.sleep(ANSWER_SECONDS)
                if self._silent:
                    connection.close(TimeoutError("Redis was silent for too long"))

    def _hear(self, said: list[bytes]) -> None:
        self._silent = False
        kind = said[0]
        if kind == b"message":
            self._take(said[1].removeprefix(PREFIX).decode(), said[2])
        elif kind == b"subscribe":
            user_id = said[1].removeprefix(PREFIX).decode()
            if waiting := self._confirmations.get(user_id):
                future = waiting.popleft()
                if not waiting:
                    del self._confirmations[user_id]
                if not future.done():
                    future.set_result(None)

    def _take(self, user_id: str, data: bytes) -> None:
        try:
            pushed = parse_push(data)
        except InvalidArgument as error:
            log.error("a push of nobody's here was dropped", user_id=user_id, cause=error.detail)
        else:
            self._deliver(user_id, pushed)
