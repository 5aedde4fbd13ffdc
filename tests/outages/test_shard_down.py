"""One of the eight MongoDB shards is stopped, or hangs: its users wait, and nobody else notices anything."""

import asyncio
import time
from collections.abc import Callable

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


async def test_one_shard_hangs(
    scene: Scene, join: Join, hang: Hang, record_property: Callable[[str, object], None]
) -> None:
    """What Bob writes to Carol, each time after something to Alice, arrives while her shard hangs."""
    carol = await join(whoever(lambda shard: shard != SHARD, "carol"))
    opened = await scene.bob.call("chats.open", peer_id=carol.user_id)
    to_carol, seconds = {"chat_id": opened["chat"]["chat_id"]}, []
    async with hang("mongo"):
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
