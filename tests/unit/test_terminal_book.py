"""What the terminal chat holds of chats and messages: the same whatever comes twice, late or out of order."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.terminal.book import Book, Outgoing
from edge.terminal.rows import Bubble, Line, Row, Tick, conversation, tick_of
from edge.terminal.shapes import Chat, Message, Peer, Presence

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def message(number: int, sender: str = "bob", **more: object) -> Message:
    """A message of the one chat here; a minute a number."""
    fields: dict[str, object] = {
        "message_id": f"m{number:03}",
        "chat_id": "c",
        "sender_id": sender,
        "seq": number,
        "text": f"text {number}",
        "created_at": NOON + timedelta(minutes=number),
    }
    return Message(**{**fields, **more})  # type: ignore[arg-type]


def chat(version: int = 1, **more: object) -> Chat:
    """A state of the one chat here."""
    fields: dict[str, object] = {
        "chat_id": "c",
        "peer": Peer(user_id="bob", name="Bob"),
        "updated_at": NOON,
        "version": version,
    }
    return Chat(**{**fields, **more})  # type: ignore[arg-type]


def book(*messages: Message, **more: object) -> Book:
    """A book with one chat, whose newest page has been read."""
    held = Book("alice")
    held.put_chat(chat(**more))  # type: ignore[arg-type]
    held.put_page("c", messages, more=False)
    return held


def outgoing(key: str = "key", text: str = "hi") -> Outgoing:
    """A message on its way."""
    return Outgoing(chat_id="c", text=text, client_msg_id=key, created_at=NOON)


@given(st.permutations(list(range(8))), st.lists(st.integers(0, 7), max_size=5))
def test_messages_in_any_order(order: list[int], again: list[int]) -> None:
    """However they come, and come again, each stands once, in the order of ids."""
    held = book()
    for number in [*order, *again]:
        held.put_message(message(number))
    assert [one.seq for one in held.messages("c")] == list(range(8))
    assert held.chats["c"].last_message == message(7)


@given(st.permutations([message(1), message(1, text="b", edited_at=NOON), message(1, text="", deleted=True)]))
def test_changes_in_any_order(states: list[Message]) -> None:
    """Of the states of one message the last edit counts, and what is deleted stays deleted."""
    held = book(states[0])
    for state in states:
        held.change_message(state)
    assert held.messages("c")[0].deleted
    held = book(message(1))
    for state in (one for one in states if not one.deleted):
        held.change_message(state)
    assert held.messages("c")[0].text == "b"


def test_a_change_of_what_is_not_held() -> None:
    """A change makes no hole: a message that was not loaded does not appear by it."""
    held = book(message(5))
    held.change_message(message(1, text="edited", edited_at=NOON))
    held.delete_message("c", "m002")
    assert [one.message_id for one in held.messages("c")] == ["m005"]


@pytest.mark.parametrize("deleted", [False, True])
@given(order=st.permutations(["page", "list", "first", "second"]))
def test_a_page_that_was_read_before_a_change(deleted: bool, order: list[str]) -> None:
    """What was read before a change and comes after it shows the change: a page, and the list."""
    held = Book("alice")
    second = message(2, text="c", edited_at=NOON + timedelta(hours=1))
    for what in order:
        match what:
            case "page":
                held.put_page("c", [message(1), message(2)], more=False)
            case "list":
                held.put_chat(chat(last_message=message(2)))
            case "first":
                held.change_message(message(2, text="b", edited_at=NOON))
            case _:
                held.delete_message("c", "m002") if deleted else held.change_message(second)
    last = held.chats["c"].last_message
    for shown in (held.messages("c")[1], last):
        assert shown is not None
        assert (shown.text, shown.deleted) == (("", True) if deleted else ("c", False))


def test_changes_that_are_remembered_are_bounded() -> None:
    """Only so many changes are remembered, the last ones."""
    held = Book("alice")
    for number in range(600):
        held.delete_message("c", f"m{number:03}")
    held.put_page("c", [message(0), message(599)], more=False)
    assert [one.deleted for one in held.messages("c")] == [False, True]


def test_the_later_version_of_a_chat() -> None:
    """An event that was overtaken changes nothing but names; pointers only move forward."""
    held = Book("alice")
    held.put_chat(chat(5, unread=2, blocked=True, peer_read_up_to="m002", peer=Peer(user_id="bob")))
    held.put_chat(chat(4, unread=9, peer_read_up_to="m003", last_message=message(3)))
    now = held.chats["c"]
    assert (now.unread, now.blocked, now.peer_read_up_to) == (2, True, "m003")
    assert (now.name, now.last_message) == ("Bob", message(3))
    held.put_chat(chat(6, peer=Peer(user_id="bob")))
    assert (held.chats["c"].name, held.chats["c"].unread, held.chats["c"].blocked) == ("Bob", 0, False)


def test_a_message_that_was_sent() -> None:
    """What is on its way shows once, also when its echo comes before its answer, and under one key."""
    held = book(message(1))
    held.queue(outgoing())
    before = bubbles(conversation(held, "c", NOON))[-1]
    assert (before.tick, before.text) == (Tick.SENDING, "hi")
    echo = message(2, "alice", text="hi", client_msg_id="key")
    for _ in range(2):
        held.put_message(echo)
    after = bubbles(conversation(held, "c", NOON))
    assert [one.key for one in after] == ["m001", before.key]
    assert after[-1].tick is Tick.SENT
    assert held.waiting("c") == []


def test_a_message_that_was_not_sent() -> None:
    """It says so and why, goes again as the same one, and can be thrown away."""
    held = book()
    held.queue(outgoing())
    held.fail("key", "no connection", again=True)
    [row] = bubbles(conversation(held, "c", NOON))
    assert (row.tick, row.error) == (Tick.FAILED, "no connection")
    held.queue(held.outgoing["key"])
    [row] = bubbles(conversation(held, "c", NOON))
    assert (row.tick, row.error) == (Tick.SENDING, "")
    held.drop("key")
    assert conversation(held, "c", NOON) == []


def test_an_edit_that_is_taken_back() -> None:
    """A refused edit leaves the text of before, unless the message has changed otherwise meanwhile."""
    held = book(message(1, "alice"))
    shown = message(1, "alice", text="shown", edited_at=NOON)
    held.change_message(shown)
    held.take_back(shown, message(1, "alice"))
    assert held.messages("c")[0].text == "text 1"
    held.change_message(shown)
    held.change_message(message(1, "alice", text="elsewhere", edited_at=NOON + timedelta(seconds=1)))
    held.take_back(shown, message(1, "alice"))
    assert held.messages("c")[0].text == "elsewhere"


@pytest.mark.parametrize(
    ("read", "delivered", "tick"),
    [("", "", Tick.SENT), ("", "m002", Tick.DELIVERED), ("m002", "", Tick.READ), ("m001", "m001", Tick.SENT)],
)
def test_ticks(read: str, delivered: str, tick: Tick) -> None:
    """Sent, delivered, read; who has read it has received it."""
    state = chat(peer_read_up_to=read, peer_delivered_up_to=delivered)
    assert tick_of(state, message(2, "alice")) is tick


def test_receipts() -> None:
    """A receipt moves its pointer, forward alone; one's own delivery is no matter."""
    held = book(message(1, "alice"))
    held.receipt("read", "c", "bob", "m003")
    held.receipt("read", "c", "bob", "m001")
    held.receipt("delivered", "c", "alice", "m009")
    held.receipt("read", "nowhere", "bob", "m001")
    now = held.chats["c"]
    assert (now.peer_read_up_to, now.peer_delivered_up_to, now.read_up_to) == ("m003", "", "")


def test_forgetting() -> None:
    """After a resync a chat counts as not loaded; what was on its way stays."""
    held = book(message(1))
    held.queue(outgoing())
    held.forget()
    assert (held.messages("c"), held.is_loaded("c"), len(held.waiting("c"))) == ([], False, 1)


def test_a_block() -> None:
    """A block shows in every chat with that person, and hides whether the person is there."""
    held = book()
    held.presence["bob"] = Presence(user_id="bob", online=True)
    held.block("bob", blocked=True)
    assert held.chats["c"].blocked
    assert held.presence == {}


def test_the_list() -> None:
    """The newest activity stands first."""
    held = book(message(1))
    held.put_chat(msgspec.structs.replace(chat(), chat_id="d", updated_at=NOON + timedelta(seconds=1)))
    assert [one.chat_id for one in held.listed()] == ["d", "c"]
    held.put_message(message(2))
    assert [one.chat_id for one in held.listed()] == ["c", "d"]


# Rows


def bubbles(rows: list[Row]) -> list[Bubble]:
    """The messages among the rows."""
    return [row for row in rows if isinstance(row, Bubble)]


def test_days_and_groups() -> None:
    """A line a day, and one before what is new; messages of one sender that follow soon are one group."""
    held = book(
        message(1),
        message(2),
        message(3, "alice"),
        message(60),
        message(61, created_at=NOON + timedelta(days=3)),
    )
    rows = conversation(held, "c", NOON + timedelta(days=3), new_after="m003")
    shape = [row.text if isinstance(row, Line) else (row.message_id, row.leads) for row in rows]
    assert shape == [
        "Tuesday", ("m001", True), ("m002", False), ("m003", True),
        "New", ("m060", True), "Today", ("m061", True),
    ]  # fmt: skip


def test_a_deleted_message_keeps_its_place() -> None:
    """It shows no text, no tick and no word of an edit."""
    held = book(message(1, "alice", edited_at=NOON))
    held.delete_message("c", "m001")
    [row] = bubbles(conversation(held, "c", NOON))
    assert (row.text, row.deleted, row.tick, row.note) == ("", True, Tick.NONE, "")


def test_own_messages_are_what_is_edited() -> None:
    """The last own message that is still there."""
    held = book(message(1, "alice"), message(2, "alice"), message(3))
    held.delete_message("c", "m002")
    last = held.last_own("c")
    assert last is not None
    assert last.message_id == "m001"
