"""The table of what still works when a part is down, row by row: stop it, look, start it, and all is whole.

Teams' parts and single shards are in tests/outages.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from antispam.checkers.blocklist import GTUBE
from mesh.stack import Stack
from mesh.stack.plan import REDIS_NODES
from tests.contract.device import Device, RpcError
from tests.flows.conftest import Passport, People, Stopped, Talk
from tests.observability.support import eventually

SOON = 5.0
"""Seconds within which somebody who is online gets a message while Redis is down."""


async def reads(talk: Talk, who: Device) -> set[str]:
    """What the answers to one person's reading are without; history has all texts in any case."""
    listed = await who.call("chats.list")
    found = await who.call("chats.get", chat_id=talk.chat_id)
    assert talk.chat_id in {chat["chat_id"] for chat in listed["chats"]}
    assert await talk.texts(who)
    return {*listed.get("degraded", ()), *found.get("degraded", ())}


async def is_whole(talk: Talk, text: str) -> None:
    """Returns when reading lacks nothing and a message is pushed; everybody's session is still the same."""

    async def lacks_nothing() -> bool:
        try:
            looked = await talk.bob.call("presence.get", user_ids=[talk.alice.user_id])
            lacking = {*await reads(talk, talk.alice), *await reads(talk, talk.bob)}
        except RpcError:  # a channel takes up to two seconds to find a part that is back
            return False
        return not {*lacking, *looked.get("degraded", ())}

    await eventually(lacks_nothing)
    await talk.send(text)
    await talk.arrives(text)


@contextlib.asynccontextmanager
async def both(stopped: Stopped) -> AsyncIterator[None]:
    """All of Redis is down for a block."""
    async with contextlib.AsyncExitStack() as stack:
        for node in range(REDIS_NODES):
            await stack.enter_async_context(stopped(f"redis-{node}"))
        yield


async def test_redis_down(talk: Talk, stopped: Stopped, people: People) -> None:
    """Sending and reading work; who is online gets messages within five seconds; who comes is let in."""
    await talk.send("before")
    await talk.arrives("before")
    async with both(stopped):
        sent = time.monotonic()
        await talk.send("while it is down")
        assert (await talk.arrives("while it is down"))["seq"] == 2
        assert time.monotonic() - sent < SOON
        assert await reads(talk, talk.alice) == set()
        assert await talk.alice.call("chats.typing", chat_id=talk.chat_id) == {}
        looked = await talk.alice.call("presence.get", user_ids=[talk.bob.user_id])
        assert looked["degraded"] == ["presence"]
        phone = await people.connect(talk.bob.user_id)
        talk.bob, tablet = phone, talk.bob
        await talk.send("to both devices")
        await talk.arrives("to both devices")
    talk.bob = tablet
    await talk.arrives("to both devices")
    await is_whole(talk, "after")


async def test_redis_hangs(talk: Talk, stack: Stack) -> None:
    """A Redis that answers nothing is no worse than none: who is online gets messages within five seconds."""
    await talk.send("before")
    await talk.arrives("before")
    nodes = [f"redis-{node}" for node in range(REDIS_NODES)]
    for node in nodes:
        stack.signal(node, "STOP")
    try:
        for text in ("at once", "a little later"):
            sent = time.monotonic()
            await talk.send(text)
            await talk.arrives(text)
            assert time.monotonic() - sent < SOON
        assert await reads(talk, talk.bob) == set()
    finally:
        for node in nodes:
            stack.signal(node, "CONT")
    await is_whole(talk, "after")


async def test_aggregator_down(talk: Talk, stopped: Stopped) -> None:
    """The edge reads history and chats without it, and says so; what needs its rules is refused for now."""
    await talk.send("before")
    await talk.arrives("before")
    async with stopped("aggregator"):
        assert await reads(talk, talk.alice) == {"aggregator"}
        assert await talk.texts(talk.bob) == ["before"]
        error = await talk.alice.error(
            "messages.send", chat_id=talk.chat_id, text="no", client_msg_id="while down"
        )
        assert (error.code, error.data["retryable"]) == (-32014, True)
    await is_whole(talk, "after")


async def test_the_broker_down(talk: Talk, stopped: Stopped) -> None:
    """Sending goes on being accepted and reading works; all that was sent is delivered by itself."""
    texts = [f"while it is down {n}" for n in range(10)]
    async with stopped("rabbitmq"):
        for text in texts:
            await talk.send(text)
        assert await reads(talk, talk.alice) == set()
        assert await talk.texts(talk.alice) == texts
    assert {(await talk.arrives(text))["seq"] for text in texts} == set(range(1, 11))
    assert await talk.texts(talk.bob) == texts
    await is_whole(talk, "after")


async def test_antispam_down(talk: Talk, stopped: Stopped, passport: Passport) -> None:
    """Messages pass unchecked, spam as well; it is found late, and taken back from its receiver.

    Their passports say so, with the time.
    """

    async def verdict(message: Any) -> Any:
        stamps = (await passport(message["message_id"], talk.bob.user_id))["stamps"]
        return next(stamp for stamp in stamps if stamp["stage"] == "verdict")

    async with stopped("antispam"):
        spam = await talk.send(f"Buy {GTUBE} now")
        good = await talk.send("a good one")
        for text in (f"Buy {GTUBE} now", "a good one"):
            await talk.arrives(text)
        assert await reads(talk, talk.bob) == set()
        unchecked = await verdict(good)
        assert (unchecked["done"], unchecked["place"]) == (False, "RabbitMQ, messages")
        assert unchecked["at"]
    gone = await talk.bob.next("message.deleted")
    assert (gone["message_id"], gone["reason"]) == (spam["message_id"], "spam")
    await is_whole(talk, "after")
    checked = await eventually(partial(verdict, good), lambda stamp: stamp["done"])
    assert checked["at"] > unchecked["at"]
    assert checked["detail"] == "passed late, after it was delivered"
    assert (await verdict(spam))["detail"].startswith("rejected: ")
    texts = [text for text in await talk.texts(talk.bob) if text]
    assert texts == ["a good one", "after"]


async def test_dbstore_down(talk: Talk, stopped: Stopped) -> None:
    """Sending and reading work; what was sent is delivered by itself."""
    async with stopped("dbstore"):
        await talk.send("one")
        await talk.send("two")
        assert await reads(talk, talk.alice) == set()
        assert await talk.texts(talk.alice) == ["one", "two"]
    assert {(await talk.arrives(text))["seq"] for text in ("one", "two")} == {1, 2}
    await is_whole(talk, "after")


async def test_everything_is_ready_again(stack: Stack) -> None:
    """Nothing had to be restarted for it."""
    assert {status.name for status in await asyncio.to_thread(stack.status) if not status.ready} == set()
