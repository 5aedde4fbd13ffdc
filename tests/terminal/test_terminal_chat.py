"""The terminal chat over the whole stack: what its reader sees, and what others see of it."""

from typing import Any

import pytest
from textual.strip import Strip

from edge.terminal.chat_list import ChatList
from edge.terminal.composer import Composer
from edge.terminal.conversation import Conversation, Look
from edge.terminal.rows import Row
from mesh.stack import Stack
from tests.contract.device import Device
from tests.contract.hop import Hop
from tests.flows.conftest import People
from tests.past import fill_mailbox
from tests.terminal.support import OpenTerminal

SENT, BOTH = "✓", "✓✓"


async def chat_of(bob: Device, alice: str) -> str:
    """Bob's chat with alice."""
    return str((await bob.call("chats.open", peer_id=alice))["chat"]["chat_id"])


async def write(bob: Device, chat_id: str, *texts: str) -> list[Any]:
    """Messages of bob's."""
    return [
        (await bob.call("messages.send", chat_id=chat_id, text=text, client_msg_id=text[:64]))["message"]
        for text in texts
    ]


async def test_a_conversation(people: People, bob: Device, terminal: OpenTerminal) -> None:
    """A chat comes into the list with what is unread; opened it is read; answers show how far they came."""
    alice = await terminal(people.name("alice"))
    await alice.shows("● online", "Choose a chat")
    chat_id = await chat_of(bob, people.name("alice"))
    [hello] = await write(bob, chat_id, "Is the bike for sale?")
    await alice.shows("Chats (1)", "Is the bike for sa", " 1")
    delivered = await bob.next("receipt.delivered")
    assert delivered["up_to"] == hello["message_id"]
    await alice.press("enter")
    await alice.shows("Today", "New", "Is the bike for sale?")
    read = await bob.next("receipt.read")
    assert read["up_to"] == hello["message_id"]
    await alice.shows(" Chats ")
    await alice.say("It is!")
    got = await bob.next("message.new", lambda params: params["message"]["text"] == "It is!")
    await alice.until(lambda: SENT in alice.line_of("It is!"), "one tick")
    await bob.call("chats.mark_delivered", chat_id=chat_id, up_to=got["message"]["message_id"])
    await alice.until(lambda: BOTH in alice.line_of("It is!  "), "two ticks")
    assert alice.field == ""


async def test_people_come_type_and_go(people: People, bob: Device, terminal: OpenTerminal) -> None:
    """Who is there, types and goes shows; one's own typing is told to the other side."""
    alice = await terminal(people.name("alice"), peer=bob.user_id)
    await alice.shows(bob.user_id, "online")
    chat_id = await chat_of(bob, people.name("alice"))
    await bob.call("chats.typing", chat_id=chat_id)
    await alice.shows("typing…")
    await alice.type("Well")
    assert (await bob.next("typing"))["user_id"] == people.name("alice")
    await write(bob, chat_id, "Hello")
    await alice.shows("Hello")
    await alice.hides("typing…")
    await bob.close()
    await alice.shows("last seen just now")


async def test_without_a_connection(people: People, bob: Device, hop: Hop, terminal: OpenTerminal) -> None:
    """Offline it says so, keeps what is written, and sends it once when the connection is back."""
    alice = await terminal(people.name("alice"), url=hop.url, peer=bob.user_id)
    await alice.shows("● online", bob.user_id)
    await hop.stop()
    await alice.shows("○ offline", "No connection")
    await alice.say("Are you there?")
    await alice.until(lambda: "…" in alice.line_of("Are you there?"), "on its way")
    await alice.press("ctrl+q")
    await alice.shows("1 not sent")
    await hop.start()
    await alice.shows("● online")
    assert (await bob.next("message.new"))["message"]["text"] == "Are you there?"
    await alice.until(lambda: SENT in alice.line_of("Are you there?"), "sent")
    assert "No connection" not in alice.screen
    chat_id = await chat_of(bob, people.name("alice"))
    history = await bob.call("messages.history", chat_id=chat_id)
    assert len(history["messages"]) == 1


async def test_what_was_missed(people: People, bob: Device, hop: Hop, terminal: OpenTerminal) -> None:
    """What came in while the connection was away is there when it is back."""
    alice = await terminal(people.name("alice"), url=hop.url, peer=bob.user_id)
    chat_id = await chat_of(bob, people.name("alice"))
    await write(bob, chat_id, "before")
    await alice.shows("before")
    await hop.stop()
    await alice.shows("○ offline")
    await write(bob, chat_id, "meanwhile")
    await hop.start()
    await alice.shows("meanwhile", "● online")


async def test_what_is_not_sent(people: People, bob: Device, terminal: OpenTerminal) -> None:
    """A refused message says that it was not sent, and why; sent again it arrives, once; or it is dropped."""
    alice = await terminal(people.name("alice"), peer=bob.user_id)
    await alice.shows(bob.user_id)
    await bob.call("users.block", user_id=people.name("alice"))
    await alice.say("Hello?")
    await alice.shows("Not sent", "does not take messages", "! not sent")
    await bob.call("users.unblock", user_id=people.name("alice"))
    await alice.say("/retry")
    assert (await bob.next("message.new"))["message"]["text"] == "Hello?"
    await alice.hides("Not sent")
    await bob.call("users.block", user_id=people.name("alice"))
    await alice.say("And now?")
    await alice.shows("Not sent")
    await alice.say("/discard")
    await alice.hides("And now?")


async def test_editing(people: People, bob: Device, terminal: OpenTerminal) -> None:
    """Up in the empty field edits the last message, Escape leaves it; both sides see the new text."""
    alice = await terminal(people.name("alice"), peer=bob.user_id)
    await alice.say("See you at five")
    await alice.until(lambda: SENT in alice.line_of("See you at five"), "sent")
    await alice.press("up")
    await alice.shows("Editing")
    await alice.press("escape")
    await alice.hides("Editing")
    await alice.press("up", "backspace", "backspace", "backspace", "backspace")
    await alice.say("six")
    await alice.shows("See you at six", "edited")
    assert (await bob.next("message.updated"))["message"]["text"] == "See you at six"
    await alice.say("/edit See you at seven")
    assert (await bob.next("message.updated"))["message"]["text"] == "See you at seven"


async def test_deleting(people: People, bob: Device, terminal: OpenTerminal) -> None:
    """The selected message is deleted for whom one says; the peer's for oneself alone."""
    alice = await terminal(people.name("alice"), peer=bob.user_id)
    chat_id = await chat_of(bob, people.name("alice"))
    await write(bob, chat_id, "Only for you")
    await alice.shows("Only for you")
    await alice.say("A slip")
    await alice.until(lambda: SENT in alice.line_of("A slip"), "sent")
    alice.focus(Conversation)
    await alice.press("d")
    await alice.shows("Delete this message?", "For everyone")
    await alice.press("tab", "enter")
    assert (await bob.next("message.deleted"))["chat_id"] == chat_id
    await alice.shows("Deleted message")
    await alice.press("up", "d")
    await alice.shows("Delete this message?")
    assert "For everyone" not in alice.screen
    await alice.press("enter")
    await alice.hides("Only for you")
    history = (await bob.call("messages.history", chat_id=chat_id))["messages"]
    assert [message["text"] for message in history] == ["Only for you", ""]


async def past(stack: Stack, owner: str, sender: str, texts: list[str]) -> None:
    """Gives a user a chat with a past that has been read."""
    shards = stack.env()["MONGO_SHARDS"].split()
    await fill_mailbox(shards, owner=owner, sender=sender, texts=texts, read=True)


async def test_search(people: People, stack: Stack, terminal: OpenTerminal) -> None:
    """What was found is listed newest first; choosing one goes there, however far back it is."""
    alice, bob = people.name("alice"), people.name("bob")
    texts = ["The key is under the mat", *(f"Line {number:03}" for number in range(180)), "Under the hood"]
    await past(stack, alice, bob, texts)
    screen = await terminal(alice)
    await screen.shows("Under the hood")
    await screen.press("ctrl+f")
    await screen.say("UNDER the")
    await screen.shows("2 found", "The key is under the mat")
    await screen.press("down", "enter")
    await screen.shows("Line 003", "The key is under the mat")
    assert "Line 170" not in screen.screen
    await screen.press("escape")
    await screen.press("enter")
    await screen.say("/find nowhere at all")
    await screen.shows("Nothing found")
    await screen.press("escape")
    await screen.hides("Nothing found")


async def test_opening_chats(people: People, bob: Device, terminal: OpenTerminal) -> None:
    """Ctrl+N and /open begin a chat with a person, about an item too; drafts stay with their chats."""
    alice = await terminal(people.name("alice"))
    await alice.shows("● online")
    await alice.press("ctrl+n")
    await alice.shows("Write to")
    await alice.type(bob.user_id)
    await alice.press("enter")
    await alice.shows(f"({bob.user_id})")
    await alice.type("half a thought")
    await alice.press("escape")
    alice.focus(Composer)
    alice.fill("")
    await alice.say(f"/open {bob.user_id} red-bike")
    await alice.shows("about Red Bike")
    await alice.type("other half")
    await alice.press("alt+down")
    await alice.until(lambda: alice.field == "", "the first chat's field")
    await alice.press("alt+up")
    await alice.until(lambda: alice.field == "other half", "its draft")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("/explode", "There is no /explode"),
        ("/open", "/open PERSON"),
        ("/open not&a&user", "peer_id"),
        ("/block", "open a chat first"),
        ("hello", "Open a chat first"),
    ],
)
async def test_what_cannot_be_done(people: People, terminal: OpenTerminal, typed: str, said: str) -> None:
    """A command that makes no sense is answered with what would; a message for nobody comes back."""
    alice = await terminal(people.name("alice"))
    await alice.shows("● online")
    alice.focus(Composer)
    await alice.say(typed)
    await alice.shows(said)
    assert alice.field == ("hello" if typed == "hello" else "")


async def test_a_message_that_is_too_long(people: People, bob: Device, terminal: OpenTerminal) -> None:
    """It is not sent, and not lost: the field keeps it and says how much is too much."""
    alice = await terminal(people.name("alice"), peer=bob.user_id)
    await alice.shows(bob.user_id)
    alice.fill("x" * 4097)
    await alice.shows("1 characters too many")
    await alice.press("enter")
    await alice.shows("Not sent:")
    assert len(alice.field) == 4097
    await alice.press("backspace", "enter")
    assert len((await bob.next("message.new"))["message"]["text"]) == 4096


async def test_two_devices_are_in_step(people: People, bob: Device, terminal: OpenTerminal) -> None:
    """What one device sends, reads and blocks, the other shows."""
    user = people.name("alice")
    one, other = await terminal(user, peer=bob.user_id), await terminal(user)
    await other.shows("● online")
    await one.say("From the one")
    await other.shows("From the one")
    await write(bob, await chat_of(bob, user), "Read me")
    await one.shows("Read me")
    await other.until(lambda: other.app.desk.book.listed()[0].read_up_to, "read on the other")
    assert other.app.desk.book.listed()[0].unread == 0
    await one.say("/block")
    await one.shows("You blocked")
    await other.shows("blocked")
    await one.say("/unblock")
    await other.hides("blocked")


async def test_a_narrow_terminal(people: People, bob: Device, terminal: OpenTerminal) -> None:
    """Where there is room for one, it is the list or the conversation; Escape leads back."""
    alice = await terminal(people.name("alice"), peer=bob.user_id, size=(50, 20))
    await alice.shows(f"({bob.user_id})")
    assert not alice.app.query_one(ChatList).region
    await alice.say("Hello")
    await bob.next("message.new")
    await alice.press("escape")
    await alice.until(lambda: alice.app.query_one(ChatList).region, "the list")
    assert not alice.app.query_one(Conversation).region
    await alice.press("enter")
    await alice.shows(f"({bob.user_id})")


async def test_texts_do_no_harm(people: People, bob: Device, terminal: OpenTerminal) -> None:
    """Escape sequences and markup of others are shown, not obeyed."""
    alice = await terminal(people.name("alice"), peer=bob.user_id)
    chat_id = await chat_of(bob, people.name("alice"))
    await write(bob, chat_id, "\x1b]0;pwned\x07 [red]markup[/red] \u202etxt.exe")
    await alice.shows("␛]0;pwned␇", "[red]markup[/red]")
    assert not {"\x1b", "\x07", "\u202e"} & set(alice.screen)
    await alice.press("ctrl+f")
    await alice.say("[red]")
    await alice.shows("1 found")


async def test_help(people: People, terminal: OpenTerminal) -> None:
    """F1 lists keys and commands; a slash lists the commands that fit."""
    alice = await terminal(people.name("alice"), size=(100, 45))
    await alice.press("f1")
    await alice.shows("Ctrl+N", "/delete [all]")
    await alice.press("escape")
    alice.focus(Composer)
    await alice.type("/e")
    await alice.shows("/edit [TEXT]")
    assert "/delete" not in alice.screen


async def test_a_token_that_does_not_do(people: People, terminal: OpenTerminal) -> None:
    """A token that is refused ends the chat with its reason; one that runs out later shows that."""
    user = people.name("alice")
    refused = await terminal(user, token="not.a.token")
    await refused.until(lambda: refused.app.return_code is not None, "the end")
    assert refused.app.return_code == 1
    short = await terminal(user, token=people.token(user, 2))
    await short.shows("Signed out: the token is over", "○ signed out")
    assert short.app.return_code is None


async def test_thousands_of_messages(people: People, stack: Stack, terminal: OpenTerminal) -> None:
    """Drawing a conversation of 5,000 messages draws what is in view: a change of one draws that one."""
    alice, bob = people.name("alice"), people.name("bob")
    await past(stack, alice, bob, [f"Line {number:04}" for number in range(5_000)])
    screen = await terminal(alice, peer=bob)
    await screen.shows("Line 4999")
    chat_id = screen.app.desk.shown
    first = (await screen.app.desk.search("Line 0000", chat_id))[0][0]
    assert await screen.app.desk.go_back_to(chat_id, first.message_id)
    view = screen.app.query_one(Conversation)
    await screen.until(lambda: view.max_scroll_y > 4_900, "all of them laid out")
    drawn: list[Row] = []
    draw = view._draw

    def counted(row: Row, look: Look) -> list[Strip]:
        drawn.append(row)
        return draw(row, look)

    view._draw = counted  # type: ignore[method-assign]
    await screen.say("One more")
    await screen.until(lambda: SENT in screen.line_of("One more  "), "sent")
    assert 1 <= len(drawn) < 20
