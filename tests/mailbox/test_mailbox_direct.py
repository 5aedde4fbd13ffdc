"""The short way to a shard: what takes it, how it proves who we are, what becomes of commands that fail."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable

import bson
import pymongo
import pytest
from bson.codec_options import CodecOptions
from pymongo.errors import AutoReconnect, ConnectionFailure, NetworkTimeout

from mesh.errors import Internal, MessengerError
from mesh.mailbox.direct import HEAD, OP_MSG, Connection
from mesh.mailbox.documents import Document
from mesh.mailbox.driver import Driver, Shard
from mesh.mailbox.mongo import MongoMailbox
from tests.mailbox.support import (
    Connections,
    Mongod,
    deliver,
    opened_on,
    send,
    text_message,
    unique,
    whole_log,
)

Make = Callable[..., MongoMailbox]
Answer = Callable[[int], list[bytes]]
"""What a server sends to a request, by its number, piece by piece; nothing is silence."""

CODEC: CodecOptions[Document] = CodecOptions()


async def test_what_is_frequent_takes_the_short_way(mongo: Make) -> None:
    """Sending, delivering and reading ask nothing of the client library, once it sees the primary."""
    library = Connections()
    store = mongo(listeners=[library])
    ann, bob, chat_id = await opened_on(store, 0, 0)
    [first] = await send(store, ann, chat_id, "1")
    await deliver(store, first)
    library.used = 0
    [second] = await send(store, ann, chat_id, "2")
    await deliver(store, second)
    assert [one.text for one in await whole_log(store, bob, chat_id)] == ["1", "2"]
    assert (await store.list_chats(bob, "", 20)).chats
    assert library.used == 0


async def test_a_refused_command_is_answered_by_the_library(mongo: Make) -> None:
    """What the server does not understand ends as its error, and costs no connection."""
    shard = mongo()._shards[0]
    await shard.find("chats", {}, limit=1)
    await shard.find("chats", {}, limit=1)
    before = set(shard._direct._open)
    with pytest.raises(Internal):
        await shard.find("chats", {"$no_such_operator": 1}, limit=1)
    assert await shard.find("chats", {"_id": unique("nobody")}, limit=1) == []
    assert set(shard._direct._open) == before != set()


async def test_a_primary_that_steps_down_loses_nothing(mongo: Make, mongods: list[Mongod]) -> None:
    """Sending through a change of primary: what was answered is in the log, without a hole."""
    store = mongo([mongod.uri for mongod in mongods])
    await store.ensure_schema()
    ann, _, chat_id = await opened_on(store, 0)
    sent = [text_message(ann, chat_id, str(n)) for n in range(12)]
    await store.append_own(sent[:2])
    with pymongo.MongoClient[Document](mongods[0].uri) as client:
        client.admin.command("replSetStepDown", 1, secondaryCatchUpPeriodSecs=0, force=True)
    for message in sent[2:]:
        async with asyncio.timeout(20):
            while isinstance((await store.append_own([message]))[0], MessengerError):  # noqa: ASYNC110 - no other sign
                await asyncio.sleep(0.05)
    log = await whole_log(store, ann, chat_id)
    assert [(one.seq, one.text) for one in log] == [(n + 1, str(n)) for n in range(12)]


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_each_connection_proves_who_we_are(mongods: list[Mongod], driver: Driver) -> None:
    """Connections of the short way are the user's of the URI; a wrong password opens none."""
    user, password = unique("user"), secrets.token_hex(8)
    with pymongo.MongoClient[Document](mongods[0].uri) as client:
        client.admin.command("createUser", user, pwd=password, roles=["root"])
    address = f"127.0.0.1:{mongods[0].port}/?directConnection=true&authSource=admin"
    shard = Shard(f"mongodb://{user}:{password}@{address}", driver, lambda: 5.0)
    try:
        await shard.find("chats", {}, limit=1)
        status = await shard._direct.command({"connectionStatus": 1}, 5.0)
        assert status["authInfo"]["authenticatedUsers"] == [{"user": user, "db": "admin"}]
    finally:
        await shard.aclose()
    stranger = Shard(f"mongodb://{user}:wrong@{address}", driver, lambda: 5.0)
    try:
        with pytest.raises(MessengerError):
            await stranger.find("chats", {}, limit=1)
        with pytest.raises(ConnectionFailure):
            await stranger._direct.command({"connectionStatus": 1}, 5.0)
    finally:
        await stranger.aclose()


# The wire


def reply(number: int, document: Document) -> bytes:
    """A server's OP_MSG."""
    body = bson.encode(document)
    return HEAD.pack(HEAD.size + len(body), 1, number, OP_MSG, 0, 0) + body


@contextlib.asynccontextmanager
async def connection(answer: Answer) -> AsyncIterator[tuple[Connection, list[str]]]:
    """A connection to a server that answers like this, and what it told of itself."""
    told: list[str] = []
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length, number, *_ = HEAD.unpack(await reader.readexactly(HEAD.size))
                await reader.readexactly(length - HEAD.size)
                for piece in answer(number):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        writer.close()
        served.set()

    made = Connection(("127.0.0.1", 0), CODEC, lambda _: told.append("done"), lambda _: told.append("lost"))
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        await asyncio.get_running_loop().create_connection(lambda: made, host, port)
        try:
            yield made, told
        finally:
            made.close()
            await served.wait()


async def test_a_reply_may_come_in_pieces() -> None:
    """However the network cuts a reply, it is read whole; then the connection takes the next command."""
    long = {"ok": 1, "text": "x" * 200}
    async with connection(lambda n: [bytes([one]) for one in reply(n, long)]) as (made, told):
        for number in (7, 8):
            assert await made.send(number, bson.encode({}), 5.0) == long
        assert told == ["done"] * 2


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda n: [], NetworkTimeout),
        (lambda n: [reply(n + 1, {"ok": 1})], AutoReconnect),
        (lambda n: [reply(n, {"ok": 1}) * 2], AutoReconnect),
        (lambda n: [HEAD.pack(HEAD.size + 5, 1, n, OP_MSG, 0, 0) + b"\xff" * 5], AutoReconnect),
        (lambda n: [HEAD.pack(3, 1, n, OP_MSG, 0, 0)], AutoReconnect),
    ],
    ids=["silence", "another's reply", "two replies", "no document", "no length"],
)
async def test_what_is_no_reply_breaks_the_connection_off(
    answer: Answer, error: type[ConnectionFailure]
) -> None:
    """Nobody gets what was not meant for them: the command fails, and the connection is used no more."""
    async with connection(answer) as (made, told):
        with pytest.raises(error):
            await made.send(7, bson.encode({}), 0.5)
        with pytest.raises(AutoReconnect):
            await made.send(8, bson.encode({}), 0.5)
        assert "done" not in told
