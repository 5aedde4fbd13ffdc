"""The promises of `store.MailboxChanger` and of receipts, with what they leave in outbox and counts."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from mesh.errors import FailedPrecondition, MessengerError, NotFound, PermissionDenied
from mesh.mailbox.fold import whole_ms
from mesh.mailbox.model import OutboxEntry, OutboxKind, StoredMessage, delivered_ref, message_ref
from mesh.mailbox.store import MailboxStore
from tests.mailbox.support import (
    appended,
    chat_of,
    copy_for_peer,
    deliver,
    marks_of,
    next_millisecond,
    opened,
    send,
    text_message,
    unique,
    unread_of,
    whole_log,
)

Twins = tuple[MailboxStore, MailboxStore]
NOBODY = "00000000-0000-7000-8000-000000000000"


async def told(store: MailboxStore, *messages: StoredMessage) -> tuple[str, str, str]:
    """Owner, peer and chat of messages whose events have been published."""
    await store.confirm([message_ref(message) for message in messages])
    return messages[0].owner, messages[0].peer_id, messages[0].chat_id


async def changes_of(store: MailboxStore, owner: str) -> list[OutboxEntry]:
    """The changes of the owner's messages that wait in the outbox."""
    return [entry for entry in await marks_of(store, owner) if entry.ref.kind is OutboxKind.CHANGED]


async def carry_edit(store: MailboxStore, edited: StoredMessage) -> StoredMessage:
    """What the queue does with the event of an edit."""
    assert edited.edited_at
    return await store.apply_edit(
        edited.peer_id,
        edited.chat_id,
        edited.message_id,
        text=edited.text,
        edited_at=edited.edited_at,
        version=edited.version,
    )


async def carry_removal(store: MailboxStore, deleted: StoredMessage) -> StoredMessage:
    """What the queue does with the event of a deletion for all."""
    return await store.apply_removal(
        deleted.peer_id, deleted.chat_id, deleted.message_id, version=deleted.version
    )


# Receipts of delivery


async def test_delivery_pointer_moves_forward_only(store: MailboxStore) -> None:
    """It names a message of this copy, whoever sent it, and each move replaces the mark of the one before."""
    ann, bob, chat_id = await opened(store)
    first, second = await send(store, ann, chat_id, "1", "2")
    await deliver(store, first, second)
    older = await store.mark_delivered(bob, chat_id, first.message_id)
    newer = await store.mark_delivered(bob, chat_id, second.message_id)
    back = await store.mark_delivered(bob, chat_id, first.message_id)
    assert [older.moved, newer.moved, back.moved] == [True, True, False]
    assert back.chat.delivered_up_to == second.message_id
    await store.confirm([delivered_ref(older.chat)])
    assert [entry.ref for entry in await marks_of(store, bob)] == [delivered_ref(newer.chat)]
    await store.confirm([delivered_ref(newer.chat)])
    assert await marks_of(store, bob) == []
    assert (await store.mark_delivered(ann, chat_id, first.message_id)).moved
    with pytest.raises(NotFound, match="up_to"):
        await store.mark_delivered(bob, chat_id, NOBODY)


# Editing


async def test_an_edit_is_seen_everywhere(store: MailboxStore) -> None:
    """Log, chat and event have the new text; the message keeps its place, and what was sent."""
    ann, bob, chat_id = await opened(store, "item-1")
    sent = await send(store, ann, chat_id, "one", "two")
    await told(store, *sent)
    changed = await store.edit(ann, chat_id, sent[1].message_id, "TWO")
    message = changed.message
    assert (message.text, message.version, message.original_text, message.seq) == ("TWO", 1, "two", 2)
    assert message.edited_at
    assert changed.entry
    assert (changed.entry.message, changed.entry.peer_id, changed.entry.item_id) == (message, bob, "item-1")
    assert await whole_log(store, ann, chat_id) == [sent[0], message]
    assert (await chat_of(store, ann, chat_id)).last == message
    assert await changes_of(store, ann) == [changed.entry]
    await store.confirm([changed.entry.ref])
    assert await changes_of(store, ann) == []
    again = await store.edit(ann, chat_id, message.message_id, "zwei")
    assert (again.message.version, again.message.original_text) == (2, "two")


async def test_an_edit_of_an_older_message_leaves_the_last(store: MailboxStore) -> None:
    """The chat's last message is the one with the greatest id, edited or not."""
    ann, _, chat_id = await opened(store)
    first, second = await send(store, ann, chat_id, "1", "2")
    await store.edit(ann, chat_id, first.message_id, "one")
    chat = await chat_of(store, ann, chat_id)
    assert (chat.last, chat.activity) == (second, second.created_at)


async def test_the_same_text_is_no_edit(store: MailboxStore) -> None:
    """Nothing is told, and nothing counted."""
    ann, _, chat_id = await opened(store)
    (message,) = await send(store, ann, chat_id, "same")
    changed = await store.edit(ann, chat_id, message.message_id, "same")
    assert (changed.message, changed.entry) == (message, None)
    assert await changes_of(store, ann) == []


async def test_only_its_sender_edits_what_is_there(store: MailboxStore) -> None:
    """The peer's, the deleted and the unknown are refused, each by its own error."""
    ann, bob, chat_id = await opened(store)
    one, two = await send(store, ann, chat_id, "1", "2")
    await deliver(store, one)
    await store.delete(ann, chat_id, two.message_id, for_all=False)
    for owner, message_id, error, reason in (
        (bob, one.message_id, PermissionDenied, "NOT_SENDER"),
        (ann, two.message_id, FailedPrecondition, "DELETED"),
        (ann, NOBODY, NotFound, "NOT_FOUND"),
        (unique("eve"), one.message_id, NotFound, "NOT_FOUND"),
    ):
        with pytest.raises(MessengerError, match="message_id") as caught:
            await store.edit(owner, chat_id, message_id, "new")
        assert (type(caught.value), caught.value.reason) == (error, reason)


async def test_edits_at_once_all_count(twins: Twins) -> None:
    """Eight devices in two processes: eight versions, and the last one is what stands everywhere."""
    ann, _, chat_id = await opened(twins[0])
    (message,) = await send(twins[0], ann, chat_id, "0")
    calls = (twins[turn % 2].edit(ann, chat_id, message.message_id, f"{turn + 1}") for turn in range(8))
    results = [changed.message for changed in await asyncio.gather(*calls)]
    assert sorted(one.version for one in results) == list(range(1, 9))
    latest = max(results, key=lambda one: one.version)
    assert await whole_log(twins[0], ann, chat_id) == [latest]
    assert (await chat_of(twins[1], ann, chat_id)).last == latest
    assert [entry.message for entry in await changes_of(twins[0], ann)] == [latest]


async def test_an_edit_before_the_confirm_tells_both(store: MailboxStore) -> None:
    """An unpublished message that is edited still has its own event, as it was sent, and that of the edit."""
    ann, _, chat_id = await opened(store)
    (sent,) = await send(store, ann, chat_id, "sent")
    changed = await store.edit(ann, chat_id, sent.message_id, "edited")
    entries = {entry.ref.kind: entry for entry in await marks_of(store, ann)}
    assert entries[OutboxKind.MESSAGE].message == sent
    assert entries[OutboxKind.CHANGED] == changed.entry
    await store.confirm([message_ref(sent)])
    assert await changes_of(store, ann) == [changed.entry]


async def test_a_late_confirm_leaves_the_later_edit(store: MailboxStore) -> None:
    """The confirm of one version does not swallow the event of the next."""
    ann, _, chat_id = await opened(store)
    (sent,) = await send(store, ann, chat_id, "0")
    first = await store.edit(ann, chat_id, sent.message_id, "1")
    second = await store.edit(ann, chat_id, sent.message_id, "2")
    assert first.entry
    assert second.entry
    await store.confirm([first.entry.ref])
    assert await changes_of(store, ann) == [second.entry]
    await store.confirm([second.entry.ref])
    assert await changes_of(store, ann) == []


async def test_the_key_outlives_edit_and_deletion(store: MailboxStore) -> None:
    """A late repetition of what was sent is its message, whatever has become of that."""
    ann, _, chat_id = await opened(store)
    new = text_message(ann, chat_id, "as sent")
    sent = appended((await store.append_own([new]))[0]).message
    edited = await store.edit(ann, chat_id, sent.message_id, "as edited")
    again = appended((await store.append_own([new]))[0])
    assert (again.duplicate, again.message) == (True, edited.message)
    deleted = await store.delete(ann, chat_id, sent.message_id, for_all=True)
    again = appended((await store.append_own([new]))[0])
    assert (again.duplicate, again.message) == (True, deleted.message)


# Deleting


async def test_deleting_for_me_is_my_business(store: MailboxStore) -> None:
    """The message stays as an empty place, here alone; one's own devices are told."""
    ann, bob, chat_id = await opened(store)
    sent = await send(store, ann, chat_id, "one", "two")
    received = await deliver(store, *sent)
    await told(store, *sent)
    changed = await store.delete(ann, chat_id, sent[1].message_id, for_all=False)
    message = changed.message
    assert (message.deleted, message.text, message.version, message.seq) == (True, "", 1, 2)
    assert changed.entry
    assert not changed.entry.for_all
    assert await changes_of(store, ann) == [changed.entry]
    assert await whole_log(store, ann, chat_id) == [sent[0], message]
    assert (await chat_of(store, ann, chat_id)).last == message
    assert await whole_log(store, bob, chat_id) == received
    await store.confirm([changed.entry.ref])
    assert await changes_of(store, ann) == []


async def test_deleted_for_me_can_be_deleted_for_all(store: MailboxStore) -> None:
    """The wider deletion tells the peer; neither is told twice."""
    ann, _, chat_id = await opened(store)
    (sent,) = await send(store, ann, chat_id, "hello")
    mine = await store.delete(ann, chat_id, sent.message_id, for_all=False)
    assert (await store.delete(ann, chat_id, sent.message_id, for_all=False)).entry is None
    everybody = await store.delete(ann, chat_id, sent.message_id, for_all=True)
    assert (mine.message.version, everybody.message.version) == (1, 2)
    assert everybody.entry
    assert everybody.entry.for_all
    for for_all in (False, True):
        repeated = await store.delete(ann, chat_id, sent.message_id, for_all=for_all)
        assert (repeated.entry, repeated.message) == (None, everybody.message)
    assert await changes_of(store, ann) == [everybody.entry]


async def test_only_its_sender_deletes_for_all(store: MailboxStore) -> None:
    """The receiver may empty the own copy, and nothing else."""
    ann, bob, chat_id = await opened(store)
    (sent,) = await deliver(store, *await send(store, ann, chat_id, "hello"))
    with pytest.raises(PermissionDenied) as caught:
        await store.delete(bob, chat_id, sent.message_id, for_all=True)
    assert caught.value.reason == "NOT_SENDER"
    changed = await store.delete(bob, chat_id, sent.message_id, for_all=False)
    assert (changed.message.deleted, changed.message.original_text) == (True, "")
    with pytest.raises(NotFound):
        await store.delete(bob, chat_id, NOBODY, for_all=False)


async def test_a_deletion_for_me_swallows_no_edit(store: MailboxStore) -> None:
    """The unpublished edit before it is still told, with its text: the peer is to see that."""
    ann, _, chat_id = await opened(store)
    (sent,) = await send(store, ann, chat_id, "0")
    await told(store, sent)
    edited = await store.edit(ann, chat_id, sent.message_id, "1")
    deleted = await store.delete(ann, chat_id, sent.message_id, for_all=False)
    first, second = await changes_of(store, ann)
    assert edited.entry
    assert (first.ref, first.message and first.message.text) == (edited.entry.ref, "1")
    assert (first.message and first.message.deleted, second) == (False, deleted.entry)
    await store.confirm([second.ref])
    assert [entry.ref for entry in await changes_of(store, ann)] == [first.ref]
    await store.confirm([first.ref])
    assert await changes_of(store, ann) == []


async def test_a_deletion_for_all_leaves_only_itself_to_tell(store: MailboxStore) -> None:
    """Nobody needs the edit of a text that goes away; the message's own event still comes first."""
    ann, _, chat_id = await opened(store)
    (sent,) = await send(store, ann, chat_id, "0")
    await store.edit(ann, chat_id, sent.message_id, "1")
    deleted = await store.delete(ann, chat_id, sent.message_id, for_all=True)
    entries = [entry for entry in await marks_of(store, ann) if entry.message]
    assert [entry.message for entry in entries] == [sent, deleted.message]


# What antispam has rejected


async def test_what_was_rejected_is_told_to_nobody_else(store: MailboxStore) -> None:
    """The peer has no copy that could follow; the sender's own devices still learn of what changes."""
    ann, _, chat_id = await opened(store)
    sent, fine = await send(store, ann, chat_id, "buy!", "hello")
    for reason in ("$links: spam", "flood: again"):
        await store.record_rejection(ann, chat_id, sent.message_id, reason)
    log = [replace(one, judged_at=None) for one in await whole_log(store, ann, chat_id)]
    assert log == [replace(sent, rejected="$links: spam"), fine]
    edited = await store.edit(ann, chat_id, sent.message_id, "sell!")
    assert edited.entry
    assert edited.entry.message == edited.message
    places = [(ann, chat_id, sent.message_id), (ann, chat_id, fine.message_id), (ann, chat_id, NOBODY)]
    rejected, passed, absent = await store.are_rejected(places)
    assert (rejected, passed) == (True, False)
    assert isinstance(absent, NotFound)
    deleted = await store.delete(ann, chat_id, sent.message_id, for_all=True)
    assert deleted.entry
    assert not deleted.entry.for_all
    assert await changes_of(store, ann) == [deleted.entry]
    with pytest.raises(NotFound):
        await store.record_rejection(ann, chat_id, NOBODY, "links")


async def test_a_rejected_edit_is_noted(store: MailboxStore) -> None:
    """The sender's copy tells the latest version that the peer was kept from, and shows its own text."""
    ann, _, chat_id = await opened(store)
    (sent,) = await send(store, ann, chat_id, "hello")
    edited = (await store.edit(ann, chat_id, sent.message_id, "buy!")).message
    for version in (1, 3, 2):
        await store.record_rejected_edit(ann, chat_id, sent.message_id, version)
    assert await whole_log(store, ann, chat_id) == [replace(edited, edit_rejected=3)]
    with pytest.raises(NotFound):
        await store.record_rejected_edit(ann, chat_id, NOBODY, 1)


async def test_what_passed_unchecked_is_settled_once(store: MailboxStore) -> None:
    """A late verdict takes the flag, or the message with what was unread; what had its verdict stays."""
    ann, bob, chat_id = await opened(store)
    kept, spam, checked = await send(store, ann, chat_id, "0", "buy!", "2")
    await store.append_incoming(
        [replace(copy_for_peer(one), unchecked=one is not checked) for one in (kept, spam, checked)]
    )
    assert [one.unchecked for one in await whole_log(store, bob, chat_id)] == [True, True, False]
    for _ in range(2):
        await store.settle_unchecked(bob, chat_id, kept.message_id, version=0, spam=False)
        for message in (spam, kept, checked):
            await store.settle_unchecked(bob, chat_id, message.message_id, version=0, spam=True)
        log = await whole_log(store, bob, chat_id)
        assert [(one.text, one.deleted, one.unchecked) for one in log] == [
            ("0", False, False),
            ("", True, False),
            ("2", False, False),
        ]
        assert (await chat_of(store, bob, chat_id)).unread == 2
    with pytest.raises(NotFound):
        await store.settle_unchecked(bob, chat_id, NOBODY, version=0, spam=True)


async def test_each_text_has_its_own_verdict(store: MailboxStore) -> None:
    """The flag is the text's: a verdict on one of before or after an edit neither takes nor keeps it."""
    ann, bob, chat_id = await opened(store)
    (sent,) = await send(store, ann, chat_id, "0")
    await store.append_incoming([replace(copy_for_peer(sent), unchecked=True)])
    for text, unchecked in (("1", True), ("2", False), ("3", True)):
        edited = (await store.edit(ann, chat_id, sent.message_id, text)).message
        assert edited.edited_at
        copy = await store.apply_edit(
            bob,
            chat_id,
            sent.message_id,
            text=text,
            edited_at=edited.edited_at,
            version=edited.version,
            unchecked=unchecked,
        )
        assert (copy.text, copy.unchecked) == (text, unchecked)
    for version in (0, 1, 2):
        for spam in (False, True):
            assert copy == await store.settle_unchecked(
                bob, chat_id, sent.message_id, version=version, spam=spam
            )
    assert await whole_log(store, bob, chat_id) == [copy]
    assert (await store.settle_unchecked(bob, chat_id, sent.message_id, version=3, spam=True)).deleted


# The peer's copy


async def test_an_edit_reaches_the_copy_once(store: MailboxStore) -> None:
    """Only greater versions take effect: redeliveries and latecomers leave the copy as it stands."""
    ann, bob, chat_id = await opened(store)
    (sent,) = await send(store, ann, chat_id, "0")
    await deliver(store, sent)
    first = (await store.edit(ann, chat_id, sent.message_id, "1")).message
    second = (await store.edit(ann, chat_id, sent.message_id, "2")).message
    copy = await carry_edit(store, second)
    assert (copy.text, copy.version, copy.edited_at, copy.seq) == ("2", 2, second.edited_at, 1)
    assert await carry_edit(store, second) == await carry_edit(store, first) == copy
    assert await whole_log(store, bob, chat_id) == [copy]
    assert (await chat_of(store, bob, chat_id)).last == copy
    assert await marks_of(store, bob) == []


async def test_a_change_waits_for_its_copy(store: MailboxStore) -> None:
    """What overtakes its message finds nothing, and is to come again."""
    ann, _, chat_id = await opened(store)
    (sent,) = await send(store, ann, chat_id, "0")
    edited = (await store.edit(ann, chat_id, sent.message_id, "1")).message
    deleted = (await store.delete(ann, chat_id, sent.message_id, for_all=True)).message
    with pytest.raises(NotFound):
        await carry_edit(store, edited)
    with pytest.raises(NotFound):
        await carry_removal(store, deleted)
    await deliver(store, sent)
    removed = await carry_removal(store, deleted)
    assert (removed.deleted, removed.text) == (True, "")
    assert await carry_edit(store, edited) == await carry_removal(store, deleted) == removed


async def test_what_the_owner_deleted_stays_deleted(store: MailboxStore) -> None:
    """The sender's later edits and deletions bring nothing back into the copy."""
    ann, bob, chat_id = await opened(store)
    (sent,) = await send(store, ann, chat_id, "0")
    await deliver(store, sent)
    mine = (await store.delete(bob, chat_id, sent.message_id, for_all=False)).message
    for text in ("1", "2", "3"):
        edited = (await store.edit(ann, chat_id, sent.message_id, text)).message
        assert await carry_edit(store, edited) == mine
    deleted = (await store.delete(ann, chat_id, sent.message_id, for_all=True)).message
    assert await carry_removal(store, deleted) == mine


# Unread


async def test_what_is_gone_is_not_unread(store: MailboxStore) -> None:
    """Deleted by the owner or by the sender, and counted once; what had been read does not count twice."""
    ann, bob, chat_id = await opened(store)
    sent = await send(store, ann, chat_id, *"abcdef")
    await deliver(store, *sent)
    await store.mark_read(bob, chat_id, sent[1].message_id)
    assert await unread_of(store, bob, chat_id) == 4
    await store.delete(bob, chat_id, sent[0].message_id, for_all=False)
    assert await unread_of(store, bob, chat_id) == 4
    await store.delete(bob, chat_id, sent[2].message_id, for_all=False)
    assert await unread_of(store, bob, chat_id) == 3
    removed = (await store.delete(ann, chat_id, sent[3].message_id, for_all=True)).message
    for _ in range(2):
        await carry_removal(store, removed)
    assert await unread_of(store, bob, chat_id) == 2
    marked = await store.mark_read(bob, chat_id, sent[3].message_id)
    assert (marked.moved, marked.chat.unread) == (True, 2)
    marked = await store.mark_read(bob, chat_id, sent[5].message_id)
    assert (marked.moved, marked.chat.unread) == (True, 0)
    assert await unread_of(store, ann, chat_id) == 0


@pytest.mark.parametrize("turn", range(5))
async def test_deletions_and_marks_at_once_count_right(twins: Twins, turn: int) -> None:
    """Devices and the queue, all at the same time: what is left is what a reader would count."""
    ann, bob, chat_id = await opened(twins[0])
    sent = await send(twins[0], ann, chat_id, *map(str, range(12)))
    await deliver(twins[0], *sent)
    await asyncio.gather(
        *(twins[at % 2].delete(bob, chat_id, sent[at].message_id, for_all=False) for at in (0, 4, 6, 9)),
        *(carry_removal(twins[at % 2], replace(sent[at], version=1)) for at in (2, 7, 8, 11)),
        *(twins[at % 2].mark_read(bob, chat_id, sent[at].message_id) for at in (turn, 3, 5)),
    )
    pointer = max(turn, 5)
    left = [at for at in range(12) if at > pointer and at not in (0, 4, 6, 9, 2, 7, 8, 11)]
    assert await unread_of(twins[turn % 2], bob, chat_id) == len(left)


async def test_unread_agrees_with_counting_when_messages_go(twins: Twins) -> None:
    """Whatever is delivered late, marked, edited, deleted by either: unread is what a naive reader counts."""
    await asyncio.gather(*(messages_go(twins, seed) for seed in range(6)))


async def messages_go(twins: Twins, seed: int) -> None:
    """One story of two people."""
    dice = random.Random(seed)  # noqa: S311 - repeatable, not secret
    ann, bob, chat_id = await opened(twins[0])
    underway: list[StoredMessage] = []
    held: dict[str, StoredMessage] = {}
    read: set[str] = set()
    gone: set[str] = set()
    pointer = ""
    for turn in range(90):
        store = twins[turn % 2]
        match dice.choice(["send", "send", "deliver", "deliver", "mark", "own", "removal", "edit"]):
            case "send":
                underway += await send(store, ann, chat_id, str(turn))
            case "deliver" if underway:
                message = underway.pop(dice.randrange(len(underway)))
                await deliver(store, message)
                held[message.message_id] = message
            case "mark" if held:
                target = dice.choice(list(held))
                await store.mark_read(bob, chat_id, target)
                if target >= pointer:
                    pointer = target
                    read |= {message_id for message_id in held if message_id <= pointer}
            case "own" if held:
                target = dice.choice(list(held))
                await store.delete(bob, chat_id, target, for_all=False)
                gone.add(target)
            case "removal" if held:
                target = dice.choice(list(held))
                deleted = await store.delete(ann, chat_id, target, for_all=True)
                await carry_removal(store, deleted.message)
                gone.add(target)
            case "edit" if alive := [one for one in held if one not in gone]:
                edited = await store.edit(ann, chat_id, dice.choice(alive), str(turn))
                await carry_edit(store, edited.message)
        assert await unread_of(store, bob, chat_id) == len(held.keys() - read - gone), (seed, turn)
    chat, log = await chat_of(twins[0], bob, chat_id), await whole_log(twins[0], bob, chat_id)
    assert [message.seq for message in log] == list(range(1, len(held) + 1))
    assert {message.message_id for message in log if message.deleted} == gone
    assert chat.last == max(log, key=lambda message: message.message_id)


# What changed


async def test_changes_bring_what_was_edited_and_deleted(store: MailboxStore) -> None:
    """Older messages that changed come besides the new ones, on either side, and the others do not."""
    ann, bob, chat_id = await opened(store)
    quiet = (await store.open_chat(ann, bob, "quiet")).chat.chat_id
    sent = await send(store, ann, chat_id, "edited", "deleted", "same")
    await deliver(store, *sent)
    (earlier,) = await send(store, ann, quiet, "before")
    await store.edit(ann, quiet, earlier.message_id, "edited before")
    await next_millisecond()
    since = datetime.now(UTC)
    await next_millisecond()
    edited = (await store.edit(ann, chat_id, sent[0].message_id, "new")).message
    deleted = (await store.delete(ann, chat_id, sent[1].message_id, for_all=True)).message
    copies = (await carry_edit(store, edited), await carry_removal(store, deleted))
    (fresh,) = await send(store, ann, chat_id, "fresh")
    await store.edit(ann, chat_id, fresh.message_id, "fresher")
    (of_ann,) = (await store.changes(ann, since, "")).chats
    assert of_ann.changed == (edited, deleted)
    assert [message.text for message in of_ann.messages] == ["fresher"]
    (of_bob,) = (await store.changes(bob, since, "")).chats
    assert (of_bob.changed, of_bob.messages) == (copies, ())


async def test_what_is_told_late_is_a_change(store: MailboxStore) -> None:
    """A message and a chat that are touched are brought to who asks for later changes, and show no change."""
    ann, bob, chat_id = await opened(store)
    one, _two = await send(store, ann, chat_id, "one", "two")
    quiet = (await store.open_chat(ann, bob, "quiet")).chat.chat_id
    await store.open_chat(ann, bob, "other")
    before = await chat_of(store, ann, chat_id)
    await next_millisecond()
    since = whole_ms(datetime.now(UTC))
    assert (await store.changes(ann, since, "")).chats == ()
    places = [(ann, chat_id, one.message_id), (ann, quiet, ""), (ann, NOBODY, NOBODY)]
    assert await store.touch(places) == [None] * 3
    found = {changed.chat.chat_id: changed for changed in (await store.changes(ann, since, "")).chats}
    assert found.keys() == {chat_id, quiet}
    assert [message.text for message in found[chat_id].changed] == ["one"]
    assert found[chat_id].messages == found[quiet].messages == found[quiet].changed == ()
    after = await chat_of(store, ann, chat_id)
    assert (after.version, after.unread, after.last) == (before.version, before.unread, before.last)


async def test_many_changes_are_paged(store: MailboxStore) -> None:
    """New and changed messages of a long chat, over pages of 200: each once."""
    ann, _, chat_id = await opened(store)
    sent = await send(store, ann, chat_id, *["."] * 230)
    await next_millisecond()
    since = datetime.now(UTC)
    await next_millisecond()
    for start in range(0, 150, 10):
        few = sent[start : start + 10]
        await asyncio.gather(*(store.edit(ann, chat_id, message.message_id, "!") for message in few))
    fresh = await send(store, ann, chat_id, *["."] * 120)
    changed: list[int] = []
    stored: list[int] = []
    token = ""
    while True:
        page = await store.changes(ann, since, token)
        assert sum(len(one.messages) + len(one.changed) for one in page.chats) <= 200
        for one in page.chats:
            changed += [message.seq for message in one.changed]
            stored += [message.seq for message in one.messages]
        if not (token := page.next_page_token):
            break
    assert sorted(changed) == [message.seq for message in sent[:150]]
    assert sorted(stored) == [message.seq for message in fresh]


async def test_young_changes_are_not_due(store: MailboxStore) -> None:
    """The relay leaves alone what is on its way at this moment."""
    ann, _, chat_id = await opened(store)
    (sent,) = await send(store, ann, chat_id, "0")
    await store.edit(ann, chat_id, sent.message_id, "1")
    entries = await store.due(store.shard_of(ann), timedelta(minutes=1), 10_000)
    assert ann not in {entry.ref.owner for entry in entries}
