"""The rules of the log, and that the database's documents and operators say the same."""

import random
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import BSON, CodecOptions
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mesh.errors import InvalidArgument
from mesh.lru import Lru
from mesh.mailbox import cursors, documents
from mesh.mailbox.fold import (
    Head,
    LogEntry,
    check_incoming,
    check_new,
    fold,
    from_ns,
    place_incoming,
    place_own,
    same_content,
    to_ms,
    whole_ms,
)
from mesh.mailbox.ids import next_message_id
from mesh.mailbox.model import IncomingMessage, NewMessage, StoredChat

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
CHAT = str(uuid.uuid4())
UTC_CODEC: "CodecOptions[dict[str, Any]]" = CodecOptions(tz_aware=True, tzinfo=UTC)

times = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))


def bits(seed: int) -> Callable[[int], int]:
    """Random bits that are the same in every run."""
    return random.Random(seed).getrandbits  # noqa: S311 - repeatable, not secret


def own(text: str = "hello", key: str = "key") -> NewMessage:
    """A message of ann's."""
    return NewMessage(owner="ann", chat_id=CHAT, text=text, client_msg_id=key)


def incoming(message_id: str, created_at: datetime = NOW) -> IncomingMessage:
    """A message of bob's to ann."""
    return IncomingMessage(
        owner="ann",
        chat_id=CHAT,
        message_id=message_id,
        sender_id="bob",
        text="hi",
        created_at=created_at,
        item_id="item",
    )


@st.composite
def logs(draw: st.DrawFn) -> list[LogEntry]:
    """A log of own and incoming messages, the latter in any order of their ids."""
    entries: list[LogEntry] = []
    for index, mine in enumerate(draw(st.lists(st.booleans(), min_size=1, max_size=12))):
        head = entries[-1].head if entries else Head()
        now_ns = draw(st.integers(min_value=10**18, max_value=10**18 + 10**10))
        if mine:
            message_id = next_message_id(now_ns, head.top, bits(index))
            at = from_ns(now_ns)
            entries.append(
                place_own(
                    own(key=str(index)), head, peer_id="bob", item_id="item", message_id=message_id, at=at
                )
            )
        else:
            message_id = next_message_id(now_ns, "", bits(index))
            entries.append(place_incoming(incoming(message_id, from_ns(now_ns)), head, at=NOW))
    return entries


@given(logs())
def test_a_log_counts_without_holes(log: list[LogEntry]) -> None:
    """Each head says how long the log is up to it, how much of it came in, and its greatest id."""
    for index, entry in enumerate(log):
        sofar = [one.message for one in log[: index + 1]]
        assert entry.message.seq == entry.head.seq == index + 1
        assert entry.head.incoming == sum(message.sender_id == "bob" for message in sofar)
        assert entry.head.top == max(message.message_id for message in sofar)


def fold_all(entries: list[LogEntry]) -> StoredChat:
    """The chat after these entries, one after the other."""
    chat = None
    for entry in entries:
        chat = fold(chat, entry, at=NOW)
    assert chat
    return chat


@given(logs(), st.randoms(use_true_random=False))
def test_a_chat_is_the_fold_of_its_log(log: list[LogEntry], shuffled: random.Random) -> None:
    """In any order, and however often each: the same chat, and it says what the log says."""
    again = log + shuffled.choices(log, k=5)
    shuffled.shuffle(again)
    chat = fold_all(again)
    assert chat == fold_all(log)
    assert (chat.seq, chat.incoming, chat.top) == (len(log), log[-1].head.incoming, log[-1].head.top)
    assert chat.last == max((entry.message for entry in log), key=lambda message: message.message_id)
    assert chat.activity == max(entry.message.created_at for entry in log)


def apply_upsert(document: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    """What MongoDB makes of `$max` and `$setOnInsert`."""
    result = dict(document) or {"_id": "ann", **update["$setOnInsert"]}
    for name, value in update["$max"].items():
        known = result.get(name)
        result[name] = value if known is None or _key(value) > _key(known) else known
    return result


def _key(value: Any) -> Any:
    return tuple(value.values())[:2] if isinstance(value, dict) else value


@given(logs(), st.data())
def test_the_update_is_the_fold(log: list[LogEntry], data: st.DataObject) -> None:
    """The operators give the chat that the rule gives, for entries one by one or several at once."""
    document: dict[str, Any] = {}
    rest = log
    while rest:
        size = data.draw(st.integers(min_value=1, max_value=len(rest)))
        document = apply_upsert(document, documents.fold_update(rest[:size], NOW))
        rest = rest[size:]
    assert documents.read_chat(document) == fold_all(log)


@given(logs())
def test_messages_survive_the_database(log: list[LogEntry]) -> None:
    """A document read back, through the bytes that travel, is the entry that was written."""
    for entry in log:
        stored = BSON.encode(documents.message_document(entry)).decode(UTC_CODEC)
        assert documents.read_entry(stored) == entry


def test_edits_survive_the_database() -> None:
    """Fields that a plain message lacks are kept as well, also where it is the chat's last."""
    head = Head()
    entry = place_own(own(), head, peer_id="bob", item_id="", message_id="1", at=NOW)
    edited = replace(entry.message, text="b", original_text="a", edited_at=NOW, deleted=True, version=2)
    entry = LogEntry(message=edited, head=entry.head)
    assert documents.read_entry(documents.message_document(entry)).message == edited
    chat = apply_upsert({}, documents.fold_update([entry], NOW))
    assert documents.read_chat(chat).last == edited


def test_only_own_messages_are_marked() -> None:
    """An incoming message has no event to lose."""
    mine = place_own(own(), Head(), peer_id="bob", item_id="", message_id="1", at=NOW)
    theirs = place_incoming(incoming("2"), mine.head, at=NOW)
    assert documents.message_document(mine)["outbox"] == {"at": NOW}
    assert "outbox" not in documents.message_document(theirs)


def test_an_edit_does_not_break_the_idempotency_key() -> None:
    """A late repetition of what was sent is recognised by the original text."""
    stored = place_own(own("as sent"), Head(), peer_id="bob", item_id="", message_id="1", at=NOW).message
    edited = replace(stored, text="as edited", original_text="as sent")
    assert same_content(stored, own("as sent"))
    assert same_content(edited, own("as sent"))
    assert not same_content(edited, own("as edited"))
    assert not same_content(stored, replace(own("as sent"), chat_id="other"))


def test_messages_that_would_spoil_a_batch_are_refused() -> None:
    """Lone surrogates, ids that would break a key, an empty idempotency key, mail from oneself."""
    for new in (own("\ud800"), own(key=""), own(key="\udfff"), replace(own(), owner="a:b")):
        with pytest.raises(InvalidArgument):
            check_new(new)
    good = incoming("1")
    check_incoming(good)
    for broken in (
        replace(good, sender_id="ann"),
        replace(good, sender_id="b;"),
        replace(good, text="\ud800"),
    ):
        with pytest.raises(InvalidArgument):
            check_incoming(broken)


@given(times, st.uuids())
def test_a_list_cursor_comes_back(at: datetime, chat: uuid.UUID) -> None:
    """It is url-safe, short, and says where the page ended."""
    cursor = cursors.list_cursor(whole_ms(at), str(chat))
    assert cursors.parse_list_cursor(cursor) == (whole_ms(at), str(chat))
    assert len(cursor) <= 256
    assert set(cursor) <= set("0123456789abcdef-~")


@given(st.uuids(), st.integers(min_value=0, max_value=10**9))
def test_a_changes_token_comes_back(chat: uuid.UUID, below: int) -> None:
    """It says which chat, and where in it."""
    assert cursors.parse_changes_token(cursors.changes_token(str(chat), below)) == (str(chat), below)


@given(st.text())
def test_made_up_cursors_are_refused(text: str) -> None:
    """Any text is either a cursor or bad input; never an unexpected error."""
    for parse in (cursors.parse_list_cursor, cursors.parse_changes_token):
        with pytest.raises(InvalidArgument):
            parse(text)


@given(times)
def test_times_are_cut_as_the_database_cuts_them(at: datetime) -> None:
    """What is answered equals what is read later."""
    stored = BSON.encode({"at": at}).decode(UTC_CODEC)["at"]
    assert whole_ms(at) == stored
    assert from_ns(to_ms(at) * 1_000_000) == stored


def test_times_of_other_zones_become_utc() -> None:
    """The same moment, told in UTC."""
    east = NOW.astimezone(tz=datetime.now().astimezone().tzinfo) + timedelta(microseconds=999)
    assert whole_ms(east) == NOW
    assert whole_ms(east).tzinfo is UTC


def test_the_least_recently_used_is_forgotten() -> None:
    """Reading keeps an entry young; the bound holds."""
    lru: Lru[str, int] = Lru(2)
    lru.put("a", 1)
    lru.put("b", 2)
    assert lru.get("a") == 1
    lru.put("c", 3)
    assert (lru.get("a"), lru.get("b"), lru.get("c"), len(lru)) == (1, None, 3, 2)
