"""The counts behind `unread`, taken from the log of one shard where the chat's document cannot tell."""

from functools import partial

from mesh.errors import Unavailable
from mesh.mailbox import documents
from mesh.mailbox.documents import Document
from mesh.mailbox.driver import Shard
from mesh.mailbox.fold import Head
from mesh.mailbox.model import StoredChat

# Times that a count may be overtaken by other deletions and marks.
ATTEMPTS = 16


async def count_incoming_above(shard: Shard, chat: StoredChat, message_id: str, head: Head) -> int:
    """How many incoming messages up to the head have a greater id: most often none, or few."""
    if message_id >= head.top:
        return 0
    query = {
        "owner": chat.owner,
        "chat_id": chat.chat_id,
        "message_id": {"$gt": message_id},
        "seq": {"$lte": head.seq},
        "sender_id": chat.peer_id,
    }
    return await shard.run(lambda: shard.messages.count_documents(query))


async def count_gone(shard: Shard, chat: StoredChat, read_up_to: str, read_seq: int) -> int:
    """How many incoming messages are deleted of those that a mark at this place leaves unread.

    Args:
        shard: where the chat lies.
        chat: which chat.
        read_up_to: the pointer.
        read_seq: length of the log that the mark has counted.
    """
    query = {
        "owner": chat.owner,
        "chat_id": chat.chat_id,
        "changed_at": {"$exists": True},  # the index holds no others
        "deleted": True,
        "sender_id": chat.peer_id,
        "$or": [{"message_id": {"$gt": read_up_to}}, {"seq": {"$gt": read_seq}}],
    }
    return await shard.run(lambda: shard.messages.count_documents(query))


async def recount_gone(shard: Shard, chat: StoredChat) -> None:
    """Writes the chat's `gone` anew after a deletion, which `chat.deletions` counts already.

    Written only where neither a deletion nor a mark has come meanwhile: each of those counts by itself,
    afterwards, so that the last one to write has seen all.
    """
    key = documents.chat_key(chat.owner, chat.chat_id)
    for _ in range(ATTEMPTS):
        gone = await count_gone(shard, chat, chat.read_up_to, chat.read_seq)
        if gone == chat.gone:
            return
        if await _write(shard, chat, {"gone": gone}):
            return
        if not (found := await shard.find_one(documents.CHATS, {"_id": key})):
            return
        chat = documents.read_chat(found)
    raise Unavailable("Too many change this chat at once; try again.")


async def count_anew(shard: Shard, owner: str, chat_id: str) -> None:
    """Writes all that a chat counts anew from its log, where no deletion and no mark comes meanwhile."""
    key = documents.chat_key(owner, chat_id)
    for _ in range(ATTEMPTS):
        if not (found := await shard.find_one(documents.CHATS, {"_id": key})):
            return
        chat = documents.read_chat(found)
        read = await _count_read(shard, chat)
        gone = await count_gone(shard, chat, chat.read_up_to, chat.read_seq)
        if await _write(shard, chat, {"read_incoming": read, "gone": gone}):
            return
    raise Unavailable("Too many change this chat at once; try again.")


async def _count_read(shard: Shard, chat: StoredChat) -> int:
    query = {
        "owner": chat.owner,
        "chat_id": chat.chat_id,
        "message_id": {"$lte": chat.read_up_to},
        "seq": {"$lte": chat.read_seq},
        "sender_id": chat.peer_id,
    }
    return await shard.run(lambda: shard.messages.count_documents(query))


async def _write(shard: Shard, chat: StoredChat, counted: Document) -> bool:
    """Writes counts unless what they rest on has changed; whether it did."""
    update = {"$set": counted, **documents.NEXT_VERSION}
    done = await shard.run(partial(shard.chats.update_one, documents.counted_as(chat), update))
    return bool(done.matched_count)
