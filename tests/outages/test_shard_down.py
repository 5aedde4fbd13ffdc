"""One of the eight MongoDB shards is stopped: its users wait, and nobody else notices anything."""

import asyncio

from mesh.stack import Stack
from tests.observability.support import eventually
from tests.outages.conftest import SHARD, Join, whoever
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
