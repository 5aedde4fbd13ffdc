"""The promises of `mesh.mailbox.store`, held against every implementation."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from mesh.errors import IdempotencyConflict, InvalidArgument, NotFound
from mesh.mailbox import ids, reading
from mesh.mailbox.model import (
    IncomingMessage,
    OutboxKind,
    StoredMessage,
    message_ref,
    opened_ref,
    read_ref,
)
from mesh.mailbox.store import MailboxStore
from tests.mailbox.support import (
    appended,
    chat_of,
    copy_for_peer,
    deliver,
    failed,
    marks_of,
    next_millisecond,
    opened,
    send,
    text_message,
    unique,
    user_on,
    whole_log,
)

Twins = tuple[MailboxStore, MailboxStore]

# Opening


async def test_open_is_the_same_from_either_side(store: MailboxStore) -> None:
    """Both sides get one chat, whoever opens it and however often; each learns once that it is new."""
    ann, bob = unique("ann"), unique("bob")
    first = await store.open_chat(ann, bob, "item-1")
    again = await store.open_chat(ann, bob, "item-1")
    other_side = await store.open_chat(bob, ann, "item-1")
    assert first.created
    assert not again.created
    assert replace(again.chat, version=first.chat.version) == first.chat
    assert other_side.created
    assert first.chat.chat_id == other_side.chat.chat_id == ids.chat_id(bob, ann, "item-1")
    assert (first.chat.peer_id, first.chat.item_id, other_side.chat.peer_id) == (bob, "item-1", ann)


async def test_open_differs_by_item(store: MailboxStore) -> None:
    """Two items are two chats."""
    ann, bob = unique("ann"), unique("bob")
    one, two = await store.open_chat(ann, bob, "1"), await store.open_chat(ann, bob, "2")
    assert one.chat.chat_id != two.chat.chat_id


async def test_open_hides_the_copy_of_the_peer(store: MailboxStore) -> None:
    """The peer's list stays as it was until there is a message, or the peer opens the chat as well."""
    ann, bob = unique("ann"), unique("bob")
    chat = (await store.open_chat(ann, bob)).chat
    assert (await store.list_chats(bob, "", 20)).chats == ()
    assert (await chat_of(store, bob, chat.chat_id)).activity is None
    assert [one.chat_id for one in (await store.list_chats(ann, "", 20)).chats] == [chat.chat_id]
    await store.open_chat(bob, ann)
    assert [one.chat_id for one in (await store.list_chats(bob, "", 20)).chats] == [chat.chat_id]


@pytest.mark.parametrize(("owner", "peer"), [("a", "a"), ("", "b"), ("a:b", "c"), ("a", "b" * 65)])
async def test_open_refuses_bad_people(store: MailboxStore, owner: str, peer: str) -> None:
    """Oneself, and ids that would not be safe inside a key."""
    with pytest.raises(InvalidArgument):
        await store.open_chat(owner, peer)


async def test_open_at_once_creates_once(twins: Twins) -> None:
    """Of many that open the chat at the same time, one hears that it is new."""
    ann, bob = unique("ann"), unique("bob")
    results = await asyncio.gather(*(twins[turn % 2].open_chat(ann, bob) for turn in range(8)))
    assert [result.created for result in results].count(True) == 1
    assert len({result.chat.chat_id for result in results}) == 1


# Appending


async def test_own_message_is_numbered_and_folded(store: MailboxStore) -> None:
    """The log counts from 1, ids grow, and the chat shows the last message; one's own are never unread."""
    ann, bob, chat_id = await opened(store, "item-9")
    messages = await send(store, ann, chat_id, "one", "two")
    assert [message.seq for message in messages] == [1, 2]
    assert messages[0].message_id < messages[1].message_id
    assert {(one.sender_id, one.peer_id, one.item_id) for one in messages} == {(ann, bob, "item-9")}
    chat = await chat_of(store, ann, chat_id)
    assert (chat.seq, chat.unread, chat.last, chat.activity) == (2, 0, messages[1], messages[1].created_at)


async def test_what_is_returned_is_what_is_read_later(store: MailboxStore) -> None:
    """An answer and a later read agree to the last digit of their times."""
    ann, _, chat_id = await opened(store)
    messages = await send(store, ann, chat_id, "one", "two")
    received = await deliver(store, *messages)
    assert (await store.history(ann, chat_id, limit=10)).messages == tuple(messages)
    assert (await store.history(received[0].owner, chat_id, limit=10)).messages == tuple(received)


async def test_own_message_needs_an_opened_chat(store: MailboxStore) -> None:
    """A chat that is not in the mailbox is refused; the others of the batch are not."""
    ann, _, chat_id = await opened(store)
    good, bad = text_message(ann, chat_id), text_message(unique("eve"), chat_id)
    results = await store.append_own([bad, good])
    assert isinstance(failed(results[0]), NotFound)
    assert appended(results[1]).message.seq == 1


async def test_incoming_message_creates_and_lists_the_chat(store: MailboxStore) -> None:
    """The first message finds nothing in the receiver's mailbox, and needs nothing."""
    ann, bob, item = unique("ann"), unique("bob"), "item-3"
    chat_id = ids.chat_id(ann, bob, item)
    message = IncomingMessage(
        owner=bob,
        chat_id=chat_id,
        message_id=ids.next_message_id(10**18, "", random.getrandbits),
        sender_id=ann,
        text="hello",
        created_at=datetime(2026, 5, 1, 12, 0, 0, 123_456, UTC),
        item_id=item,
    )
    (result,) = await store.append_incoming([message])
    stored = appended(result).message
    assert stored.created_at == datetime(2026, 5, 1, 12, 0, 0, 123_000, UTC)
    (chat,) = (await store.list_chats(bob, "", 20)).chats
    assert (chat.peer_id, chat.item_id, chat.unread, chat.last) == (ann, item, 1, stored)


async def test_the_same_key_is_the_same_message(twins: Twins) -> None:
    """However often and wherever it is repeated: one message, and the first answer again."""
    ann, _, chat_id = await opened(twins[0])
    message = text_message(ann, chat_id, "once")
    first = appended((await twins[0].append_own([message]))[0])
    await send(twins[0], ann, chat_id, "between")
    again = appended((await twins[1].append_own([message]))[0])
    assert (first.duplicate, again.duplicate) == (False, True)
    assert again.message == first.message
    assert (await chat_of(twins[0], ann, chat_id)).seq == 2


async def test_the_same_key_twice_in_a_batch(store: MailboxStore) -> None:
    """Repeated within one call, it is one message as well."""
    ann, _, chat_id = await opened(store)
    message = text_message(ann, chat_id)
    first, again = [appended(one) for one in await store.append_own([message, message])]
    assert (first.duplicate, again.duplicate) == (False, True)
    assert first.message == again.message


async def test_the_same_key_with_other_content_conflicts(store: MailboxStore) -> None:
    """Another text, or another chat, under a key that has been used."""
    ann, bob, chat_id = await opened(store)
    other = (await store.open_chat(ann, bob, "other")).chat.chat_id
    await store.append_own([text_message(ann, chat_id, "first", "key")])
    results = await store.append_own(
        [text_message(ann, chat_id, "second", "key"), text_message(ann, other, "first", "key")]
    )
    assert [type(failed(result)) for result in results] == [IdempotencyConflict] * 2
    assert [one.text for one in await whole_log(store, ann, chat_id)] == ["first"]
    assert await whole_log(store, ann, other) == []


async def test_keys_of_two_senders_do_not_meet(store: MailboxStore) -> None:
    """A key belongs to its sender."""
    ann, bob, chat_id = await opened(store)
    await store.open_chat(bob, ann)
    results = await store.append_own(
        [text_message(ann, chat_id, "a", "key"), text_message(bob, chat_id, "b", "key")]
    )
    assert [appended(result).duplicate for result in results] == [False, False]


async def test_redelivery_is_a_duplicate(twins: Twins) -> None:
    """A message that comes in twice is in the log once, and is unread once."""
    ann, bob, chat_id = await opened(twins[0])
    messages = await send(twins[0], ann, chat_id, "one", "two", "three")
    await deliver(twins[0], *messages)
    again = await twins[1].append_incoming([copy_for_peer(message) for message in messages])
    assert [appended(result).duplicate for result in again] == [True] * 3
    chat = await chat_of(twins[0], bob, chat_id)
    assert (chat.seq, chat.unread) == (3, 3)


async def test_batch_of_many_chats_keeps_order(store: MailboxStore) -> None:
    """Results stand where their items stood; each chat is numbered for itself, on whatever shard."""
    chats = [await opened(store) for _ in range(5)]
    batch = [text_message(ann, chat_id, f"{turn}") for turn in range(4) for ann, _, chat_id in chats]
    results = [appended(result).message for result in await store.append_own(batch)]
    assert [(one.owner, one.text) for one in results] == [(new.owner, new.text) for new in batch]
    assert [one.seq for one in results] == [turn + 1 for turn in range(4) for _ in chats]
    for ann, _, chat_id in chats:
        assert [one.text for one in (await store.history(ann, chat_id, limit=9)).messages] == list("0123")


async def test_a_bad_item_hurts_no_other(store: MailboxStore) -> None:
    """What no database can keep is refused alone."""
    ann, _, chat_id = await opened(store)
    bad = [text_message(ann, chat_id, "\ud800"), text_message("a:b", chat_id)]
    results = await store.append_own([bad[0], text_message(ann, chat_id), bad[1]])
    assert isinstance(failed(results[0]), InvalidArgument)
    assert isinstance(failed(results[2]), InvalidArgument)
    assert appended(results[1]).message.seq == 1


async def test_a_reply_sorts_after_what_it_answers(store: MailboxStore) -> None:
    """An own message gets a greater id than everything in the log, even when the peer's clock runs ahead."""
    ann, bob, chat_id = await opened(store)
    await store.open_chat(bob, ann)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    ahead = ids.next_message_id(int(tomorrow.timestamp() * 1e9), "", random.getrandbits)
    question = IncomingMessage(
        owner=bob, chat_id=chat_id, message_id=ahead, sender_id=ann, text="?", created_at=tomorrow
    )
    await store.append_incoming([question])
    first, second = await send(store, bob, chat_id, "!", "!!")
    assert ahead < first.message_id < second.message_id


async def test_concurrent_appends_leave_no_hole(twins: Twins) -> None:
    """Sixteen writers in two processes on one chat: seq 1 to 16, each once, ids in the order of seq."""
    ann, _, chat_id = await opened(twins[0])
    calls = (twins[turn % 2].append_own([text_message(ann, chat_id, str(turn))]) for turn in range(16))
    results = [appended(result).message for (result,) in await asyncio.gather(*calls)]
    log = await whole_log(twins[0], ann, chat_id)
    assert [message.seq for message in log] == list(range(1, 17))
    assert [message.message_id for message in log] == sorted(message.message_id for message in log)
    assert sorted(results, key=lambda message: message.seq) == log
    chat = await chat_of(twins[1], ann, chat_id)
    assert (chat.seq, chat.last) == (16, log[-1])


async def test_concurrent_sends_and_deliveries_count_right(twins: Twins) -> None:
    """Own and incoming messages written at once: no hole, and unread counts the incoming ones."""
    ann, bob, chat_id = await opened(twins[0])
    await twins[0].open_chat(bob, ann)
    messages = await send(twins[0], ann, chat_id, *map(str, range(8)))
    own = [twins[0].append_own([text_message(bob, chat_id)]) for _ in range(8)]
    incoming = [twins[1].append_incoming([copy_for_peer(message)]) for message in messages]
    await asyncio.gather(*own, *incoming)
    assert [one.seq for one in await whole_log(twins[0], bob, chat_id)] == list(range(1, 17))
    assert (await chat_of(twins[0], bob, chat_id)).unread == 8


async def test_one_key_at_once_is_one_message(twins: Twins) -> None:
    """A client that repeats itself over several connections is heard once."""
    ann, _, chat_id = await opened(twins[0])
    message = text_message(ann, chat_id)
    calls = (twins[turn % 2].append_own([message]) for turn in range(8))
    results = [appended(result) for (result,) in await asyncio.gather(*calls)]
    assert [result.duplicate for result in results].count(False) == 1
    assert len({result.message.message_id for result in results}) == 1
    assert len(await whole_log(twins[0], ann, chat_id)) == 1


async def test_one_delivery_at_once_is_one_message(twins: Twins) -> None:
    """Two consumers that got the same message store it once."""
    ann, bob, chat_id = await opened(twins[0])
    (message,) = await send(twins[0], ann, chat_id, "hello")
    calls = (twins[turn % 2].append_incoming([copy_for_peer(message)]) for turn in range(8))
    results = [appended(result) for (result,) in await asyncio.gather(*calls)]
    assert [result.duplicate for result in results].count(False) == 1
    assert (await chat_of(twins[0], bob, chat_id)).unread == 1


# Reading


async def test_unknown_chats_are_not_found(store: MailboxStore) -> None:
    """A chat of others, and one that never was; each result in its place."""
    ann, bob, chat_id = await opened(store)
    mine, foreign, none = await store.get_chats(
        [(ann, chat_id), (unique("eve"), chat_id), (ann, ids.chat_id(ann, bob, "no"))]
    )
    assert getattr(mine, "chat_id", "") == chat_id
    assert isinstance(failed(foreign), NotFound)
    assert isinstance(failed(none), NotFound)
    with pytest.raises(NotFound):
        await store.history(unique("eve"), chat_id, limit=5)


async def test_many_chats_are_looked_up_in_parts(
    store: MailboxStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than fit one reply, in any order and some twice: each result in its place."""
    monkeypatch.setattr(reading, "CHATS_A_FIND", 2)
    ann = unique("ann")
    chats = [(await store.open_chat(ann, unique("peer"))).chat.chat_id for _ in range(5)]
    asked = [chats[place] for place in (4, 0, 0, 2, 3, 1, 4)]
    found = await store.get_chats([(ann, chat_id) for chat_id in asked])
    assert [getattr(one, "chat_id", "") for one in found] == asked


async def test_the_list_is_paged_newest_first(store: MailboxStore) -> None:
    """Pages follow each other without gap or double, and the last one says so."""
    ann = unique("ann")
    chats = [(await store.open_chat(ann, unique("peer"))).chat.chat_id for _ in range(5)]
    await next_millisecond()
    for chat_id in (chats[1], chats[3]):
        await send(store, ann, chat_id, "newer")
    listed, cursor, sizes = [], "", []
    for _ in chats:
        page = await store.list_chats(ann, cursor, 2)
        listed += [(chat.activity, chat.chat_id) for chat in page.chats]
        sizes.append(len(page.chats))
        if not (cursor := page.next_cursor):
            break
    assert sizes == [2, 2, 1]
    assert sorted(chat_id for _, chat_id in listed) == sorted(chats)
    times = [activity for activity, _ in listed if activity]
    assert times == sorted(times, reverse=True)
    assert {listed[0][1], listed[1][1]} == {chats[1], chats[3]}


async def test_a_full_last_page_has_no_cursor(store: MailboxStore) -> None:
    """A client is not sent for an empty page."""
    ann, _, chat_id = await opened(store)
    page = await store.list_chats(ann, "", 1)
    assert [chat.chat_id for chat in page.chats] == [chat_id]
    assert page.next_cursor == ""


@pytest.mark.parametrize("cursor", ["x", "~", "12~not-a-uuid", "9" * 20 + "~" + ids.chat_id("a", "b")])
async def test_a_made_up_cursor_is_refused(store: MailboxStore, cursor: str) -> None:
    """With the field's name, and not as something unexpected."""
    with pytest.raises(InvalidArgument, match="cursor"):
        await store.list_chats(unique("ann"), cursor, 5)
    with pytest.raises(InvalidArgument, match="page_token"):
        await store.changes(unique("ann"), datetime.now(UTC), cursor)


async def test_history_pages_in_both_directions(store: MailboxStore) -> None:
    """The newest page, the one before, the one after; `has_more` looks where the caller looks."""
    ann, _, chat_id = await opened(store)
    sent = await send(store, ann, chat_id, *"abcdef")
    known = [message.message_id for message in sent]

    async def page(before: str = "", after: str = "") -> tuple[str, bool]:
        found = await store.history(ann, chat_id, before=before, after=after, limit=2)
        return "".join(message.text for message in found.messages), found.has_more

    assert await page() == ("ef", True)
    assert await page(before=known[4]) == ("cd", True)
    assert await page(before=known[2]) == ("ab", False)
    assert await page(before=known[0]) == ("", False)
    assert await page(after=known[0]) == ("bc", True)
    assert await page(after=known[3]) == ("ef", False)
    with pytest.raises(InvalidArgument, match="before"):
        await page(before=known[1], after=known[0])


async def test_history_is_in_the_order_of_ids(store: MailboxStore) -> None:
    """A message that comes late stands where it belongs, and still gets the next seq."""
    ann, bob, chat_id = await opened(store)
    first, second, third = await send(store, ann, chat_id, "1", "2", "3")
    await deliver(store, first, third)
    await deliver(store, second)
    page = await store.history(bob, chat_id, limit=5)
    assert [(message.text, message.seq) for message in page.messages] == [("1", 1), ("2", 3), ("3", 2)]
    chat = await chat_of(store, bob, chat_id)
    assert (chat.seq, getattr(chat.last, "text", "")) == (3, "3")


# Reading pointers


async def test_unread_is_exact_after_a_partial_read(store: MailboxStore) -> None:
    """Three of five read leaves two; the pointer never moves back; own messages do not count."""
    ann, bob, chat_id = await opened(store)
    sent = await send(store, ann, chat_id, *"abcde")
    await deliver(store, *sent)
    await store.open_chat(bob, ann)
    await send(store, bob, chat_id, "answer")
    partial = await store.mark_read(bob, chat_id, sent[2].message_id)
    assert (partial.moved, partial.chat.unread, partial.chat.read_up_to) == (True, 2, sent[2].message_id)
    back = await store.mark_read(bob, chat_id, sent[0].message_id)
    assert (back.moved, back.chat) == (False, partial.chat)
    again = await store.mark_read(bob, chat_id, sent[2].message_id)
    assert (again.moved, again.chat.unread) == (False, 2)
    whole = await store.mark_read(bob, chat_id, sent[4].message_id)
    assert (whole.moved, whole.chat.unread) == (True, 0)
    assert await chat_of(store, bob, chat_id) == whole.chat


async def test_a_late_message_below_the_pointer_is_unread_until_marked(store: MailboxStore) -> None:
    """What arrives after the mark is unread though its id is smaller; marking the same place reads it.

    And tells of it: the owner's other devices count, too.
    """
    ann, bob, chat_id = await opened(store)
    early, late = await send(store, ann, chat_id, "early", "late")
    await deliver(store, late)
    await store.mark_read(bob, chat_id, late.message_id)
    await deliver(store, early)
    assert (await chat_of(store, bob, chat_id)).unread == 1
    again = await store.mark_read(bob, chat_id, late.message_id)
    assert (again.moved, again.chat.unread) == (True, 0)
    assert read_ref(again.chat) in {entry.ref for entry in await marks_of(store, bob)}
    assert not (await store.mark_read(bob, chat_id, late.message_id)).moved


async def test_of_two_looks_at_a_chat_the_greater_version_is_the_later(twins: Twins) -> None:
    """Whoever changes what the owner sees, in whichever process, the version grows; a look changes none."""
    ann, bob, chat_id = await opened(twins[0])
    await twins[1].open_chat(bob, ann)
    versions = [(await chat_of(twins[0], bob, chat_id)).version]

    async def grew() -> bool:
        versions.append((await chat_of(twins[1], bob, chat_id)).version)
        return versions[-1] > versions[-2]

    (message,) = await send(twins[0], ann, chat_id, "hello")
    await deliver(twins[0], message)
    assert await grew()
    for change in (
        twins[1].mark_read(bob, chat_id, message.message_id),
        twins[0].mark_delivered(bob, chat_id, message.message_id),
        twins[1].advance_peer_read(bob, chat_id, message.message_id),
        twins[0].advance_peer_delivered(bob, chat_id, message.message_id),
        twins[1].apply_removal(bob, chat_id, message.message_id, version=1),
        twins[0].set_blocked(bob, ann, blocked=True),
    ):
        await change
        assert await grew(), change
    assert not await grew()


async def test_marking_needs_a_message_of_the_chat(store: MailboxStore) -> None:
    """Another chat's message, and one that is only in the peer's mailbox, are no place to read up to."""
    ann, bob, chat_id = await opened(store)
    other = (await store.open_chat(ann, bob, "other")).chat.chat_id
    (message,) = await send(store, ann, chat_id, "hello")
    for owner, chat in ((ann, other), (bob, chat_id), (unique("eve"), chat_id)):
        with pytest.raises(NotFound):
            await store.mark_read(owner, chat, message.message_id)


async def test_marks_at_once_end_as_one_after_the_other(twins: Twins) -> None:
    """Devices that mark different places at the same time leave the furthest pointer, and its exact count."""
    ann, bob, chat_id = await opened(twins[0])
    sent = await send(twins[0], ann, chat_id, *map(str, range(10)))
    await deliver(twins[0], *sent)
    calls = (
        twins[turn % 2].mark_read(bob, chat_id, message.message_id) for turn, message in enumerate(sent[:8])
    )
    await asyncio.gather(*calls)
    chat = await chat_of(twins[0], bob, chat_id)
    assert (chat.read_up_to, chat.unread) == (sent[7].message_id, 2)


async def test_pointers_of_the_peer_move_forward_only(store: MailboxStore) -> None:
    """Read and delivered, each for itself; a redelivery moves nothing and still tells where they stand."""
    ann, _, chat_id = await opened(store)
    first, second = await send(store, ann, chat_id, "1", "2")
    for advance, name in (
        (store.advance_peer_read, "peer_read_up_to"),
        (store.advance_peer_delivered, "peer_delivered_up_to"),
    ):
        results = [
            await advance(ann, chat_id, message.message_id) for message in (first, second, second, first)
        ]
        assert [result.moved for result in results] == [True, True, False, False]
        assert getattr(results[3].chat, name) == second.message_id
    with pytest.raises(NotFound):
        await store.advance_peer_read(unique("eve"), chat_id, first.message_id)


async def test_unread_agrees_with_counting(twins: Twins) -> None:
    """Whatever is sent, delivered late or twice, and marked: unread is what a naive reader would count."""
    await asyncio.gather(*(messages_come(twins, seed) for seed in range(4)))


async def messages_come(twins: Twins, seed: int) -> None:
    """One story of two people."""
    dice = random.Random(seed)  # noqa: S311 - repeatable, not secret
    ann, bob, chat_id = await opened(twins[0])
    await twins[0].open_chat(bob, ann)
    underway: list[StoredMessage] = []
    received: list[StoredMessage] = []
    held: list[str] = []
    read: set[str] = set()
    pointer = ""
    for turn in range(80):
        store = twins[turn % 2]
        match dice.choice(["send", "send", "deliver", "deliver", "again", "answer", "mark"]):
            case "send":
                underway += await send(store, ann, chat_id, str(turn))
            case "answer":
                held += [message.message_id for message in await send(store, bob, chat_id, str(turn))]
            case "deliver" if underway:
                message = underway.pop(dice.randrange(len(underway)))
                received += await deliver(store, message)
                held.append(message.message_id)
            case "again" if received:
                message = dice.choice(received)
                await deliver(store, replace(message, peer_id=bob))
            case "mark" if held:
                target = dice.choice(held)
                marked = await store.mark_read(bob, chat_id, target)
                late = {one.message_id for one in received if one.message_id <= target} - read
                assert marked.moved == (target > pointer or (target == pointer and bool(late)))
                pointer = max(pointer, target)
                if target == pointer:
                    read |= {one.message_id for one in received if one.message_id <= pointer}
        chat = await chat_of(store, bob, chat_id)
        assert (chat.unread, chat.read_up_to) == (len(received) - len(read), pointer), (seed, turn)
        assert chat.seq == len(held)


# The outbox


async def test_an_own_message_waits_in_the_outbox_until_confirmed(store: MailboxStore) -> None:
    """Its mark comes with the message, carries what the event needs, and goes with the confirm."""
    ann, bob, chat_id = await opened(store, "item-5")
    (message,) = await send(store, ann, chat_id, "hello")
    entry = next(one for one in await marks_of(store, ann) if one.ref.kind is OutboxKind.MESSAGE)
    assert (entry.ref, entry.message) == (message_ref(message), message)
    assert (entry.peer_id, entry.item_id, entry.at) == (bob, "item-5", message.stored_at)
    await store.confirm([entry.ref])
    assert OutboxKind.MESSAGE not in {one.ref.kind for one in await marks_of(store, ann)}


async def test_an_opening_waits_in_the_outbox(store: MailboxStore) -> None:
    """Once for each side that opens."""
    ann, bob = unique("ann"), unique("bob")
    chat = (await store.open_chat(ann, bob)).chat
    await store.open_chat(ann, bob)
    assert [entry.ref for entry in await marks_of(store, ann)] == [opened_ref(chat)]
    assert await marks_of(store, bob) == []
    await store.confirm([opened_ref(chat)])
    assert await marks_of(store, ann) == []


async def test_a_pointer_that_moved_on_keeps_its_mark(store: MailboxStore) -> None:
    """A late confirm of an older pointer does not swallow the event of the newer one."""
    ann, bob, chat_id = await opened(store)
    first, second = await deliver(store, *await send(store, ann, chat_id, "1", "2"))
    older = await store.mark_read(bob, chat_id, first.message_id)
    newer = await store.mark_read(bob, chat_id, second.message_id)
    await store.confirm([read_ref(older.chat)])
    assert [entry.ref for entry in await marks_of(store, bob)] == [read_ref(newer.chat)]
    await store.confirm([read_ref(newer.chat)])
    assert await marks_of(store, bob) == []


async def test_a_place_that_was_marked_again_keeps_its_mark(store: MailboxStore) -> None:
    """A late confirm of a mark does not swallow the event of the next one, which counts more as read."""
    ann, bob, chat_id = await opened(store)
    early, late = await send(store, ann, chat_id, "early", "late")
    await deliver(store, late)
    first = await store.mark_read(bob, chat_id, late.message_id)
    await deliver(store, early)
    again = await store.mark_read(bob, chat_id, late.message_id)
    await store.confirm([read_ref(first.chat)])
    assert [entry.ref for entry in await marks_of(store, bob)] == [read_ref(again.chat)]
    await store.confirm([read_ref(again.chat)])
    assert await marks_of(store, bob) == []


async def test_what_is_incoming_makes_no_mark(store: MailboxStore) -> None:
    """Nothing goes round in circles."""
    ann, bob, chat_id = await opened(store)
    (message,) = await deliver(store, *await send(store, ann, chat_id, "1"))
    await store.advance_peer_read(ann, chat_id, message.message_id)
    assert await marks_of(store, bob) == []


async def test_young_entries_are_not_due(store: MailboxStore) -> None:
    """The relay leaves alone what is on its way at this moment."""
    ann, _, chat_id = await opened(store)
    await send(store, ann, chat_id, "hello")
    entries = await store.due(store.shard_of(ann), timedelta(minutes=1), 10_000)
    assert ann not in {entry.ref.owner for entry in entries}


async def test_due_gives_the_oldest_of_its_shard(store: MailboxStore) -> None:
    """Each shard gives its own entries; no more than asked for, the oldest first."""
    owners = [user_on(store, shard) for shard in range(store.shard_count)]
    for owner in owners:
        chat_id = (await store.open_chat(owner, unique("peer"))).chat.chat_id
        await send(store, owner, chat_id, "1", "2", "3")
    for shard, owner in enumerate(owners):
        entries = await store.due(shard, timedelta(0), 10_000)
        messages = [entry for entry in entries if entry.ref.kind is OutboxKind.MESSAGE]
        assert {store.shard_of(entry.ref.owner) for entry in entries} == {shard}
        assert [entry.at for entry in messages] == sorted(entry.at for entry in messages)
        assert len([entry for entry in messages if entry.ref.owner == owner]) == 3
        few = await store.due(shard, timedelta(0), 2)
        assert [one for one in few if one.ref.kind is OutboxKind.MESSAGE] == messages[:2]


# What changed


async def test_changes_since_the_beginning_lose_nothing(store: MailboxStore) -> None:
    """Paged by chats and, within a long chat, by messages: all of them, each once."""
    ann, since = unique("ann"), datetime.now(UTC) - timedelta(minutes=1)
    sizes = {0: 230, 1: 190, 2: 3} | dict.fromkeys(range(3, 25), 1)
    expected: dict[str, list[int]] = {}
    for index, size in sizes.items():
        chat_id = (await store.open_chat(ann, unique("peer"), str(index))).chat.chat_id
        expected[chat_id] = [one.seq for one in await send(store, ann, chat_id, *["."] * size)]
    found: dict[str, list[int]] = {}
    token = ""
    for _ in range(2 * len(sizes)):
        page = await store.changes(ann, since, token)
        assert len(page.chats) <= 20
        assert sum(len(changed.messages) for changed in page.chats) <= 200
        for changed in page.chats:
            seqs = [message.seq for message in changed.messages]
            assert seqs == sorted(seqs)
            found.setdefault(changed.chat.chat_id, []).extend(seqs)
        if not (token := page.next_page_token):
            break
    assert token == ""
    assert {chat_id: sorted(seqs) for chat_id, seqs in found.items()} == expected


async def test_changes_leave_out_what_was_there_before(store: MailboxStore) -> None:
    """Chats that were not touched, and messages that were stored earlier; a moved pointer is a change."""
    ann, bob, quiet = await opened(store)
    busy = (await store.open_chat(ann, bob, "busy")).chat.chat_id
    read = (await store.open_chat(ann, bob, "read")).chat.chat_id
    (old,) = await send(store, ann, busy, "old")
    (seen,) = await send(store, ann, read, "seen")
    since = (await chat_of(store, ann, read)).touched_at + timedelta(milliseconds=1)
    await next_millisecond()
    (new,) = await send(store, ann, busy, "new")
    await store.advance_peer_read(ann, read, seen.message_id)
    page = await store.changes(ann, since, "")
    changed = {one.chat.chat_id: [message.text for message in one.messages] for one in page.chats}
    assert changed == {busy: ["new"], read: []}
    assert quiet not in changed
    assert old.seq + 1 == new.seq


async def test_changes_leave_out_the_hidden(store: MailboxStore) -> None:
    """A chat that the peer opened and left empty has not come to the owner yet."""
    _, bob, _ = await opened(store)
    assert (await store.changes(bob, datetime.now(UTC) - timedelta(minutes=1), "")).chats == ()


# The shards


async def test_every_shard_answers(store: MailboxStore) -> None:
    """Readiness is told shard by shard; making the schema twice changes nothing."""
    await store.ensure_schema()
    assert await store.ping() == (True,) * store.shard_count
