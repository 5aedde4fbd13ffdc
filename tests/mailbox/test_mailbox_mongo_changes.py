"""What only real shards can show of changes, blocks and search: crashes, dead shards, costs."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from mesh.errors import Unavailable
from mesh.mailbox import blocks, counting, documents, writing
from mesh.mailbox.driver import PLACES, Shard
from mesh.mailbox.model import StoredChat, StoredMessage
from mesh.mailbox.mongo import MongoMailbox
from tests.mailbox.support import (
    Commands,
    Mongod,
    Shards,
    chat_of,
    crash_before_fold,
    deliver,
    failed,
    opened_on,
    send,
    text_message,
    unread_of,
)

Make = Callable[..., MongoMailbox]


async def received_on(store: MongoMailbox, shard: int, *texts: str) -> list[StoredMessage]:
    """The receiver's copies of messages of two new people of the shard."""
    ann, _, chat_id = await opened_on(store, shard)
    return await deliver(store, *await send(store, ann, chat_id, *texts))


# Crashes


async def test_the_relay_repairs_the_fold_of_a_change(mongo: Make, shards: Shards) -> None:
    """Edited and not folded: what is due for publishing is folded first, and is a change of the chat."""
    store = mongo()
    ann, _, chat_id = await opened_on(store, 0)
    (sent,) = await send(store, ann, chat_id, "0")
    with crash_before_fold(shards, 0, ann, chat_id):
        edited = await store.edit(ann, chat_id, sent.message_id, "1")
    assert (await chat_of(store, ann, chat_id)).last == sent
    await store.due(0, timedelta(0), 10_000)
    chat = await chat_of(store, ann, chat_id)
    assert (chat.last, chat.changed_at) == (edited.message, edited.message.changed_at)


async def test_the_relay_repairs_the_count_of_a_deletion(mongo: Make, shards: Shards) -> None:
    """Deleted for the owner alone, and the process died: unread is exact again though nobody repeats it."""
    store = mongo()
    first, _ = await received_on(store, 0, "1", "2")
    with crash_before_fold(shards, 0, first.owner, first.chat_id):
        await store.delete(first.owner, first.chat_id, first.message_id, for_all=False)
    assert await unread_of(store, first.owner, first.chat_id) == 2
    await store.due(0, timedelta(0), 10_000)
    assert await unread_of(store, first.owner, first.chat_id) == 1


async def test_a_redelivery_repairs_a_removal(mongo: Make, shards: Shards) -> None:
    """The copy is empty and the chat does not know: the queue comes again, and the count is exact."""
    store = mongo()
    first, second = await received_on(store, 0, "1", "2")
    with crash_before_fold(shards, 0, second.owner, second.chat_id):
        await store.apply_removal(second.owner, second.chat_id, second.message_id, version=1)
    assert await unread_of(store, second.owner, second.chat_id) == 2
    removed = await mongo().apply_removal(second.owner, second.chat_id, second.message_id, version=1)
    assert await unread_of(store, first.owner, first.chat_id) == 1
    assert (await chat_of(store, first.owner, first.chat_id)).last == removed


@pytest.mark.parametrize("mark", [False, True])
async def test_an_overtaken_count_counts_again(
    mongo: Make, monkeypatch: pytest.MonkeyPatch, mark: bool
) -> None:
    """A deletion between the count and its writing is not lost, nor is a mark."""
    store, other = mongo(), mongo()
    sent = await received_on(store, 0, *"abcde")
    owner, chat_id = sent[0].owner, sent[0].chat_id
    count, overtaken = counting.count_gone, False

    async def slow(shard: Shard, chat: StoredChat, read_up_to: str, read_seq: int) -> int:
        nonlocal overtaken
        counted = await count(shard, chat, read_up_to, read_seq)
        if not overtaken:
            overtaken = True
            await other.delete(owner, chat_id, sent[3].message_id, for_all=False)
            if mark:
                await other.mark_read(owner, chat_id, sent[1].message_id)
        return counted

    monkeypatch.setattr(counting, "count_gone", slow)
    await store.delete(owner, chat_id, sent[2].message_id, for_all=False)
    chat = await chat_of(store, owner, chat_id)
    assert (chat.unread, chat.gone) == (1 if mark else 3, 2)


async def test_a_mark_overtaken_by_a_deletion_counts_again(
    mongo: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is deleted while a mark counts what is gone does not come back as unread."""
    store, other = mongo(), mongo()
    sent = await received_on(store, 0, *"abcde")
    owner, chat_id = sent[0].owner, sent[0].chat_id
    await store.delete(owner, chat_id, sent[4].message_id, for_all=False)
    count, overtaken = counting.count_gone, False

    async def slow(shard: Shard, chat: StoredChat, read_up_to: str, read_seq: int) -> int:
        nonlocal overtaken
        counted = await count(shard, chat, read_up_to, read_seq)
        if not overtaken:
            overtaken = True
            await other.delete(owner, chat_id, sent[3].message_id, for_all=False)
        return counted

    monkeypatch.setattr(writing, "count_gone", slow)
    marked = await store.mark_read(owner, chat_id, sent[1].message_id)
    assert (marked.moved, marked.chat.unread, marked.chat.gone) == (True, 1, 2)


async def test_flags_overtaken_by_an_unblock_are_taken_back(
    mongo: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever shows a block that was lifted meanwhile looks again: no chat stays flagged."""
    store, other = mongo(), mongo()
    ann, bob, chat_id = await opened_on(store, 0, 1)
    find, overtaken = blocks.find, False

    async def slow(*arguments: Any) -> frozenset[blocks.Block]:
        nonlocal overtaken
        found = await find(*arguments)
        if not overtaken:
            overtaken = True
            await other.set_blocked(bob, ann, blocked=False)
        return found

    monkeypatch.setattr(blocks, "find", slow)
    await store.set_blocked(bob, ann, blocked=True)
    blocked = bool(await store.blocked_among(ann, [bob]))
    assert (await chat_of(store, ann, chat_id)).blocked_by_peer == blocked
    blocked = bool(await store.blocked_among(bob, [ann]))
    assert (await chat_of(store, bob, chat_id)).blocked == blocked


# Costs


@pytest.mark.parametrize(
    ("call", "cost"),
    [
        (lambda store, own, _: store.edit(*own, "new"), ["find", "find", "update", "findAndModify"]),
        (lambda store, own, _: store.delete(*own, for_all=True), ["find", "update", "findAndModify"]),
        (
            lambda store, _, their: store.delete(*their, for_all=False),
            ["find", "update", "findAndModify", "aggregate", "update"],
        ),
        (lambda store, _, their: store.mark_delivered(*their), ["find", "findAndModify"]),
        (lambda store, _, their: store.mark_read(*their), ["find"] * 3 + ["findAndModify"]),
        (lambda store, own, _: store.record_rejection(*own, "spam"), ["update"]),
        (lambda store, own, _: store.search(own[0], "x", limit=5), ["find"]),
        (lambda store, own, _: store.search(own[0], "x", chat_id=own[1], limit=5), ["find"]),
        (lambda store, own, _: store.blocked_among(own[0], ["x"] * 100), ["find"]),
    ],
    ids=[
        "edit",
        "delete",
        "delete_incoming",
        "delivered",
        "read",
        "reject",
        "search",
        "search_chat",
        "blocked",
    ],
)
async def test_what_a_change_costs(mongo: Make, call: Callable[..., Any], cost: list[str]) -> None:
    """Commands of each call; only a deletion of what came in has something to count."""
    commands = Commands()
    store = mongo(listeners=[commands])
    ann, bob, chat_id = await opened_on(store, 0)
    await store.open_chat(bob, ann)
    (sent,) = await send(store, ann, chat_id, "hello")
    (received,) = await deliver(store, *await send(store, bob, chat_id, "hello"))
    commands.names.clear()
    await call(store, (ann, chat_id, sent.message_id), (ann, chat_id, received.message_id))
    assert commands.names == cost


async def test_changes_are_served_by_indexes(mongo: Make, shards: Shards) -> None:
    """What changed, what is gone and the relay walk small indexes; nothing is scanned or sorted."""
    store = mongo()
    sent = await received_on(store, 0, *"abc")
    owner, chat_id, peer = sent[0].owner, sent[0].chat_id, sent[0].peer_id
    await store.delete(owner, chat_id, sent[0].message_id, for_all=False)
    at = (await chat_of(store, owner, chat_id)).changed_at
    messages, chats = shards.raw(0, "messages"), shards.raw(0, "chats")
    of_chat = {"owner": owner, "chat_id": chat_id}
    changed = of_chat | {"changed_at": {"$gte": at}, "stored_at": {"$lt": at}}
    gone = of_chat | {"changed_at": {"$exists": True}, "deleted": True, "sender_id": peer}
    gone["$or"] = [{"message_id": {"$gt": sent[0].message_id}}, {"seq": {"$gt": 1}}]
    plans = {
        "changed": messages.find(changed).sort("seq", -1),
        "gone": messages.find(gone),
        "delivered marks": chats.find({"outbox_delivered.at": {"$lte": at}}).sort("outbox_delivered.at", 1),
        "search in a chat": messages.find(of_chat | {"text": {"$regex": "x"}}).sort("message_id", -1),
    } | {
        mark: messages.find({f"{mark}.at": {"$lte": at}}).sort(f"{mark}.at", 1)
        for mark in documents.CHANGE_MARKS
    }
    for name, cursor in plans.items():
        plan = str(cursor.explain()["queryPlanner"]["winningPlan"])
        assert "IXSCAN" in plan, (name, plan)
        assert "COLLSCAN" not in plan, (name, plan)
        assert "'stage': 'SORT'" not in plan, (name, plan)
    whole = messages.find({"_id": documents.under(owner), "text": {"$regex": "x"}}).sort("message_id", -1)
    assert "COLLSCAN" not in str(whole.limit(5).explain()["queryPlanner"]["winningPlan"])


async def test_searches_have_places_of_their_own(mongo: Make) -> None:
    """However many search, what is quick does not wait for them, and they do not wait for ever."""
    store = mongo(time_left=lambda: 0.3)
    ann, _, chat_id = await opened_on(store, 0)
    scans = store._shards[0]._places["scans"]
    for _ in range(PLACES["scans"]):
        await scans.acquire()
    with pytest.raises(Unavailable):
        await store.search(ann, "x", limit=5)
    await send(store, ann, chat_id, "hello")
    scans.release()
    assert len((await store.search(ann, "hello", limit=5)).messages) == 1


async def test_sending_waits_behind_nobody_who_reads(mongo: Make) -> None:
    """However many read, what is sent, known chat or not, has places of its own, on both sides."""
    store = mongo(time_left=lambda: 1.0)
    ann, _, chat_id = await opened_on(mongo(), 0)
    reading = store._shards[0]._places["calls"]
    for _ in range(PLACES["calls"]):
        await reading.acquire()
    [message] = await send(store, ann, chat_id, "hello")
    await deliver(store, message)
    with pytest.raises(Unavailable):
        await store.list_chats(ann, "", 5)


# Dead shards


async def test_a_block_needs_both_shards(mongo: Make, mongods: list[Mongod]) -> None:
    """Half a block is an error to the caller, and the same call completes it; nothing is refused in error."""
    store = mongo([mongod.uri for mongod in mongods])
    await store.ensure_schema()
    ann, bob, chat_id = await opened_on(store, 0, 1)
    mongods[1].stop()
    try:
        with pytest.raises(Unavailable):
            await store.set_blocked(ann, bob, blocked=True)
    finally:
        mongods[1].start()
        mongods[1].wait_for_primary()
    fresh = mongo([mongod.uri for mongod in mongods])
    await fresh.set_blocked(ann, bob, blocked=True)
    assert (await fresh.list_blocked(ann, "", 5)).user_ids == (bob,)
    assert await fresh.blocked_among(bob, [ann]) == {ann}
    (refused,) = await fresh.append_own([text_message(ann, chat_id)])
    assert failed(refused).reason == "BLOCKED"


async def test_a_block_stands_without_its_flags(mongo: Make, shards: Shards) -> None:
    """A process that died before it flagged the chats has still blocked: flags show, blocks decide."""
    store = mongo()
    ann, bob, chat_id = await opened_on(store, 0)
    await store.set_blocked(bob, ann, blocked=True)
    chats = shards.raw(0, "chats")
    chats.update_many({"chat_id": chat_id}, {"$unset": {"blocked": "", "blocked_by_peer": ""}})
    (refused,) = await mongo().append_own([text_message(ann, chat_id)])
    assert failed(refused).reason == "BLOCKED_BY_PEER"
    await mongo().set_blocked(bob, ann, blocked=True)
    assert (await chat_of(store, ann, chat_id)).blocked_by_peer


async def test_a_later_copy_takes_no_text_of_before(mongo: Make, shards: Shards) -> None:
    """What was taken away is gone from the receiver's shard, with the text of every edit before."""
    store = mongo()
    (copy,) = await received_on(store, 0, "first secret")
    await store.apply_edit(
        copy.owner, copy.chat_id, copy.message_id, text="second secret", edited_at=copy.stored_at, version=1
    )
    await store.apply_removal(copy.owner, copy.chat_id, copy.message_id, version=2)
    of_chat = {"owner": copy.owner, "chat_id": copy.chat_id}
    for collection in ("messages", "chats"):
        (document,) = shards.raw(0, collection).find(of_chat)
        assert "secret" not in str(document)
