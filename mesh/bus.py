"""The real-time bus: a Redis Stream a user as the warm cache, PUB/SUB as the push. Never the source of truth.

A stream's entry ids are `<epoch>-<n>`: the epoch is when the stream was born (µs), n counts its events. So a
reader sees by the numbers alone whether anything is missing. A stream that was lost has another epoch when it
begins again, and so has every stream of a node that was restarted: it may lack the last events that it took.
Blocking reads of many streams are not used: they cost Redis time for each stream there is.
"""

import asyncio
import contextlib
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, islice

import redis.asyncio
from opentelemetry.trace import SpanKind
from redis.exceptions import NoScriptError, RedisError

from mesh import tracing
from mesh.breaker import Breaker, Part
from mesh.errors import InvalidArgument, MessengerError, Unavailable
from mesh.mailbox.buckets import BucketMap

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


@dataclass(frozen=True, slots=True)
class EventId:
    """Where an event stands in its user's stream; the cursor for catching up. Opaque text to clients.

    Attributes:
        epoch: birth of the stream, µs; of the node's data where that holds none of the user (n is 0).
        n: 1, 2, 3 … within the epoch.
        ms: when it was published, Unix time in ms.
    """

    epoch: int
    n: int
    ms: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.n}-{self.ms}"

    def follows(self, other: "EventId") -> bool:
        """Whether this event comes after `other`, or belongs to another epoch, where nobody can tell."""
        return self.epoch != other.epoch or self.n > other.n

    def is_next_after(self, other: "EventId") -> bool:
        """Whether no event of the user lies between `other` and this one."""
        return self.n == (other.n + 1 if self.epoch == other.epoch else 1)

    @classmethod
    def parse(cls, text: str) -> "EventId":
        """Reads what `str` wrote; a suffix after a full stop is not part of the place.

        Raises:
            InvalidArgument: no event id looks like that.
        """
        found = _EVENT_ID.fullmatch(text)
        if not found:
            raise InvalidArgument(
                "last_event_id: not an event id; hand in one that the server sent, or none."
            )
        return cls(*(int(part) for part in found.groups()))


_EVENT_ID = re.compile(r"([0-9]{1,18})-([0-9]{1,15})-([0-9]{1,15})(?:\.[A-Za-z0-9.-]{1,128})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event of a user: its id, and a serialized `messenger.events.v1.Notification`."""

    event_id: EventId
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a stream holds after a cursor, oldest first.

    Attributes:
        entries: at most as many as were asked for.
        whole: nothing is missing between the cursor and the first entry.
    """

    entries: tuple[Entry, ...]
    whole: bool


def channel_of(user_id: str) -> str:
    """The PUB/SUB channel of a user."""
    return f"push:{user_id}"


def parse_push(data: bytes) -> tuple[Entry, ...] | bytes:
    """Reads what came over PUB/SUB: entries of the stream, or the bare payload of an ephemeral event.

    Entries come as `<epoch>-<n>-<ms> <length>,<length>… <payload><payload>…`; n is the first one's.

    Raises:
        InvalidArgument: it is neither.
    """
    place, _, rest = data.partition(b" ")
    if not place:
        return rest
    lengths, _, payloads = rest.partition(b" ")
    try:
        epoch, n, ms = map(int, place.split(b"-"))
        ends = tuple(accumulate(map(int, lengths.split(b","))))
    except ValueError:
        raise InvalidArgument("The push does not look like one of the bus.") from None
    if ends[-1] != len(payloads):
        raise InvalidArgument("The push is not as long as it says.")
    return tuple(
        Entry(event_id=EventId(epoch, n + index, ms), payload=payloads[start:end])
        for index, (start, end) in enumerate(zip((0, *ends), ends, strict=False))
    )


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turns the Redis client's errors into the mesh's."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable("The real-time bus is down.", reason="BUS_UNAVAILABLE") from error


class Bus:
    """Publishes to users and reads their streams; users are spread over the nodes by their buckets.

    A user's events have one order, the order of publishing, and PUB/SUB hands them out in it. While a node is
    away its users' calls raise Unavailable; nothing is retried here.

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
                    await self._publish_on(self._nodes[node], payloads)
            except MessengerError as error:
                for index in chain.from_iterable(users.values()):
                    outcomes[index] = error

        with tracing.span("publish bus", SpanKind.PRODUCER):
            await asyncio.gather(*(flush(node, users) for node, users in by_node.items()))
        return outcomes

    async def _publish_on(self, node: "redis.asyncio.Redis", payloads: dict[str, list[bytes]]) -> None:
        with translated():
            results = await self._run_script(node, payloads)
            if any(isinstance(result, NoScriptError) for result in results):
                # What it has run after another client taught it the script comes twice, which is allowed.
                await self._begin(node)
                results = await self._run_script(node, payloads)
            for result in results:
                if isinstance(result, Exception):
                    raise result

    async def _run_script(
        self, node: "redis.asyncio.Redis", payloads: dict[str, list[bytes]]
    ) -> list[object]:
        # By its digest: a registered script asks before every pipeline whether the node knows it.
        pipe, users = node.pipeline(transaction=False), iter(payloads.items())
        limits = self._length, self._retention
        while some := list(islice(users, USERS_A_SCRIPT)):
            streams = [_stream_of(user_id) for user_id, _ in some]
            told: list[str | int | bytes] = []
            for user_id, own in some:
                told += (channel_of(user_id), len(own), *own)
            pipe.evalsha(self._publish, len(streams) + 1, BORN, *streams, *limits, *told)
        results: list[object] = await pipe.execute(raise_on_error=False)
        return results

    async def _begin(self, node: "redis.asyncio.Redis") -> None:
        """Begins all streams anew on a node that does not know the scripts.

        It has just been started, or took over from one that is gone: the last events that were published may
        be missing, and nothing in a stream shows that.
        """
        if not all(await node.script_exists(self._publish, self._tip)):
            await node.eval(BEGIN, 1, BORN)
            await node.script_load(PUBLISH)
            await node.script_load(TIP)

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
                pipe = self._nodes[node].pipeline(transaction=False)
                for user_id, payload in batch:
                    pipe.publish(channel_of(user_id), b" " + payload)
                await pipe.execute()

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
        node = self._nodes[self.node_of(user_id)]
        with translated():
            try:
                text = await node.evalsha(self._tip, 2, _stream_of(user_id), BORN)
            except NoScriptError:
                await self._begin(node)
                text = await node.evalsha(self._tip, 2, _stream_of(user_id), BORN)
        return EventId.parse(text.decode())

    async def read_after(self, user_id: str, cursor: EventId) -> Page:
        """What was published to a user after a cursor.

        Raises:
            Unavailable: the user's node is away.
        """
        node = self._nodes[self.node_of(user_id)]
        with translated():
            pipe = node.pipeline(transaction=False)
            pipe.script_exists(self._publish)
            pipe.xrange(_stream_of(user_id), f"{cursor.epoch}-{cursor.n}", "+")
            pipe.get(BORN)  # after the entries: so they are of no later life
            pipe.time()
            [known], raw, born, (seconds, _) = await pipe.execute()
            if not known:
                await self._begin(node)
        entries = tuple(_entry(entry_id.decode(), fields) for entry_id, fields in raw)
        if not known or born is None or cursor.epoch < int(born):
            return Page(entries=entries, whole=False)
        if cursor.n:
            return continuation(cursor, entries)
        lasts = int(born) == cursor.epoch and seconds * 1000 - cursor.ms < self._retention * 1000
        return Page(entries=entries, whole=lasts and begins_after(cursor, entries))


def _digest(script: str) -> str:
    # By hand: a registered script asks before every pipeline whether the node knows it.
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _stream_of(user_id: str) -> str:
    return f"events:{user_id}"


def _entry(entry_id: str, fields: dict[bytes, bytes]) -> Entry:
    epoch, _, n = entry_id.partition("-")
    return Entry(event_id=EventId(int(epoch), int(n), int(fields[b"t"])), payload=fields[b"p"])


def continuation(cursor: EventId, entries: tuple[Entry, ...]) -> Page:
    """Decides whether entries read from the cursor's own place on follow it without a gap.

    The cursor's own entry must be there and be the same one (a node that lost its last second counts the same
    numbers again), or the very next one must.
    """
    if not entries:
        return Page(entries=(), whole=False)
    first = entries[0].event_id
    if first == cursor:
        return Page(entries=entries[1:], whole=True)
    return Page(entries=entries, whole=(first.epoch, first.n) == (cursor.epoch, cursor.n + 1))


def begins_after(cursor: EventId, entries: tuple[Entry, ...]) -> bool:
    """Whether a stream that did not exist at the cursor is complete from its first event on."""
    if not entries:
        return True
    first = entries[0].event_id
    return first.n == 1 and first.epoch >= cursor.ms * 1000
