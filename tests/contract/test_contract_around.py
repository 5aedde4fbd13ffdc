"""Around the messages: delivery ticks, typing, edits, deletions, search, blocks and presence."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.conftest import Connect, Scene, about
from tests.contract.device import Device
from tests.contract.shapes import (
    BOOL,
    CHAT,
    MESSAGE,
    SOME_TEXT,
    TIME,
    USER_ID,
    UUID,
    UUID7,
    Shape,
    assert_shape,
)

Name = Callable[[str], str]


async def test_delivery_ticks(scene: Scene) -> None:
    """What a device has received is told to the sender, in a receipt and in the chat, for good."""
    [first, second] = await scene.tells(scene.alice, "one", "two")
    await scene.bob.call("chats.mark_delivered", chat_id=scene.chat_id, up_to=second["message_id"])
    receipt = await scene.alice.next("receipt.delivered", lambda p: p["up_to"] == second["message_id"])
    must = {"event_id": SOME_TEXT, "chat_id": UUID, "user_id": USER_ID, "up_to": UUID7}
    assert_shape(receipt, Shape(must=must), "receipt.delivered")
    assert (receipt["chat_id"], receipt["user_id"]) == (scene.chat_id, scene.bob.user_id)
    await scene.bob.call("chats.mark_delivered", chat_id=scene.chat_id, up_to=first["message_id"])
    chat = await scene.chat(scene.alice)
    assert chat["peer_delivered_up_to"] == second["message_id"]
    assert "peer_read_up_to" not in chat


async def test_typing(connect_by: Connect, name: Name) -> None:
    """Typing is told to the peer's devices that are there, without an event id, and not to oneself."""
    alice, bob = await connect_by("ws", name("alice")), await connect_by("ws", name("bob"))
    chat_id = (await alice.call("chats.open", peer_id=bob.user_id))["chat"]["chat_id"]
    await alice.call("chats.typing", chat_id=chat_id)
    assert await bob.next("typing") == {"chat_id": chat_id, "user_id": alice.user_id}
    assert not [one for one in alice.events if one["method"] == "typing"]


async def test_an_edit(scene: Scene, connect: Connect) -> None:
    """An edited message has its new text on both sides, under the same id and seq, and everybody is told."""
    phone = await connect(scene.alice.user_id)
    [first, second] = await scene.tells(scene.alice, "Helo", "second")
    edited = await scene.alice.call(
        "messages.edit", chat_id=scene.chat_id, message_id=first["message_id"], text="Hello"
    )
    assert_shape(edited["message"], MESSAGE, "message")
    assert {**first, "text": "Hello", "edited_at": edited["message"]["edited_at"]} == edited["message"]
    for device in (scene.bob, phone, scene.alice):
        told = await device.next("message.updated", about(first["message_id"]))
        assert_shape(told, Shape(must={"event_id": SOME_TEXT, "message": MESSAGE}), "message.updated")
        assert told["message"]["text"] == "Hello"
        assert ("client_msg_id" in told["message"]) == (device is not scene.bob)
    for who in (scene.alice, scene.bob):
        assert [one["text"] for one in await scene.history(who)] == ["Hello", "second"]
    assert (await scene.chat(scene.bob))["last_message"]["message_id"] == second["message_id"]


async def test_only_the_sender_edits(scene: Scene) -> None:
    """The peer's message cannot be edited, nor deleted for all, nor can one that is not there."""
    [message] = await scene.tells(scene.bob, "mine")
    params = {"chat_id": scene.chat_id, "message_id": message["message_id"]}
    assert (await scene.alice.error("messages.edit", text="yours", **params)).code == -32007
    assert (await scene.alice.error("messages.delete", for_all=True, **params)).code == -32007
    params["message_id"] = scene.chat_id
    assert (await scene.alice.error("messages.edit", text="x", **params)).code == -32005
    assert (await scene.alice.error("messages.delete", **params)).code == -32005
    for who in (scene.alice, scene.bob):
        assert [one["text"] for one in await scene.history(who)] == ["mine"]


async def test_deleting_for_all(scene: Scene) -> None:
    """A message deleted for all leaves its place on both sides, and no text; it is unread no more."""
    [first, _] = await scene.tells(scene.alice, "secret", "second")
    params = {"chat_id": scene.chat_id, "message_id": first["message_id"]}
    assert await scene.alice.call("messages.delete", for_all=True, **params) == {}
    told = await scene.bob.next("message.deleted")
    must = {"event_id": SOME_TEXT, "chat_id": UUID, "message_id": UUID7}
    assert_shape(told, Shape(must=must, may={"reason": SOME_TEXT}), "message.deleted")
    assert told["message_id"] == first["message_id"]
    for who in (scene.alice, scene.bob):
        history = await scene.history(who)
        assert [(one["text"], one.get("deleted", False)) for one in history] == [
            ("", True),
            ("second", False),
        ]
        assert [one["seq"] for one in history] == [1, 2]
    assert (await scene.chat(scene.bob))["unread"] == 1
    assert (await scene.alice.error("messages.edit", text="x", **params)).code == -32009
    again = await scene.alice.call(
        "messages.send", chat_id=scene.chat_id, text="secret", client_msg_id=first["client_msg_id"]
    )
    assert again["duplicate"]


async def test_deleting_for_oneself(scene: Scene, connect: Connect) -> None:
    """A message deleted for oneself, also the peer's, is gone from one's own devices alone."""
    phone = await connect(scene.bob.user_id)
    [first, _] = await scene.tells(scene.alice, "one", "two")
    await scene.bob.call("messages.delete", chat_id=scene.chat_id, message_id=first["message_id"])
    assert (await phone.next("message.deleted"))["message_id"] == first["message_id"]
    assert [one["text"] for one in await scene.history(scene.bob)] == ["", "two"]
    assert [one["text"] for one in await scene.history(scene.alice)] == ["one", "two"]


async def test_search(scene: Scene, connect: Connect, name: Name) -> None:
    """Search finds text in one's own mailbox alone, in whatever case, newest first, page by page."""
    sent = await scene.tells(scene.alice, "a RED bike", "blue", "red (again)", "Redder")
    wanted = [sent[index]["message_id"] for index in (3, 2, 0)]
    for who in (scene.alice, scene.bob):
        found, cursor = [], ""
        for expected in (2, 1):
            page = await who.call("messages.search", query="red", limit=2, cursor=cursor)
            assert len(page["messages"]) == expected
            found += [message["message_id"] for message in page["messages"]]
            cursor = page.get("next_cursor", "")
        assert (found, cursor) == (wanted, "")
    special = await scene.bob.call("messages.search", query="(again)", chat_id=scene.chat_id)
    assert [message["message_id"] for message in special["messages"]] == [wanted[1]]
    carol = await connect(name("carol"))
    assert (await carol.call("messages.search", query="red"))["messages"] == []
    assert (await carol.error("messages.search", query="red", chat_id=scene.chat_id)).code == -32005


async def test_a_block(scene: Scene) -> None:
    """Who is blocked cannot send or type: -32009; nothing arrives; after unblocking it works again."""
    await scene.tells(scene.alice, "before")
    assert await scene.bob.call("users.block", user_id=scene.alice.user_id) == {}
    params = {"chat_id": scene.chat_id, "client_msg_id": "blocked"}
    for who in (scene.alice, scene.bob):
        error = await who.error("messages.send", text="no", **params)
        assert error.code == -32009
        assert not error.data["retryable"]
    assert (await scene.chat(scene.bob))["blocked"] is True
    blocked = await scene.bob.call("users.blocked")
    assert (blocked["user_ids"], blocked.get("next_cursor", "")) == ([scene.alice.user_id], "")
    assert await scene.bob.call("users.unblock", user_id=scene.alice.user_id) == {}
    assert (await scene.bob.call("users.blocked")).get("user_ids", []) == []
    await scene.tells(scene.alice, "after")
    assert [one["text"] for one in await scene.history(scene.bob)] == ["before", "after"]
    assert not (await scene.chat(scene.bob)).get("blocked")


def stands(chat_id: str, *, blocked: bool) -> Callable[[Any], bool]:
    """Says whether a chat.updated shows this chat so."""
    return lambda params: (
        params["chat"]["chat_id"] == chat_id and params["chat"].get("blocked", False) is blocked
    )


async def test_a_block_is_told_to_other_devices(scene: Scene, connect: Connect) -> None:
    """Who blocks on one device sees it on the others, in every chat with that person, who does not."""
    other = await scene.alice.call("chats.open", peer_id=scene.bob.user_id, item_id="another")
    chats = (scene.chat_id, other["chat"]["chat_id"])
    for method, blocked in (("users.block", True), ("users.unblock", False)):
        phone = await connect(scene.alice.user_id)
        await scene.alice.call(method, user_id=scene.bob.user_id)
        for chat_id in chats:
            told = await phone.next("chat.updated", stands(chat_id, blocked=blocked))
            assert_shape(told, Shape(must={"event_id": SOME_TEXT, "chat": CHAT}), "chat.updated")
    await scene.tells(scene.alice, "marker")
    shown = [one["params"]["chat"] for one in scene.bob.events if one["method"] == "chat.updated"]
    assert not [chat for chat in shown if chat.get("blocked")]


async def test_a_block_is_caught_up(scene: Scene, connect: Connect) -> None:
    """A device that was away when another one blocked is told when it is back."""
    phone = await connect(scene.alice.user_id)
    await scene.says(scene.alice, "hello")
    cursor = (await phone.next("message.new"))["event_id"]
    await phone.close()
    await scene.alice.call("users.block", user_id=scene.bob.user_id)
    await scene.alice.next("chat.updated", stands(scene.chat_id, blocked=True))
    back = await connect(scene.alice.user_id, last_event_id=cursor)
    await back.next("chat.updated", stands(scene.chat_id, blocked=True))


async def test_nobody_blocks_oneself(alone: Device) -> None:
    """A block needs somebody else."""
    assert (await alone.error("users.block", user_id=alone.user_id)).code == -32602


PRESENCE = Shape(must={"user_id": USER_ID, "online": BOOL}, may={"last_seen": TIME})


async def test_presence(connect_by: Connect, name: Name, devices: list[Device]) -> None:
    """Who asks about a person is told how it is now, and of its coming from then on."""
    alice, bob = await connect_by("ws", name("alice")), name("bob")

    async def look() -> Any:
        [presence] = (await alice.call("presence.get", user_ids=[bob]))["presence"]
        assert_shape(presence, PRESENCE, "presence")
        return presence

    assert await look() == {"user_id": bob, "online": False}
    await connect_by("ws", bob)
    told = await alice.next("presence", lambda params: params["user_id"] == bob)
    assert_shape(told, PRESENCE, "presence")
    assert told["online"] is True
    assert "event_id" not in told
    assert (await look())["online"] is True


async def test_presence_is_hidden_by_a_block(connect_by: Connect, name: Name) -> None:
    """Between people who blocked each other nobody is seen."""
    alice, bob = await connect_by("ws", name("alice")), await connect_by("ws", name("bob"))
    await bob.call("users.block", user_id=alice.user_id)
    for who, other in ((alice, bob), (bob, alice)):
        [presence] = (await who.call("presence.get", user_ids=[other.user_id]))["presence"]
        assert presence == {"user_id": other.user_id, "online": False}


async def test_changes_are_caught_up(scene: Scene, connect: Connect) -> None:
    """A device that was away is told of edits and deletions, as of messages."""
    [first, second] = await scene.tells(scene.alice, "one", "two")
    cursor = scene.bob.events[-1]["params"]["event_id"]
    await scene.bob.close()
    params = {"chat_id": scene.chat_id, "message_id": first["message_id"]}
    await scene.alice.call("messages.edit", text="changed", **params)
    await scene.alice.call(
        "messages.delete", chat_id=scene.chat_id, message_id=second["message_id"], for_all=True
    )
    back = await connect(scene.bob.user_id, last_event_id=cursor)
    assert (await back.next("message.updated"))["message"]["text"] == "changed"
    assert (await back.next("message.deleted"))["message_id"] == second["message_id"]


@pytest.mark.parametrize(
    "method", ["chats.mark_delivered", "chats.typing", "messages.edit", "messages.delete"]
)
async def test_foreign_chats(scene: Scene, connect: Connect, name: Name, method: str) -> None:
    """Nothing of this works in somebody else's chat."""
    [message] = await scene.tells(scene.alice, "between us")
    carol = await connect(name("carol"))
    all_params = {
        "chats.mark_delivered": {"up_to": message["message_id"]},
        "chats.typing": {},
        "messages.edit": {"message_id": message["message_id"], "text": "x"},
        "messages.delete": {"message_id": message["message_id"]},
    }
    assert (await carol.error(method, chat_id=scene.chat_id, **all_params[method])).code == -32005
    assert [one["text"] for one in await scene.history(scene.bob)] == ["between us"]
