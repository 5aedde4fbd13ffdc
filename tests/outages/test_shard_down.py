"""One of the eight MongoDB shards is stopped, or hangs: its users wait, and nobody else notices anything."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pymongo
import pytest

from mesh.stack import Stack
from tests.observability.support import eventually
from tests.outages.conftest import SHARD, Hang, Join, whoever
from tests.outages.scene import Scene
from tests.outages.support import failed, missing


async def test_one_shard_down(scene: Scene, join: Join, servers: Stack) -> None:
    """Bob and Carol do everything as ever; what Bob writes to Alice waits for her shard, and arrives."""
    carol = await join(whoever(lambda shard: shard != SHARD, "carol"))
    opened = await scene.bob.call("chats.open", peer_id=carol.user_id)
    to_carol = {"chat_id": opened["chat"]["chat_id"]}
    await asyncio.to_thread(servers.stop, f"mongo-{SHARD}")
    try:
        for n in range(3):
            to_alice = {"chat_id": scene.chat_id, "text": f"alice? {n}", "client_msg_id": f"alice {n}"}
            await scene.bob.call("messages.send", **to_alice)
            text = f"{scene.bob.user_id} {n}"
            await scene.bob.call("messages.send", **to_carol, text=text, client_msg_id=text)
            await carol.hears(text)
            _, bob = await scene.ask_everything()
            assert failed(bob) == {}
            assert missing(bob) == set()
        outcome = await scene.alice.ask("messages.history", chat_id=scene.chat_id)
        assert outcome.code in (-32004, -32014)
        await scene.alice.call("session.ping")
    finally:
        await asyncio.to_thread(servers.start, f"mongo-{SHARD}")
    for n in range(3):
        await scene.alice.hears(f"alice? {n}")
    await eventually(scene.is_whole)


@contextlib.asynccontextmanager
async def locked(servers: Stack) -> AsyncIterator[None]:
    """The shard takes no writes for a block, and answers the driver's monitor as ever."""
    settings = servers.settings
    with pymongo.MongoClient[dict[str, Any]](
        port=settings.stack_port_base + SHARD,
        username="__system",
        password=(settings.directory / "data/mongo.key").read_text().strip(),
        authSource="local",
        authMechanism="SCRAM-SHA-256",
        directConnection=True,
    ) as client:
        await asyncio.to_thread(client.admin.command, {"fsync": 1, "lock": True})
        try:
            yield
        finally:
            await asyncio.to_thread(client.admin.command, "fsyncUnlock")


@pytest.mark.parametrize("how", ["as a whole", "in its writes"])
async def test_one_shard_hangs(
    how: str,
    scene: Scene,
    join: Join,
    hang: Hang,
    servers: Stack,
    record_property: Callable[[str, object], None],
) -> None:
    """What Bob writes to Carol, each time after something to Alice, arrives while her shard hangs."""
    carol = await join(whoever(lambda shard: shard != SHARD, "carol"))
    opened = await scene.bob.call("chats.open", peer_id=carol.user_id)
    to_carol, seconds = {"chat_id": opened["chat"]["chat_id"]}, []
    async with hang("mongo") if how == "as a whole" else locked(servers):
        for n in range(12):
            to_alice = {"chat_id": scene.chat_id, "text": f"alice! {n}", "client_msg_id": f"alice! {n}"}
            await scene.bob.call("messages.send", **to_alice)
            text, began = f"{scene.bob.user_id}! {n}", time.monotonic()
            await scene.bob.call("messages.send", **to_carol, text=text, client_msg_id=text)
            await carol.hears(text)
            seconds.append(time.monotonic() - began)
    record_property("seconds", [round(one, 3) for one in seconds])
    for n in range(12):
        await scene.alice.hears(f"alice! {n}")
    await eventually(scene.is_whole)
