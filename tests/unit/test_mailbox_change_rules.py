"""The rules of changing a message: whatever the queue does to their events, both copies end alike."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import FailedPrecondition, PermissionDenied
from mesh.mailbox import documents
from mesh.mailbox.changes import as_sent, deleted, edited, removed, with_edit
from mesh.mailbox.fold import Head, LogEntry, fold, place_incoming, place_own, same_content
from mesh.mailbox.model import IncomingMessage, NewMessage, StoredChat, StoredMessage

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
NEW = NewMessage(owner="ann", chat_id="chat", text="as sent", client_msg_id="key")

# What the sender does, one thing after the other: a text is an edit, a bool a deletion, for all or not.
histories = st.lists(st.sampled_from(["one", "two", "as sent"]) | st.booleans(), max_size=6)


def sent() -> StoredMessage:
    """Ann's copy of a message to bob."""
    return place_own(NEW, Head(), peer_id="bob", item_id="", message_id="1", at=NOW).message


def received() -> LogEntry:
    """Bob's copy of it."""
    incoming = IncomingMessage(
        owner="bob", chat_id="chat", message_id="1", sender_id="ann", text="as sent", created_at=NOW
    )
    return place_incoming(incoming, Head(), at=NOW)


def act(message: StoredMessage, action: str | bool, at: datetime) -> StoredMessage:
    """The sender's copy after an edit or a deletion; what is refused changes nothing."""
    try:
        if isinstance(action, bool):
            return deleted(message, for_all=action, at=at)
        return edited(message, action, at=at)
    except FailedPrecondition:
        return message


def versions_of(history: list[str | bool]) -> list[StoredMessage]:
    """The sender's copy as sent and after each change that took effect."""
    versions = [sent()]
    for turn, action in enumerate(history):
        after = act(versions[-1], action, NOW + timedelta(seconds=turn))
        if after is not versions[-1]:
            versions.append(after)
    return versions


def carried(copy: StoredMessage, version: StoredMessage) -> StoredMessage:
    """Bob's copy after the event of ann's change, if there is one for the peer."""
    if not version.deleted:
        at = version.edited_at or NOW
        return with_edit(copy, text=version.text, edited_at=at, version=version.version, at=NOW)
    return removed(copy, version=version.version, at=NOW) if version.deleted_for_all else copy


@given(histories)
def test_each_change_is_the_next_version(history: list[str | bool]) -> None:
    """Versions count from 0 without a hole; what was sent, and so its key, is known for ever."""
    versions = versions_of(history)
    assert [one.version for one in versions] == list(range(len(versions)))
    assert {as_sent(one) for one in versions} == {sent()}
    assert all(same_content(one, NEW) for one in versions)
    assert all(one.text == "" for one in versions if one.deleted)


@given(histories, st.randoms(use_true_random=False))
def test_the_copies_end_alike(history: list[str | bool], shuffled: random.Random) -> None:
    """Events in any order, however often each: the receiver has the last text, or none where all lost it."""
    versions = versions_of(history)
    events = versions[1:] + shuffled.choices(versions, k=3)
    shuffled.shuffle(events)
    copy = received().message
    for version in events:
        copy = carried(copy, version)
    shown = [one for one in versions if not one.deleted][-1]
    assert copy.deleted == versions[-1].deleted_for_all
    assert copy.text == ("" if copy.deleted else shown.text)
    assert copy.original_text == ""


@given(histories, st.data())
def test_a_receiver_s_deletion_is_final(history: list[str | bool], data: st.DataObject) -> None:
    """Whatever the sender's events bring afterwards, the copy stays as its owner left it."""
    versions = versions_of(history)
    before = data.draw(st.integers(min_value=0, max_value=len(versions)))
    copy = received().message
    for version in versions[1:before]:
        copy = carried(copy, version)
    gone = deleted(copy, for_all=False, at=NOW)
    for version in versions:
        assert carried(gone, version) is gone


@given(histories, st.randoms(use_true_random=False))
def test_a_chat_folds_every_version(history: list[str | bool], shuffled: random.Random) -> None:
    """In any order of the folds, by rule or by operators, the chat shows the last version."""
    versions = versions_of(history)
    entries = [LogEntry(message=one, head=Head(seq=1, top="1")) for one in versions]
    shuffled.shuffle(entries)
    chat: StoredChat | None = None
    document: dict[str, object] = {}
    for entry in entries:
        chat = fold(chat, entry, at=NOW)
        update = documents.fold_update([entry], NOW)
        document = {"_id": "ann:chat"} | update["$setOnInsert"] | _forward(document, update["$max"])
    assert chat
    assert chat.last == versions[-1]
    assert chat == documents.read_chat(document)


def _forward(document: dict[str, object], fields: dict[str, object]) -> dict[str, object]:
    """What MongoDB makes of `$max`."""
    known = {name: document.get(name, value) for name, value in fields.items()}
    return document | {name: max(known[name], value, key=_order) for name, value in fields.items()}


def _order(value: Any) -> Any:
    return tuple(value.values())[:2] if isinstance(value, dict) else value


def test_nobody_changes_what_others_sent() -> None:
    """The receiver edits nothing and deletes for nobody else."""
    copy = received().message
    with pytest.raises(PermissionDenied):
        edited(copy, "other", at=NOW)
    with pytest.raises(PermissionDenied):
        deleted(copy, for_all=True, at=NOW)
    assert deleted(copy, for_all=False, at=NOW).deleted
