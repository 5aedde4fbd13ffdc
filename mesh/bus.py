"""The real-time bus: a Redis Stream a user as the warm cache, PUB/SUB as the push. Never the source of truth.

What streams say is in `streams`. Blocking reads of many of them are not used: they cost Redis time for each
stream there is.
"""

import asyncio
import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, islice

import redis.asyncio
from opentelemetry.trace import SpanKind
from redis.exceptions import NoScriptError, RedisError

from mesh import tracing
from mesh.breaker import Breaker, Part
from mesh.errors import MessengerError, Unavailable
from mesh.mailbox.buckets import BucketMap
from mesh.redis_wire import Command, Node
from mesh.streams import EventId, Page, begins_after, channel_of, continuation, read_entry, stream_of

TIMEOUT = 2.0
"""Seconds that one command may take."""

PUBLISH_SECONDS = 0.5
"""What a publish may spend on a node. One that hangs is left alone, but for a try after pauses of 1 to 2 s:
what cannot be published now waits elsewhere, and must not hold up what comes after it."""

# Also where the clock was set back an epoch is greater than those before it.
PUBLISH = """
-- KEYS: BORN, streams. ARGV: length, retention; then for each stream its channel, how many events, and these.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local born = tonumber(redis.call('GET', KEYS[1]))
if not born then
  born = now
  redis.call('SET', KEYS[1], string.format('%.0f', born))
end
local at = 3
for key = 2, #KEYS do
  local channel, count = ARGV[at], tonumber(ARGV[at + 1])
  local last = redis.call('XREVRANGE', KEYS[key], '+', '-', 'COUNT', 1)
  local epoch, n = 0, 0
  if #last > 0 then epoch, n = string.match(last[1][1], '(%d+)-(%d+)') end
  if tonumber(epoch) < born then epoch, n = string.format('%.0f', math.max(now, born, epoch + 1)), 0 end
  local lengths, payloads = {}, {}
  for i = 1, count do
    local payload = ARGV[at + 1 + i]
    local id = string.format('%s-%.0f', epoch, n + i)
    redis.call('XADD', KEYS[key], 'MAXLEN', '~', ARGV[1], id, 't', ms, 'p', payload)
    lengths[i], payloads[i] = #payload, payload
  end
  redis.call('EXPIRE', KEYS[key], ARGV[2])
  local place = string.format('%s-%.0f-%s ', epoch, n + 1, ms)
  redis.call('PUBLISH', channel, place .. table.concat(lengths, ',') .. ' ' .. table.concat(payloads))
  at = at + 2 + count
end
"""

USERS_A_SCRIPT = 64
"""Users that one run of the script serves; Redis does nothing else meanwhile, for some 2 ms."""

TIP = """
local time = redis.call('TIME')
redis.call('SET', KEYS[2], string.format('%.0f', time[1] * 1000000 + time[2]), 'NX')
local born = redis.call('GET', KEYS[2])
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if #last > 0 and tonumber(string.match(last[1][1], '%d+')) >= tonumber(born) then
  return last[1][1] .. '-' .. last[1][2][2]
end
local ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
return born .. '-0-' .. ms
"""

BEGIN = """
local time = redis.call('TIME')
return redis.call('SET', KEYS[1], string.format('%.0f', time[1] * 1000000 + time[2]))
"""

BORN = "bus:born"
"""The key that tells when a node began with what it holds, µs: no stream goes on from before."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turns the Redis client's errors into the mesh's."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable("The real-time bus is down.", reason="BUS_UNAVAILABLE") from error


class Bus:
    """Publishes to users and reads their streams; users are spread over the nodes by their buckets.

    A user's events have one order, the order of publishing, and PUB/SUB hands them out in it; what one
    process publishes goes out in the order of its calls, once the node knows the script. While a node is away
    its users' calls raise Unavailable; nothing is retried here.

    Args:
        urls: Redis nodes, in node order.
        retention: seconds that a stream outlives its last event.
        length: about how many events a stream keeps.
    """

    def __init__(self, urls: Sequence[str], *, retention: int, length: int) -> None:
        self._nodes = [
            redis.asyncio.Redis.from_url(url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT)
            for url in urls
        ]
        self._wires = [Node(url, TIMEOUT) for url in urls]
        self._beginnings = [asyncio.Lock() for _ in urls]
        self._buckets = BucketMap.even(len(urls))
        self._parts = [
            Part(f"bus {node}", seconds=PUBLISH_SECONDS, breaker=Breaker(longest=2.0))
            for node in range(len(urls))
        ]
        self._retention = retention
        self._length = length
        self._publish, self._tip = map(_digest, (PUBLISH, TIP))

    async def __aenter__(self) -> "Bus":
        return self

    async def __aexit__(self, *_: object) -> None:
        for wire in self._wires:
            wire.close()
        await asyncio.gather(*(node.aclose() for node in self._nodes))

    def node_of(self, user_id: str) -> int:
        """Index of the node that holds a user's stream and channel."""
        return self._buckets.node_of(user_id)

    async def ping(self) -> None:
        """Returns when every node answers.

        Raises:
            Unavailable: one does not.
        """
        with translated():
            await asyncio.gather(*(node.ping() for node in self._nodes))

    async def publish(self, events: Sequence[tuple[str, bytes]]) -> list[MessengerError | None]:
        """Appends each event to its user's stream and pushes it, in one round trip a node.

        Args:
            events: pairs of user id and serialized Notification; one user's keep their order.

        Returns:
            Per event, None or why it is not known to be published. Nothing is raised: one node's absence
            is not the others' matter.
        """
        by_node: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for index, (user_id, _) in enumerate(events):
            by_node[self.node_of(user_id)][user_id].append(index)
        outcomes: list[MessengerError | None] = [None] * len(events)

        async def flush(node: int, users: dict[str, list[int]]) -> None:
            payloads = {user: [events[index][1] for index in indexes] for user, indexes in users.items()}
            try:
                async with self._parts[node].asked():
                    await self._publish_on(node, payloads)
            except MessengerError as error:
                for index in chain.from_iterable(users.values()):
                    outcomes[index] = error

        with tracing.span("publish bus", SpanKind.PRODUCER):
            await asyncio.gather(*(flush(node, users) for node, users in by_node.items()))
        return outcomes

    async def _publish_on(self, node: int, payloads: dict[str, list[bytes]]) -> None:
        commands = tuple(self._scripts(payloads))
        with translated():
            results = await self._wires[node].ask(*commands)
            if any(isinstance(result, NoScriptError) for result in results):
                # What it has run after another client taught it the script comes twice, which is allowed.
                await self._begin(node)
                results = await self._wires[node].ask(*commands)
            _raise_first(results)

    def _scripts(self, payloads: dict[str, list[bytes]]) -> Iterator[Command]:
        users = iter(payloads.items())
        while some := list(islice(users, USERS_A_SCRIPT)):
            streams = [stream_of(user_id) for user_id, _ in some]
            told: list[str | int | bytes] = []
            for user_id, own in some:
                told += (channel_of(user_id), len(own), *own)
            limits = self._length, self._retention
            yield ("EVALSHA", self._publish, len(streams) + 1, BORN, *streams, *limits, *told)

    async def _begin(self, index: int) -> None:
        """Begins all streams anew on a node that does not know the scripts.

        It has just been started, or took over from one that is gone: the last events that were published may
        be missing, and nothing in a stream shows that.
        """
        wire = self._wires[index]
        async with self._beginnings[index]:  # many find that out at once, and one beginning is enough
            known = await wire.ask(("SCRIPT", "EXISTS", self._publish, self._tip))
            _raise_first(known)
            if known != [[1, 1]]:
                _raise_first(await wire.ask(("EVAL", BEGIN, 1, BORN)))
                _raise_first(await wire.ask(("SCRIPT", "LOAD", PUBLISH), ("SCRIPT", "LOAD", TIP)))

    async def tell(self, events: Sequence[tuple[str, bytes]]) -> None:
        """Pushes ephemeral events to users' devices that are there now; keeps nothing.

        Args:
            events: pairs of user id and serialized Notification.

        Raises:
            Unavailable: a node is away; those of the other nodes were told.
        """
        by_node: dict[int, list[tuple[str, bytes]]] = defaultdict(list)
        for user_id, payload in events:
            by_node[self.node_of(user_id)].append((user_id, payload))

        async def push(node: int, batch: list[tuple[str, bytes]]) -> None:
            with translated():
                _raise_first(
                    await self._wires[node].ask(
                        *(("PUBLISH", channel_of(user_id), b" " + payload) for user_id, payload in batch)
                    )
                )

        outcomes = await asyncio.gather(
            *(push(node, batch) for node, batch in by_node.items()), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def listeners(self, user_id: str) -> int:
        """How many processes hear what is pushed to a user now.

        Raises:
            Unavailable: the user's node is away.
        """
        with translated():
            [(_, count)] = await self._nodes[self.node_of(user_id)].pubsub_numsub(channel_of(user_id))
        return int(count)

    async def tip(self, user_id: str) -> EventId:
        """The cursor behind everything published to a user so far.

        Raises:
            Unavailable: the user's node is away.
        """
        index = self.node_of(user_id)
        node = self._nodes[index]
        with translated():
            try:
                text = await node.evalsha(self._tip, 2, stream_of(user_id), BORN)
            except NoScriptError:
                await self._begin(index)
                text = await node.evalsha(self._tip, 2, stream_of(user_id), BORN)
        return EventId.parse(text.decode())

    async def read_after(self, user_id: str, cursor: EventId) -> Page:
        """What was published to a user after a cursor.

        Raises:
            Unavailable: the user's node is away.
        """
        index = self.node_of(user_id)
        node = self._nodes[index]
        with translated():
            pipe = node.pipeline(transaction=False)
            pipe.script_exists(self._publish)
            pipe.xrange(stream_of(user_id), f"{cursor.epoch}-{cursor.n}", "+")
            pipe.get(BORN)  # after the entries: so they are of no later life
            pipe.time()
            [known], raw, born, (seconds, _) = await pipe.execute()
            if not known:
                await self._begin(index)
        entries = tuple(read_entry(entry_id.decode(), fields) for entry_id, fields in raw)
        if not known or born is None or cursor.epoch < int(born):
            return Page(entries=entries, whole=False)
        if cursor.n:
            return continuation(cursor, entries)
        lasts = int(born) == cursor.epoch and seconds * 1000 - cursor.ms < self._retention * 1000
        return Page(entries=entries, whole=lasts and begins_after(cursor, entries))


def _raise_first(results: Sequence[object]) -> None:
    for result in results:
        if isinstance(result, Exception):
            raise result


def _digest(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
