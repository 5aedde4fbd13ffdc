"""An upgrade as docs/operations.md describes it: each service anew, one after the other, under load."""

import asyncio
import uuid
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

from edge.client import Client
from mesh import tokens
from mesh.stack import Stack

PAIRS = 6
PROGRAMS = ("dbstore", "antispam", "dbapi", "aggregator", "edge-1", "edge-2")
WAIT_S = 30.0
BEFORE_ALL = str(uuid.UUID(int=0))


async def open_client(entered: AsyncExitStack, stack: Stack, user: str) -> Client:
    """A signed-in client of one user."""
    token = tokens.issue(
        user, secret=stack.env()["JWT_SECRET"], now=datetime.now(UTC), ttl=timedelta(hours=1)
    )
    return await entered.enter_async_context(Client(stack.env()["PUBLIC_URL"], token, call_seconds=WAIT_S))


async def keep_sending(sender: Client, chat_id: str, over: asyncio.Event) -> list[str]:
    """Sends one message after the other until told to stop; the ids of those that were acknowledged."""
    acknowledged: list[str] = []
    while not over.is_set():
        message = await sender.send(chat_id, f"message {len(acknowledged) + 1}")
        acknowledged.append(message["message_id"])
    return acknowledged


async def hear(receiver: Client, wanted: int) -> list[str]:
    """The ids of new messages, until there are as many as wanted."""
    heard: dict[str, None] = {}
    async with asyncio.timeout(WAIT_S):
        async for note in receiver:
            if note.method == "message.new":
                heard[note.params["message"]["message_id"]] = None
            if len(heard) >= wanted:
                break
    return list(heard)


async def stored(reader: Client, chat_id: str) -> list[str]:
    """The ids of a whole chat, in the order of display; its `seq` has no hole and nothing twice."""
    ids: list[str] = []
    places: list[int] = []
    more = True
    while more:
        after = ids[-1] if ids else BEFORE_ALL
        page = await reader.call("messages.history", chat_id=chat_id, limit=100, after=after)
        ids += [one["message_id"] for one in page["messages"]]
        places += [one["seq"] for one in page["messages"]]
        more = page.get("has_more", False)
    assert sorted(places) == list(range(1, len(ids) + 1))
    return ids


async def test_an_upgrade_loses_nothing(stack: Stack) -> None:
    """While every service starts anew: what was acknowledged is in both mailboxes, once, and was heard."""
    over = asyncio.Event()
    async with AsyncExitStack() as entered:
        names = [(f"from-{uuid.uuid4().hex}", f"to-{uuid.uuid4().hex}") for _ in range(PAIRS)]
        pairs = [[await open_client(entered, stack, name) for name in pair] for pair in names]
        chats = [(await sender.call("chats.open", peer_id=to))["chat"]["chat_id"]
                 for (sender, _), (_, to) in zip(pairs, names, strict=True)]  # fmt: skip
        sending = [asyncio.create_task(keep_sending(sender, chat, over))
                   for (sender, _), chat in zip(pairs, chats, strict=True)]  # fmt: skip
        for program in PROGRAMS:
            await asyncio.to_thread(stack.restart, program)
        over.set()
        sent = await asyncio.gather(*sending)
        assert min(map(len, sent)) > len(PROGRAMS)
        for (sender, receiver), chat, ids in zip(pairs, chats, sent, strict=True):
            assert sorted(await hear(receiver, len(ids))) == ids  # an overtaken push is displayed by its id
            assert await stored(sender, chat) == ids
            assert await stored(receiver, chat) == ids
