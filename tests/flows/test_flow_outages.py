"""Parts of the system are stopped under people who talk: nothing is lost, and it goes on by itself.

What works while one part is down, and what does not, is in test_flow_degradation.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import redis.asyncio

from antispam.checkers.blocklist import GTUBE
from edge.client import Client
from edge.tracking import Backoff
from mesh.stack import Stack
from tests.flows.conftest import People, Stopped, Talk


async def test_a_message_goes_all_the_way(talk: Talk) -> None:
    """With every part up a message reaches its receiver through antispam and dbstore."""
    sent = await talk.send("hello")
    assert (await talk.arrives("hello"))["message_id"] == sent["message_id"]


async def test_spam_stays_with_its_sender(talk: Talk) -> None:
    """A rejected message stands in its sender's chat alone: no push, no hole in seq, no unread."""
    spam = f"Buy {GTUBE} now"
    await talk.send(spam)
    sent = await talk.send("marker")
    arrived = await talk.arrives("marker")
    assert arrived["message_id"] == sent["message_id"]
    assert arrived["seq"] == 1
    assert await talk.texts(talk.bob) == ["marker"]
    assert await talk.texts(talk.alice) == [spam, "marker"]
    pushed = [one["params"]["message"]["text"] for one in talk.bob.events if one["method"] == "message.new"]
    assert pushed == ["marker"]
    chat = (await talk.bob.call("chats.get", chat_id=talk.chat_id))["chat"]
    assert (chat["unread"], chat["seq"]) == (1, 1)


def _is_blocked(params: Any) -> bool:
    return bool(params["chat"].get("blocked"))


async def test_a_block_without_the_broker(talk: Talk, stopped: Stopped, people: People) -> None:
    """A block that was answered while RabbitMQ was gone holds, and is told to the other devices later."""
    phone = await people.connect(talk.alice.user_id)
    async with stopped("rabbitmq"):
        await talk.alice.call("users.block", user_id=talk.bob.user_id)
        assert (
            await talk.bob.error("messages.send", chat_id=talk.chat_id, text="x", client_msg_id="x")
        ).code == -32009
    await phone.next("chat.updated", _is_blocked)


async def test_a_block_past_a_lost_cache(talk: Talk, people: People) -> None:
    """When Redis has lost its streams, a device that comes back is told of a block from the database."""
    phone = await people.connect(talk.alice.user_id)
    await talk.send("one")
    cursor = (await phone.next("message.new"))["event_id"]
    await phone.close()
    await talk.alice.call("users.block", user_id=talk.bob.user_id)
    await talk.alice.next("chat.updated", _is_blocked)
    await people.lose_streams()
    back = await people.connect(talk.alice.user_id, cursor)
    await back.next("chat.updated", _is_blocked)


async def test_without_dbapi(talk: Talk, stopped: Stopped, people: People) -> None:
    """Without dbapi calls fail as retryable -32014, the session lives, and who tries again gets through."""
    async with Client(people.url, people.token(talk.alice.user_id)) as patient:
        async with stopped("dbapi"):
            error = await talk.alice.error("chats.get", chat_id=talk.chat_id)
            assert error.code == -32014
            assert error.data["retryable"]
            await talk.alice.call("session.ping")
            sending = asyncio.create_task(patient.send(talk.chat_id, "hello"))
        await sending
    await talk.arrives("hello")


def _ends_with(text: str) -> Callable[[Any], bool]:
    return lambda params: bool(params["chat"].get("last_message", {}).get("text") == text)


async def test_a_lost_cache_is_filled_from_the_mailbox(talk: Talk, people: People) -> None:
    """When Redis has lost its streams, a device that comes back still gets everything, from the database."""
    await talk.send("one")
    await talk.arrives("one")
    cursor = talk.bob.events[-1]["params"]["event_id"]
    await talk.bob.close()
    await talk.send("two")
    await talk.alice.next("chat.updated", _ends_with("two"))
    await people.lose_streams()
    talk.bob = await people.connect(talk.bob.user_id, cursor)
    assert (await talk.arrives("two"))["seq"] == 2
    await talk.send("three")
    assert (await talk.arrives("three"))["seq"] == 3


async def test_a_push_feed_that_is_cut_off(talk: Talk, people: People) -> None:
    """When Redis drops every subscriber, messages of that moment still arrive, each once for its reader."""
    for number in range(3):
        for url in people.stack.env()["REDIS_URLS"].split():
            async with redis.asyncio.Redis.from_url(url) as node:
                await node.client_kill_filter(_type="pubsub")
        await talk.send(f"message {number}")
    assert {(await talk.arrives(f"message {number}"))["seq"] for number in range(3)} == {1, 2, 3}


async def test_an_edge_that_goes_away(talk: Talk, stack: Stack, people: People) -> None:
    """Clients of an edge that is restarted are told, come back elsewhere, and miss nothing."""
    backoff = Backoff(first=0.05, most=0.5)
    told: set[str] = set()
    texts: set[str] = set()

    async def read() -> None:
        async for note in bob:
            told.add(note.method)
            if note.method == "message.new":
                texts.add(note.params["message"]["text"])
            if len(texts) == 3:
                return

    async with (
        Client(people.url, people.token(talk.alice.user_id), backoff=backoff) as alice,
        Client(people.url, people.token(talk.bob.user_id), backoff=backoff) as bob,
    ):
        reading = asyncio.create_task(read())
        await alice.send(talk.chat_id, "before")
        for edge in ("edge-1", "edge-2"):  # whichever a client is on, it is sent away at least once
            await asyncio.to_thread(stack.restart, edge)
            await alice.send(talk.chat_id, f"after {edge}")
        await asyncio.wait_for(reading, 20)
    assert texts == {"before", "after edge-1", "after edge-2"}
    assert "session.reconnect" in told
