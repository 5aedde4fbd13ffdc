"""The promises of `store.Blocks`, and what a block keeps from being written."""

import asyncio

import pytest
from msgspec.structs import replace

from mesh.errors import FailedPrecondition, IdempotencyConflict, InvalidArgument
from mesh.mailbox import ids
from mesh.mailbox.model import OutboxEntry, OutboxKind
from mesh.mailbox.store import MailboxStore
from tests.mailbox.support import (
    appended,
    chat_of,
    copy_for_peer,
    deliver,
    failed,
    marks_of,
    opened,
    send,
    text_message,
    unique,
    user_on,
)

Twins = tuple[MailboxStore, MailboxStore]


async def reason_for(store: MailboxStore, owner: str, chat_id: str) -> str:
    """Why the owner cannot write into the chat."""
    error = failed((await store.append_own([text_message(owner, chat_id)]))[0])
    assert isinstance(error, FailedPrecondition)
    return error.reason


@pytest.mark.parametrize("places", [(0, 0), (0, 1)])
async def test_a_block_holds_in_every_process_at_once(twins: Twins, places: tuple[int, int]) -> None:
    """Both sides are refused, also by a process that has written to the chat before; unblocking ends it."""
    ann, bob = (user_on(twins[0], shard) for shard in places)
    chat_id = (await twins[0].open_chat(ann, bob)).chat.chat_id
    await twins[0].open_chat(bob, ann)
    for store in twins:
        await send(store, ann, chat_id, "hello")
        await send(store, bob, chat_id, "hello")
    await twins[0].set_blocked(bob, ann, blocked=True)
    await twins[0].set_blocked(bob, ann, blocked=True)
    for store in twins:
        assert await reason_for(store, ann, chat_id) == "BLOCKED_BY_PEER"
        assert await reason_for(store, bob, chat_id) == "BLOCKED"
    await twins[1].set_blocked(bob, ann, blocked=False)
    for store in twins:
        await send(store, ann, chat_id, "again")
        await send(store, bob, chat_id, "again")


async def test_a_block_refuses_only_its_own(store: MailboxStore) -> None:
    """Others of the same batch, and the same person's other chats with others, go on."""
    ann, bob, chat_id = await opened(store)
    other = (await store.open_chat(ann, unique("carl"))).chat.chat_id
    await store.set_blocked(bob, ann, blocked=True)
    refused, sent = await store.append_own([text_message(ann, chat_id), text_message(ann, other)])
    assert failed(refused).reason == "BLOCKED_BY_PEER"
    assert appended(sent).message.seq == 1


async def test_a_repetition_is_answered_in_spite_of_a_block(store: MailboxStore) -> None:
    """What was stored before the block is told as it was; another content under its key conflicts."""
    ann, bob, chat_id = await opened(store)
    new = text_message(ann, chat_id, "before", "key")
    first = appended((await store.append_own([new]))[0])
    await store.set_blocked(bob, ann, blocked=True)
    again = appended((await store.append_own([new]))[0])
    assert (again.duplicate, again.message) == (True, first.message)
    other = await store.append_own([text_message(ann, chat_id, "other", "key")])
    assert isinstance(failed(other[0]), IdempotencyConflict)


async def test_what_is_on_its_way_still_arrives(store: MailboxStore) -> None:
    """A message that was answered as stored before the block is not lost by it."""
    ann, bob, chat_id = await opened(store)
    (sent,) = await send(store, ann, chat_id, "before")
    await store.set_blocked(bob, ann, blocked=True)
    (received,) = await store.append_incoming([copy_for_peer(sent)])
    assert appended(received).message.text == "before"


async def test_a_block_refuses_edits(store: MailboxStore) -> None:
    """No new text comes by way of an old message; taking one away stays possible."""
    ann, bob, chat_id = await opened(store)
    (sent,) = await send(store, ann, chat_id, "before")
    await store.set_blocked(bob, ann, blocked=True)
    with pytest.raises(FailedPrecondition) as caught:
        await store.edit(ann, chat_id, sent.message_id, "after")
    assert caught.value.reason == "BLOCKED_BY_PEER"
    assert (await store.delete(ann, chat_id, sent.message_id, for_all=True)).message.deleted


async def test_chats_show_their_blocks(store: MailboxStore) -> None:
    """All chats of the two, those that are there and those that come later; nobody else's."""
    ann, bob, first = await opened(store)
    other = (await store.open_chat(bob, unique("carl"))).chat.chat_id
    await store.set_blocked(bob, ann, blocked=True)
    later = (await store.open_chat(bob, ann, "later")).chat
    folded = ids.chat_id(ann, bob, "folded")
    (sent,) = await send(store, ann, (await store.open_chat(ann, unique("dora"))).chat.chat_id, "x")
    await store.append_incoming([replace(copy_for_peer(sent), owner=bob, chat_id=folded)])
    assert later.blocked
    for chat_id in (first, later.chat_id):
        mine, theirs = await chat_of(store, bob, chat_id), await chat_of(store, ann, chat_id)
        assert (mine.blocked, mine.blocked_by_peer) == (True, False)
        assert (theirs.blocked, theirs.blocked_by_peer) == (False, True)
    assert (await chat_of(store, bob, folded)).blocked
    assert not (await chat_of(store, bob, other)).blocked
    await store.set_blocked(bob, ann, blocked=False)
    for chat_id in (first, later.chat_id):
        for owner in (ann, bob):
            chat = await chat_of(store, owner, chat_id)
            assert (chat.blocked, chat.blocked_by_peer) == (False, False)


async def block_marks(store: MailboxStore, owner: str) -> list[OutboxEntry]:
    """What is still to be told of the owner's blocks, by chat."""
    marks = [one for one in await marks_of(store, owner) if one.ref.kind is OutboxKind.BLOCKED]
    return sorted(marks, key=lambda entry: entry.ref.chat_id)


async def test_a_block_waits_in_the_outbox_of_each_chat(store: MailboxStore) -> None:
    """Each of the owner's chats with that person, and no other, is to be told of until that is confirmed."""
    ann, bob, first = await opened(store)
    chats = sorted([(await store.open_chat(bob, ann, item)).chat.chat_id for item in ("", "bike")])
    await store.open_chat(bob, unique("carl"))
    for blocked in (True, False):
        told = await store.set_blocked(bob, ann, blocked=blocked)
        assert sorted(entry.ref.chat_id for entry in told) == chats
        assert first in chats
        marks = await block_marks(store, bob)
        assert [(entry.ref, entry.peer_id) for entry in marks] == sorted(
            [(entry.ref, ann) for entry in told], key=lambda one: one[0].chat_id
        )
        again = await store.set_blocked(bob, ann, blocked=blocked)
        assert {entry.ref for entry in again} == {entry.ref for entry in told}, "not confirmed yet"
        await store.confirm([entry.ref for entry in told])
        assert await block_marks(store, bob) == []
        assert await store.set_blocked(bob, ann, blocked=blocked) == [], "nothing has changed"
    assert await block_marks(store, ann) == [], "the other side is told nothing"


async def test_a_confirm_clears_its_own_block_alone(store: MailboxStore) -> None:
    """Who unblocks while the block is on its way is told of by a mark of its own, which stays."""
    ann, bob, _ = await opened(store)
    await store.open_chat(bob, ann)
    [first] = await store.set_blocked(bob, ann, blocked=True)
    [second] = await store.set_blocked(bob, ann, blocked=False)
    await store.confirm([first.ref])
    assert [entry.ref for entry in await block_marks(store, bob)] == [second.ref]
    await store.confirm([second.ref])
    assert await block_marks(store, bob) == []


async def test_blocks_of_both_are_two(store: MailboxStore) -> None:
    """Lifting one leaves the other."""
    ann, bob, chat_id = await opened(store)
    await store.set_blocked(ann, bob, blocked=True)
    await store.set_blocked(bob, ann, blocked=True)
    assert await reason_for(store, ann, chat_id) == "BLOCKED"
    await store.set_blocked(ann, bob, blocked=False)
    assert await reason_for(store, ann, chat_id) == "BLOCKED_BY_PEER"


async def test_blocking_and_unblocking_at_once_agree(twins: Twins) -> None:
    """However the calls overlap: the chats of both show what a sender is told."""
    ann, bob, chat_id = await opened(twins[0])
    calls = (twins[turn % 2].set_blocked(bob, ann, blocked=turn % 3 != 0) for turn in range(9))
    items = (twins[turn % 2].open_chat(ann, bob, f"{turn}") for turn in range(4))
    _, chats = await asyncio.gather(asyncio.gather(*calls), asyncio.gather(*items))
    (result,) = await twins[0].append_own([text_message(ann, chat_id)])
    blocked = isinstance(result, FailedPrecondition)
    for shown in (chat_id, *(one.chat.chat_id for one in chats)):
        assert (await chat_of(twins[1], ann, shown)).blocked_by_peer == blocked
        assert (await chat_of(twins[1], bob, shown)).blocked == blocked
    assert await twins[1].blocked_among(ann, [bob]) == (frozenset({bob}) if blocked else frozenset())


async def test_the_blocked_are_listed_in_pages(store: MailboxStore) -> None:
    """Each once, by id, and only those whom the owner has blocked."""
    ann, users = unique("ann"), sorted(unique("user") for _ in range(5))
    for user in users:
        await store.set_blocked(ann, user, blocked=True)
    await store.set_blocked(unique("eve"), ann, blocked=True)
    listed: list[str] = []
    cursor, sizes = "", []
    while True:
        page = await store.list_blocked(ann, cursor, 2)
        listed += page.user_ids
        sizes.append(len(page.user_ids))
        if not (cursor := page.next_cursor):
            break
    assert (listed, sizes) == (users, [2, 2, 1])
    assert (await store.list_blocked(ann, "", 5)).next_cursor == ""
    with pytest.raises(InvalidArgument, match="cursor"):
        await store.list_blocked(ann, "no one", 5)


async def test_blocks_are_found_either_way(store: MailboxStore) -> None:
    """Whom the owner has blocked, and who has blocked the owner; nobody else of those asked for."""
    ann, mine, theirs, friend = (unique(name) for name in ("ann", "mine", "theirs", "friend"))
    await store.set_blocked(ann, mine, blocked=True)
    await store.set_blocked(theirs, ann, blocked=True)
    assert await store.blocked_among(ann, [friend, theirs, mine]) == {mine, theirs}
    assert await store.blocked_among(ann, [friend]) == frozenset()
    assert await store.blocked_among(ann, []) == frozenset()


@pytest.mark.parametrize(("owner", "user"), [("a", "a"), ("", "b"), ("a:b", "c"), ("a", "b;")])
async def test_impossible_blocks_are_refused(store: MailboxStore, owner: str, user: str) -> None:
    """Oneself, and ids that would not be safe inside a key."""
    with pytest.raises(InvalidArgument):
        await store.set_blocked(owner, user, blocked=True)


async def test_a_block_survives_deliveries(store: MailboxStore) -> None:
    """Folding a message into a chat leaves its flags."""
    ann, bob, chat_id = await opened(store)
    sent = await send(store, ann, chat_id, "1", "2")
    await store.set_blocked(bob, ann, blocked=True)
    await deliver(store, *sent)
    assert (await chat_of(store, bob, chat_id)).blocked
