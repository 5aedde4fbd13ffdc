"""Who is there, and who looks at whom. Kept in Redis beside the users' streams; nothing here lasts long.

A user is online while at least one place (an edge) says so; a place that dies is believed for `TTL` more.
Changes are told only to those who look: whoever asks for a person watches that person for the next minutes.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import redis.asyncio

from mesh.bus import TIMEOUT, translated
from mesh.mailbox.buckets import BucketMap

TTL = 60.0
"""Seconds that a place's word counts; places repeat it well within."""

WATCH = 300.0
"""Seconds that somebody who asked for a person is told of that person's changes."""

REMEMBERED = 90 * 86_400
"""Seconds that the time of leaving is kept."""

# Both answer the watchers when they turned the user's state, and nothing otherwise.
HERE = """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[2])
local there = redis.call('ZCARD', KEYS[1])
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[4])
if there > 0 then return {} end
return redis.call('ZRANGEBYSCORE', KEYS[2], ARGV[2], '+inf')
"""
GONE = """
local was = redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[2])
if was == 0 or redis.call('ZCARD', KEYS[1]) > 0 then return {} end
redis.call('SET', KEYS[3], ARGV[2], 'EX', ARGV[4])
return redis.call('ZRANGEBYSCORE', KEYS[2], ARGV[2], '+inf')
"""

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Whether a person is there.

    Attributes:
        last_seen_ms: Unix time, ms, of the last leaving; 0 where it is not known.
    """

    user_id: str
    online: bool
    last_seen_ms: int = 0


class Register:
    """The register of who is there; users are spread over the bus's nodes by their buckets.

    Args:
        urls: Redis nodes, in node order, as the bus has them.
        place: this process, among all that say who is there.
        now_ms: the Unix time, ms.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        place: str,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._nodes = [
            redis.asyncio.Redis.from_url(
                url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, decode_responses=True
            )
            for url in urls
        ]
        self._buckets = BucketMap.even(len(urls))
        self._place = place
        self._now_ms = now_ms
        self._here = self._nodes[0].register_script(HERE)
        self._gone = self._nodes[0].register_script(GONE)

    async def __aenter__(self) -> "Register":
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(node.aclose() for node in self._nodes))

    async def here(self, users: Sequence[str]) -> dict[str, list[str]]:
        """Says that users are at this place, for the next `TTL` seconds.

        Returns:
            For each user who was nowhere before, who is to be told.

        Raises:
            Unavailable: a node is away.
        """
        now = self._now_ms()
        arguments: list[str | int] = [self._place, now, now + round(TTL * 1000), round(TTL) + 1]
        return await self._turn(self._here, users, arguments)

    async def gone(self, users: Sequence[str]) -> dict[str, list[str]]:
        """Says that users have left this place.

        Returns:
            For each user who is nowhere now, who is to be told.

        Raises:
            Unavailable: a node is away.
        """
        return await self._turn(self._gone, users, [self._place, self._now_ms(), 0, REMEMBERED])

    async def _turn(
        self, script: "redis.commands.core.AsyncScript", users: Sequence[str], arguments: list[str | int]
    ) -> dict[str, list[str]]:
        async def on_node(node: redis.asyncio.Redis, group: list[str]) -> list[list[str]]:
            # It asks first whether the node knows the script, and where that fails keeps its connection.
            async with node.pipeline(transaction=False) as pipe:
                for user in group:
                    await script(
                        keys=[f"here:{user}", f"watch:{user}", f"seen:{user}"], args=arguments, client=pipe
                    )
                answers: list[list[str]] = await pipe.execute()
                return answers

        watchers = await self._spread(users, on_node)
        return {user: told for user, told in watchers.items() if told}

    async def get(self, users: Sequence[str]) -> list[Presence]:
        """Who of these is there, in their order.

        Raises:
            Unavailable: a node is away.
        """
        now = self._now_ms()

        async def on_node(node: redis.asyncio.Redis, group: list[str]) -> list[Presence]:
            pipe = node.pipeline(transaction=False)
            for user in group:
                pipe.zcount(f"here:{user}", now, "+inf")
                pipe.get(f"seen:{user}")
            answers = await pipe.execute()
            return [
                Presence(user_id=user, online=bool(places), last_seen_ms=int(seen or 0))
                for user, places, seen in zip(group, answers[::2], answers[1::2], strict=True)
            ]

        found = await self._spread(users, on_node)
        return [found[user] for user in users]

    async def watch(self, watcher: str, users: Sequence[str]) -> None:
        """Has `watcher` told of these people's changes for the next `WATCH` seconds.

        Raises:
            Unavailable: a node is away.
        """
        now = self._now_ms()

        async def on_node(node: redis.asyncio.Redis, group: list[str]) -> list[None]:
            pipe = node.pipeline(transaction=False)
            for user in group:
                pipe.zremrangebyscore(f"watch:{user}", "-inf", now)
                pipe.zadd(f"watch:{user}", {watcher: now + round(WATCH * 1000)})
                pipe.expire(f"watch:{user}", round(WATCH))
            await pipe.execute()
            return [None] * len(group)

        await self._spread(users, on_node)

    async def unwatch(self, watcher: str, user: str) -> None:
        """Has `watcher` told no more of a person.

        Raises:
            Unavailable: the node is away.
        """
        with translated():
            await self._nodes[self._buckets.node_of(user)].zrem(f"watch:{user}", watcher)

    async def _spread(
        self, users: Iterable[str], on_node: Callable[[redis.asyncio.Redis, list[str]], Awaitable[list[R]]]
    ) -> dict[str, R]:
        """Asks each node for its users, side by side; one result a user."""
        groups: dict[int, list[str]] = defaultdict(list)
        for user in dict.fromkeys(users):
            groups[self._buckets.node_of(user)].append(user)
        with translated():
            answers = await asyncio.gather(
                *(on_node(self._nodes[node], group) for node, group in groups.items())
            )
        return {
            user: answer
            for group, results in zip(groups.values(), answers, strict=True)
            for user, answer in zip(group, results, strict=True)
        }
