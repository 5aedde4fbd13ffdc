"""What only real shards can show: crashes between two steps, dead and hanging shards, the cost of calls."""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from mesh.breaker import Breaker, Part
from mesh.errors import DeadlineExceeded, Internal, MessengerError, Unavailable
from mesh.mailbox import documents, writing
from mesh.mailbox.appending import read_head
from mesh.mailbox.counting import count_anew
from mesh.mailbox.driver import Shard
from mesh.mailbox.fold import Head
from mesh.mailbox.model import OutboxKind
from mesh.mailbox.mongo import MongoMailbox
from tests.mailbox.support import (
    WITHIN_S,
    Commands,
    Connections,
    Mongod,
    Shards,
    appended,
    chat_of,
    copy_for_peer,
    crash_before_fold,
    deliver,
    failed,
    opened_on,
    send,
    text_message,
    unique,
    whole_log,
)

Make = Callable[..., MongoMailbox]


# Crashes


async def test_a_repeated_send_repairs_its_fold(mongo: Make, shards: Shards) -> None:
    """Stored and not folded: the client repeats itself to another process, and the chat is whole."""
    ann, _, chat_id = await opened_on(mongo(), 0)
    message = text_message(ann, chat_id)
    with crash_before_fold(shards, 0, ann, chat_id):
        await mongo().append_own([message])
    store = mongo()
    assert (await chat_of(store, ann, chat_id)).last is None
    (result,) = await store.append_own([message])
    assert appended(result).duplicate
    chat = await chat_of(store, ann, chat_id)
    assert (chat.seq, chat.last) == (1, appended(result).message)


async def test_a_redelivery_repairs_its_fold(mongo: Make, shards: Shards) -> None:
    """Stored and not folded, the chat not even there: the queue delivers again, and the chat is whole."""
    ann, bob, chat_id = await opened_on(mongo(), 0)
    messages = await send(mongo(), ann, chat_id, "1", "2")
    shards.raw(0, "chats").delete_one({"_id": documents.chat_key(bob, chat_id)})
    with crash_before_fold(shards, 0, bob, chat_id):
        await deliver(mongo(), *messages)
    store = mongo()
    assert isinstance((await store.get_chats([(bob, chat_id)]))[0], MessengerError)
    again = await store.append_incoming([copy_for_peer(message) for message in messages])
    assert [appended(result).duplicate for result in again] == [True, True]
    chat = await chat_of(store, bob, chat_id)
    assert (chat.seq, chat.unread, chat.peer_id) == (2, 2, ann)


async def test_the_next_message_repairs_the_fold(mongo: Make, shards: Shards) -> None:
    """A log that is ahead of its chat is appended to without a hole, and its counts come along."""
    ann, bob, chat_id = await opened_on(mongo(), 0)
    first, second = await send(mongo(), ann, chat_id, "1", "2")
    with crash_before_fold(shards, 0, bob, chat_id):
        await deliver(mongo(), first)
    store = mongo()
    (received,) = await deliver(store, second)
    chat = await chat_of(store, bob, chat_id)
    assert (received.seq, chat.seq, chat.unread) == (2, 2, 2)


async def test_the_relay_repairs_the_fold(mongo: Make, shards: Shards) -> None:
    """Where nobody repeats anything, what is due for publishing is folded first."""
    ann, _, chat_id = await opened_on(mongo(), 0)
    with crash_before_fold(shards, 0, ann, chat_id):
        await send(mongo(), ann, chat_id, "hello")
    store = mongo()
    entries = await store.due(0, timedelta(0), 10_000)
    assert OutboxKind.MESSAGE in {one.ref.kind for one in entries if one.ref.owner == ann}
    assert (await chat_of(store, ann, chat_id)).seq == 1


async def test_marking_counts_the_log_and_not_the_chat(mongo: Make, shards: Shards) -> None:
    """A pointer that is set while the fold is missing still leaves the exact count."""
    ann, bob, chat_id = await opened_on(mongo(), 0)
    first, second, third = await send(mongo(), ann, chat_id, "1", "2", "3")
    await deliver(mongo(), first)
    with crash_before_fold(shards, 0, bob, chat_id):
        await deliver(mongo(), second, third)
    marked = await mongo().mark_read(bob, chat_id, second.message_id)
    assert (marked.chat.unread, marked.chat.seq) == (1, 3)


@pytest.mark.parametrize("competitor", [0, 1], ids=["moves the pointer", "moves the count"])
async def test_a_mark_that_is_overtaken_counts_again(
    mongo: Make, monkeypatch: pytest.MonkeyPatch, competitor: int
) -> None:
    """While a mark is being counted a late message comes in and another device reads it: it stays read."""
    store, other = mongo(), mongo()
    ann, bob, chat_id = await opened_on(store, 0)
    late, first, second, third = await send(store, ann, chat_id, "late", "1", "2", "3")
    await deliver(store, first, second, third)
    await store.mark_read(bob, chat_id, first.message_id)

    async def overtaken(shard: Shard, key: str) -> Head:
        monkeypatch.undo()
        head = await read_head(shard, key)
        await deliver(other, late)
        await other.mark_read(bob, chat_id, (second, first)[competitor].message_id)
        return head

    monkeypatch.setattr(writing, "read_head", overtaken)
    marked = await store.mark_read(bob, chat_id, third.message_id)
    assert (marked.moved, marked.chat.unread) == (True, 0)


async def test_a_chat_that_was_counted_anew_is_marked(mongo: Make, shards: Shards) -> None:
    """Counts that the audit has written, of nothing read among them, stand in no later mark's way."""
    store = mongo()
    ann, bob, chat_id = await opened_on(store, 0)
    first, second = await send(store, ann, chat_id, "1", "2")
    await deliver(store, first, second)
    shards.raw(0, "chats").update_one({"_id": f"{bob}:{chat_id}"}, {"$set": {"gone": 1}})
    await count_anew(store._of(bob), bob, chat_id)
    assert (await chat_of(store, bob, chat_id)).unread == 2
    await count_anew(store._of(bob), bob, chat_id)
    marked = await store.mark_read(bob, chat_id, first.message_id)
    assert (marked.moved, marked.chat.unread) == (True, 1)


async def test_a_forgetful_process_appends_right(mongo: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs that fell out of memory, even within a call, cost reads and nothing else."""
    monkeypatch.setattr("mesh.mailbox.sharded.KNOWN_LOGS", 1)
    store = mongo()
    chats = [await opened_on(store, 0) for _ in range(3)]
    for _ in range(2):
        await store.append_own([text_message(ann, chat_id) for ann, _, chat_id in chats * 2])
    for ann, _, chat_id in chats:
        assert [message.seq for message in await whole_log(store, ann, chat_id)] == [1, 2, 3, 4]


# Costs


async def test_appending_many_costs_three_commands(mongo: Make) -> None:
    """Sixteen messages to sixteen chats of a shard, heads in memory: blocks, one insert, one update."""
    commands = Commands()
    store = mongo(listeners=[commands])
    chats = [await opened_on(store, 0) for _ in range(16)]
    await store.append_own([text_message(ann, chat_id) for ann, _, chat_id in chats])
    commands.names.clear()
    results = await store.append_own([text_message(ann, chat_id) for ann, _, chat_id in chats])
    assert [appended(result).message.seq for result in results] == [2] * 16
    assert commands.names == ["find", "insert", "update"]


async def test_delivering_many_costs_two_commands(mongo: Make) -> None:
    """What has been let through once is not looked at for blocks again."""
    commands = Commands()
    store = mongo(listeners=[commands])
    chats = [await opened_on(store, 0) for _ in range(16)]
    sent = [await send(store, ann, chat_id, "1", "2") for ann, _, chat_id in chats]
    await deliver(store, *(first for first, _ in sent))
    commands.names.clear()
    await deliver(store, *(second for _, second in sent))
    assert commands.names == ["insert", "update"]


async def test_messages_wait_for_the_majority_once(mongo: Make) -> None:
    """A majority has what is answered, by one wait; and has before it what another message follows."""
    commands = Commands()
    store = mongo(listeners=[commands])
    ann, _, chat_id = await opened_on(store, 0)
    commands.waits.clear()
    await store.append_own([text_message(ann, chat_id)])
    assert commands.waits == [("insert", 1), ("update", "majority")]
    commands.waits.clear()
    await store.append_own([text_message(ann, chat_id) for _ in range(2)])
    assert commands.waits == [("insert", "majority"), ("insert", 1), ("update", "majority")]


async def test_another_primary_between_two_writes_is_no_success(
    mongo: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a primary of before has taken is not answered, and nothing builds on it; a repetition heals."""
    store = mongo()
    ann, _, chat_id = await opened_on(store, 0)
    write, terms = Shard.write, iter(range(100))

    async def on_another(shard: Shard, command: documents.Document) -> documents.Document:
        return await write(shard, command) | {"electionId": next(terms)}

    message = text_message(ann, chat_id)
    with monkeypatch.context() as patch:
        patch.setattr(Shard, "write", on_another)
        assert isinstance(failed((await store.append_own([message]))[0]), Unavailable)
    (following,) = await store.append_own([text_message(ann, chat_id)])
    (again,) = await store.append_own([message])
    assert (appended(following).message.seq, appended(again).message.seq) == (2, 1)
    assert appended(again).duplicate


async def test_a_log_is_read_when_a_majority_has_it(mongo: Make) -> None:
    """Who comes second to a place waits until the first is there to stay, and takes the next."""
    ann, _, chat_id = await opened_on(mongo(), 0)
    stores = [mongo() for _ in range(4)]
    answers = await asyncio.gather(*(one.append_own([text_message(ann, chat_id)]) for one in stores))
    assert sorted(appended(answer).message.seq for (answer,) in answers) == [1, 2, 3, 4]


async def test_appending_to_unknown_chats_costs_one_read_more(mongo: Make) -> None:
    """A process that has just started learns all heads of a batch by one find."""
    chats = [await opened_on(mongo(), 0) for _ in range(16)]
    await mongo().append_own([text_message(ann, chat_id) for ann, _, chat_id in chats])
    commands = Commands()
    store = mongo(listeners=[commands])
    await store.append_own([text_message(ann, chat_id) for ann, _, chat_id in chats])
    assert commands.names == ["find", "find", "insert", "update"]


async def test_a_duplicate_costs_one_read_more(mongo: Make) -> None:
    """What is repeated is found by the refused insert, read once, and folded again."""
    commands = Commands()
    store = mongo(listeners=[commands])
    ann, _, chat_id = await opened_on(store, 0)
    messages = [text_message(ann, chat_id)]
    await store.append_own(messages)
    commands.names.clear()
    await store.append_own(messages)
    assert commands.names == ["find", "insert", "find", "update"]


@pytest.mark.parametrize(
    ("call", "cost"),
    [
        (lambda store, owner, chat, at: store.list_chats(owner, "", 20), ["find"]),
        (lambda store, owner, chat, at: store.get_chats([(owner, chat)] * 3), ["find"]),
        (lambda store, owner, chat, at: store.history(owner, chat, limit=50), ["find"]),
        (lambda store, owner, chat, at: store.open_chat(owner, "peer-of-all"), ["find"]),
        (lambda store, owner, chat, at: store.mark_read(owner, chat, at), ["find"] * 3 + ["findAndModify"]),
        (lambda store, owner, chat, at: store.advance_peer_read(owner, chat, at), ["findAndModify"]),
        (lambda store, owner, chat, at: store.due(0, timedelta(days=1), 10), ["find"] * 2),
    ],
    ids=["list_chats", "get_chats", "history", "open_again", "mark_read", "advance_peer_read", "nothing_due"],
)
async def test_what_a_call_costs(mongo: Make, call: Callable[..., Any], cost: list[str]) -> None:
    """Commands of each call, with heads in memory."""
    commands = Commands()
    store = mongo(listeners=[commands])
    owner = unique("ann")
    chat_id = (await store.open_chat(owner, "peer-of-all")).chat.chat_id
    messages = await send(store, owner, chat_id, *["."] * 30)
    commands.names.clear()
    await call(store, owner, chat_id, messages[-1].message_id)
    assert commands.names == cost


async def test_reads_are_served_by_indexes(mongo: Make, shards: Shards) -> None:
    """Lists, history and the relay walk an index in its order; nothing is scanned or sorted."""
    ann, _, chat_id = await opened_on(mongo(), 0)
    await send(mongo(), ann, chat_id, "hello")
    messages, chats = shards.raw(0, "messages"), shards.raw(0, "chats")
    activity = (await chat_of(mongo(), ann, chat_id)).activity
    assert activity is not None
    at = {"$exists": True, "$lte": activity}
    own = {"owner": ann, "client_msg_id": "key"}
    plans = {
        "list": chats.find({"owner": ann, "activity": at}).sort([("activity", -1), ("chat_id", 1)]),
        "history": messages.find({"owner": ann, "chat_id": chat_id}).sort("message_id", -1),
        "head": messages.find({"_id": documents.under(f"{ann}:{chat_id}")}).sort("_id", -1),
        "duplicates": messages.find({"$or": [own, own | {"client_msg_id": "other"}]}),
        "relay's look at messages": messages.find(
            {"$or": _older(activity, "outbox", *documents.CHANGE_MARKS)}
        ),
        "relay's look at chats": chats.find({"$or": _older(activity, *documents.MARKS.values())}),
        "relay": messages.find({"outbox.at": {"$lte": at["$lte"]}}).sort("outbox.at", 1),
        "read marks": chats.find({"outbox_read.at": {"$lte": at["$lte"]}}).sort("outbox_read.at", 1),
        "opened marks": chats.find({"outbox_opened.at": {"$lte": at["$lte"]}}).sort("outbox_opened.at", 1),
        "blocked marks": chats.find({"outbox_blocked.at": {"$lte": at["$lte"]}}).sort("outbox_blocked.at", 1),
    }
    for name, cursor in plans.items():
        plan = str(cursor.explain()["queryPlanner"]["winningPlan"])
        assert "IXSCAN" in plan, (name, plan)
        assert "COLLSCAN" not in plan, (name, plan)
        assert "'stage': 'SORT'" not in plan, (name, plan)


def _older(than: datetime, *marks: str) -> list[dict[str, Any]]:
    return [{f"{mark}.at": {"$lte": than}} for mark in marks]


# Time


async def test_a_caller_without_time_is_refused(mongo: Make) -> None:
    """No command is sent for somebody who has stopped waiting."""
    commands = Commands()
    store = mongo(listeners=[commands], time_left=lambda: 0.0)
    with pytest.raises(DeadlineExceeded):
        await store.list_chats(unique("ann"), "", 5)
    (result,) = await store.append_own([text_message(unique("ann"), "chat")])
    assert isinstance(failed(result), DeadlineExceeded)
    assert commands.names == []


async def test_a_cancelled_caller_leaves_the_write_alone(mongo: Make) -> None:
    """Who goes away at any moment of a write neither undoes it nor breaks the connection."""
    commands, connections = Commands(), Connections()
    store = mongo(listeners=[commands, connections])
    chats = [await opened_on(store, 0) for _ in range(8)]
    await store.append_own([text_message(ann, chat_id) for ann, _, chat_id in chats])
    open_before = set(store._shards[0]._direct._open)
    # Turns of the event loop: from before the command is sent until its answer is awaited.
    for turns, (ann, _, chat_id) in enumerate(chats):
        commands.names.clear()
        call = asyncio.create_task(store.append_own([text_message(ann, chat_id)]))
        async with asyncio.timeout(WITHIN_S):
            while "insert" not in commands.names:  # noqa: ASYNC110 - nothing tells but looking
                await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    for ann, _, chat_id in chats:
        async with asyncio.timeout(WITHIN_S):
            while len(await whole_log(store, ann, chat_id)) < 2:  # noqa: ASYNC110 - nothing tells but looking
                await asyncio.sleep(0.01)
    assert connections.closed == 0
    assert open_before <= store._shards[0]._direct._open


# Dead and hanging shards


async def test_a_dead_shard_hurts_only_its_own(mongo: Make, mongods: list[Mongod]) -> None:
    """Others of the same batch succeed; its own get Unavailable in time; it is back by itself."""
    store = mongo([mongod.uri for mongod in mongods])
    await store.ensure_schema()
    dead, living = await opened_on(store, 0), await opened_on(store, 1)
    mongods[0].stop()
    try:
        started = time.monotonic()
        results = await store.append_own(
            [text_message(owner, chat_id) for owner, _, chat_id in (dead, living, dead, living)]
        )
        assert time.monotonic() - started < WITHIN_S
        assert [type(result).__name__ for result in results] == ["Unavailable", "Appended"] * 2
        with pytest.raises(Unavailable):
            await store.list_chats(dead[0], "", 5)
        assert await store.ping() == (False, True)
        # A chat with somebody over there can be opened; the hidden copy comes with the first message.
        assert (await store.open_chat(living[0], dead[0])).created
        with pytest.raises(Unavailable, match="0"):
            await store.ensure_schema()
        await store.confirm([])
    finally:
        mongods[0].start()
        mongods[0].wait_for_primary()
    async with asyncio.timeout(10):
        while not (await store.ping())[0]:  # noqa: ASYNC110 - nothing tells but asking
            await asyncio.sleep(0.05)
    assert [message.seq for message in await send(store, dead[0], dead[2], "back")] == [1]


async def test_a_known_dead_shard_is_refused_at_once(mongo: Make, mongods: list[Mongod]) -> None:
    """Once the shard is known to be gone nobody waits for it: batches that touch it stay fast."""
    store = mongo([mongod.uri for mongod in mongods])
    owner, _, _ = await opened_on(store, 0)
    mongods[0].stop()
    try:
        with pytest.raises(Unavailable):
            await store.list_chats(owner, "", 5)
        started = time.monotonic()
        for _ in range(20):
            with pytest.raises(Unavailable):
                await store.list_chats(owner, "", 5)
        assert time.monotonic() - started < 0.5
    finally:
        mongods[0].start()
        mongods[0].wait_for_primary()


async def test_a_hanging_shard_keeps_no_other_waiting(mongo: Make, mongods: list[Mongod]) -> None:
    """A shard that takes calls and answers none, under more calls than it may have: others answer as ever."""
    store = mongo([mongod.uri for mongod in mongods])
    hanging, living = await opened_on(store, 0), await opened_on(store, 1)
    mongods[0].freeze()
    try:
        started = time.monotonic()
        stuck = [asyncio.create_task(store.list_chats(hanging[0], "", 5)) for _ in range(200)]
        await asyncio.sleep(0)
        await store.list_chats(living[0], "", 5)
        assert time.monotonic() - started < 1.0
        errors = await asyncio.gather(*stuck, return_exceptions=True)
        assert {type(error) for error in errors} == {Unavailable}
        assert time.monotonic() - started < WITHIN_S
    finally:
        mongods[0].thaw()
    async with asyncio.timeout(10):
        while not (await store.ping())[0]:  # noqa: ASYNC110 - nothing tells but asking
            await asyncio.sleep(0.05)


async def test_a_shard_that_hangs_is_left_alone(mongo: Make, mongods: list[Mongod]) -> None:
    """After one call that it did not answer it is asked nothing until the pause is over; then it is tried."""
    commands, now = Commands(), 0.0
    store = mongo(
        [mongod.uri for mongod in mongods],
        listeners=[commands],
        parts=lambda n: Part(f"shard {n}", seconds=9, breaker=Breaker(tolerance=1), clock=lambda: now),
    )
    (ann, _, chat_id), living = await opened_on(store, 0), await opened_on(store, 1)
    mongods[0].freeze()
    try:
        await store.append_own([text_message(ann, chat_id)])
    finally:
        mongods[0].thaw()
    commands.names.clear()
    [refused] = await store.append_own([text_message(ann, chat_id)])
    assert isinstance(refused, Unavailable)
    assert commands.names == []
    assert (await store.list_chats(living[0], "", 5)).chats
    async with asyncio.timeout(10):
        while isinstance((await store.append_own([text_message(ann, chat_id)]))[0], MessengerError):
            now += 60
            await asyncio.sleep(0.05)  # the driver looks for it by itself


async def test_errors_say_nothing_of_the_inside(mongo: Make, mongods: list[Mongod]) -> None:
    """No address, port or driver's word reaches a caller."""
    nowhere = mongo(["mongodb://127.0.0.1:9/?directConnection=true"])
    with pytest.raises(Unavailable) as caught:
        await nowhere.list_chats(unique("ann"), "", 5)
    assert caught.value.detail == "The mailbox does not answer; try again."


async def test_what_does_not_fit_one_reply_is_no_short_answer(mongo: Make, shards: Shards) -> None:
    """Where a find would be cut, the caller is told so, and does not take a part for the whole."""
    owner = unique("ann")
    large = [{"owner": owner, "message_id": str(n), "text": "x" * 2**20} for n in range(17)]
    shards.raw(0, "messages").insert_many(large)
    shard = mongo()._shards[0]
    assert len(await shard.find("messages", {"owner": owner}, limit=9)) == 9
    with pytest.raises(Internal, match="one reply"):
        await shard.find("messages", {"owner": owner}, limit=99)
