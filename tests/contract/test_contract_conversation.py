"""Two people talk: ids, order, idempotency, unread counts, pointers, devices, catching up."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from mesh.stack import Stack
from tests.contract.conftest import Connect, Scene, about
from tests.contract.device import PATIENCE, Device, HttpDevice
from tests.contract.shapes import CHAT, MESSAGE, SOME_TEXT, UUID7, Shape, assert_shape
from tests.past import fill_chats

Name = Callable[[str], str]

NOTES = {
    "message.new": Shape(must={"event_id": SOME_TEXT, "message": MESSAGE}),
    "chat.updated": Shape(must={"event_id": SOME_TEXT, "chat": CHAT}),
    "receipt.read": Shape(
        must={"event_id": SOME_TEXT, "chat_id": SOME_TEXT, "user_id": SOME_TEXT, "up_to": UUID7}
    ),
}


def ids(messages: list[Any]) -> list[str]:
    """Message ids, in order."""
    return [message["message_id"] for message in messages]


async def test_a_chat_follows_from_its_people_and_item(connect: Connect, name: Name) -> None:
    """The same chat opened twice, and from either side, is one; another item or peer is another."""
    alice, bob = await connect(name("alice")), await connect(name("bob"))

    async def chat(who: Device, peer: str, **params: Any) -> Any:
        return (await who.call("chats.open", peer_id=peer, **params))["chat"]

    first = await chat(alice, bob.user_id, item_id="bike")
    assert first["peer"]["user_id"] == bob.user_id
    assert first["item"]["item_id"] == "bike"
    again = [await chat(alice, bob.user_id, item_id="bike"), await chat(bob, alice.user_id, item_id="bike")]
    assert [one["chat_id"] for one in again] == [first["chat_id"]] * 2
    assert again[1]["peer"]["user_id"] == alice.user_id
    others = [await chat(alice, bob.user_id), await chat(alice, bob.user_id, item_id="car")]
    assert len({first["chat_id"], *(one["chat_id"] for one in others)}) == 3


async def test_nobody_talks_to_oneself(alone: Device) -> None:
    """A chat needs two people."""
    error = await alone.error("chats.open", peer_id=alone.user_id)
    assert error.code == -32602
    assert "peer_id" in error.message


async def test_a_message_arrives(scene: Scene) -> None:
    """The peer is pushed its own copy and the chat; client_msg_id shows on the sender's side alone."""
    sent = await scene.says(scene.alice, "Is it still for sale?")
    assert_shape(sent, MESSAGE, "message")
    assert sent["client_msg_id"] == "key-0"
    assert (sent["seq"], sent["sender_id"]) == (1, scene.alice.user_id)
    pushed = await scene.bob.next("message.new")
    chat = await scene.bob.next("chat.updated", lambda params: params["chat"].get("unread") == 1)
    assert_shape(pushed, NOTES["message.new"], "message.new")
    assert_shape(chat, NOTES["chat.updated"], "chat.updated")
    theirs = {key: value for key, value in sent.items() if key != "client_msg_id"}
    assert pushed["message"] == theirs
    assert chat["chat"]["last_message"] == theirs
    assert await scene.history(scene.bob) == [theirs]
    assert (await scene.chat(scene.bob))["last_message"] == theirs
    assert await scene.history(scene.alice) == [sent]
    assert (await scene.chat(scene.alice))["last_message"] == sent


async def test_names_and_titles(scene: Scene) -> None:
    """A whole answer has no degraded parts."""
    for method, params in (("chats.get", {"chat_id": scene.chat_id}), ("chats.list", {})):
        assert not (await scene.alice.call(method, **params)).get("degraded")


TEXTS = (
    "x", "x" * 4096, "😀" * 4096, "  spaces  ", "line\nline\r\n\ttab", "<script>alert(1)</script>", "\u0000",
    "e\u0301 \u202eright to left", "$ne {\"$gt\": 1}", "\ufeff\uffff",
)  # fmt: skip


async def test_texts_arrive_as_they_were(scene: Scene) -> None:
    """Up to 4096 characters of any kind, also 4096 emoji, come out at the other side unchanged."""
    for text in TEXTS:
        await scene.says(scene.alice, text)
        assert (await scene.bob.next("message.new"))["message"]["text"] == text
    assert [message["text"] for message in await scene.history(scene.bob)] == list(TEXTS)


async def test_both_sides_see_one_order(scene: Scene) -> None:
    """When both write at once: each history has the same ids, ascending, and its seq has no hole."""
    count = 15
    mine, theirs = await asyncio.gather(_talk(scene, scene.alice, count), _talk(scene, scene.bob, count))
    assert ids(mine) == sorted(ids(mine))
    everything = sorted(ids(mine) + ids(theirs))
    for who, other in ((scene.alice, theirs), (scene.bob, mine)):
        for message in other:
            await who.next("message.new", about(message["message_id"]))
        history = await scene.history(who)
        assert ids(history) == everything
        assert sorted(message["seq"] for message in history) == list(range(1, 2 * count + 1))
        assert (await scene.chat(who))["seq"] == 2 * count
        pushed = [one["params"]["message"] for one in who.events if one["method"] == "message.new"]
        by_id = {message["message_id"]: message for message in history}
        assert all(by_id[message["message_id"]]["seq"] == message["seq"] for message in pushed)


async def _talk(scene: Scene, who: Device, count: int) -> list[Any]:
    sent = []
    for number in range(count):
        result = await who.call(
            "messages.send", chat_id=scene.chat_id, text=str(number), client_msg_id=f"{who.user_id}-{number}"
        )
        sent.append(result["message"])
    return sent


async def test_a_repeated_key_is_the_same_message(scene: Scene, connect: Connect) -> None:
    """The same key with the same content, also at once from two devices, is one message and one answer."""
    phone = await connect(scene.alice.user_id)
    params = {"chat_id": scene.chat_id, "text": "once", "client_msg_id": "the key"}
    at_once = asyncio.gather(
        scene.alice.call("messages.send", **params), phone.call("messages.send", **params)
    )
    answers = [*await at_once]
    answers += [await scene.alice.call("messages.send", **params) for _ in range(2)]
    assert len({answer["message"]["message_id"] for answer in answers}) == 1
    assert all(answer["message"] == answers[0]["message"] for answer in answers)
    assert sorted(answer.get("duplicate", False) for answer in answers) == [False, True, True, True]
    await scene.tells(scene.alice, "marker")
    assert [message["text"] for message in await scene.history(scene.bob)] == ["once", "marker"]
    pushed = [one["params"]["message"]["text"] for one in scene.bob.events if one["method"] == "message.new"]
    assert pushed == ["once", "marker"]


async def test_a_key_belongs_to_its_content_and_its_sender(scene: Scene, name: Name) -> None:
    """The same key with another text or chat is -32010 and stores nothing; each sender has own keys."""
    params = {"chat_id": scene.chat_id, "text": "once", "client_msg_id": "the key"}
    await scene.alice.call("messages.send", **params)
    other = (await scene.alice.call("chats.open", peer_id=name("carol")))["chat"]["chat_id"]
    for changed in ({"text": "twice"}, {"chat_id": other}):
        error = await scene.alice.error("messages.send", **{**params, **changed})
        assert error.code == -32010
        assert not error.data["retryable"]
    assert not (await scene.bob.call("messages.send", **params)).get("duplicate")
    assert len(await scene.history(scene.alice)) in {1, 2}
    assert (await scene.alice.call("messages.history", chat_id=other))["messages"] == []


async def test_unread_is_exact(scene: Scene) -> None:
    """Unread counts the peer's messages behind the read pointer, exactly; the pointer never moves back."""
    [one, two, three] = await scene.tells(scene.bob, "one", "two", "three")
    assert (await scene.chat(scene.alice))["unread"] == 3
    [mine] = await scene.tells(scene.alice, "mine")
    [last] = await scene.tells(scene.bob, "last")
    expected = ((one, 3), (three, 1), (two, 1), (one, 1), (mine, 1), (last, 0), (one, 0))
    furthest = ""
    for message, unread in expected:
        furthest = max(furthest, message["message_id"])
        chat = await read(scene, message["message_id"])
        assert (chat.get("unread", 0), chat["read_up_to"]) == (unread, furthest), message["text"]
        now = await scene.chat(scene.alice)
        assert (now.get("unread", 0), now["read_up_to"]) == (unread, furthest)
    assert (await scene.chat(scene.bob)).get("unread", 0) == 1


def read_up_to(message_id: str) -> Callable[[Any], bool]:
    """Says whether a chat.updated has this read pointer."""
    return lambda params: params["chat"].get("read_up_to") == message_id


async def read(scene: Scene, up_to: str) -> Any:
    """Moves alice's read pointer; the chat afterwards."""
    return (await scene.alice.call("chats.mark_read", chat_id=scene.chat_id, up_to=up_to))["chat"]


async def test_the_peer_sees_the_read_ticks(scene: Scene, connect: Connect) -> None:
    """Reading is told to the sender, in a receipt and in the chat, and to the reader's other devices."""
    phone = await connect(scene.alice.user_id)
    [first, second] = await scene.tells(scene.bob, "one", "two")
    for message in (first, second):
        await read(scene, message["message_id"])
        receipt = await scene.bob.next("receipt.read")
        assert_shape(receipt, NOTES["receipt.read"], "receipt.read")
        assert receipt["chat_id"] == scene.chat_id
        assert receipt["user_id"] == scene.alice.user_id
        assert receipt["up_to"] == message["message_id"]
        assert (await scene.chat(scene.bob))["peer_read_up_to"] == message["message_id"]
        await phone.next("chat.updated", read_up_to(message["message_id"]))
    await read(scene, first["message_id"])
    await scene.tells(scene.alice, "marker")
    receipts = [one for one in scene.bob.events if one["method"] == "receipt.read"]
    assert len(receipts) == 2, "a pointer that does not move is told to nobody"


async def test_devices_of_one_user_are_in_step(scene: Scene, connect: Connect) -> None:
    """What one device sends, every other device of both people is pushed."""
    alices, bobs = [await connect(scene.alice.user_id) for _ in range(2)], await connect(scene.bob.user_id)
    sent = await scene.says(scene.alice, "to everybody")
    for device in alices:
        assert (await device.next("message.new"))["message"] == sent
    for device in (scene.bob, bobs):
        got = (await device.next("message.new"))["message"]
        assert got["message_id"] == sent["message_id"]
        assert "client_msg_id" not in got
    opened = await scene.alice.call("chats.open", peer_id=scene.bob.user_id, item_id="another")
    for device in alices:
        told = await device.next(
            "chat.updated", lambda params: params["chat"]["chat_id"] == opened["chat"]["chat_id"]
        )
        assert told["chat"]["item"]["item_id"] == "another"


async def test_foreign_chats(scene: Scene, connect: Connect, name: Name) -> None:
    """Who is not in a chat neither sees it nor writes into it, and learns not even that it is there."""
    [message] = await scene.tells(scene.alice, "between us")
    carol = await connect(name("carol"))
    for method, params in (
        ("chats.get", {}),
        ("messages.history", {}),
        ("messages.send", {"text": "hello", "client_msg_id": "1"}),
        ("chats.mark_read", {"up_to": message["message_id"]}),
    ):
        foreign = await carol.error(method, chat_id=scene.chat_id, **params)
        unknown = await carol.error(method, chat_id=str(uuid.uuid4()), **params)
        assert foreign.code == unknown.code == -32005, method
        assert foreign.message == unknown.message
    assert (await carol.call("chats.list"))["chats"] == []
    for who in (scene.alice, scene.bob):
        assert ids(await scene.history(who)) == [message["message_id"]]


async def test_reading_what_is_not_there(scene: Scene) -> None:
    """A read pointer goes to messages of its chat alone."""
    await scene.tells(scene.bob, "one")
    error = await scene.alice.error("chats.mark_read", chat_id=scene.chat_id, up_to=str(uuid.uuid4()))
    assert error.code == -32005
    assert (await scene.chat(scene.alice))["unread"] == 1


async def test_the_list_of_chats(alone: Device, name: Name) -> None:
    """Chats come newest first, page by page, each once; a new message moves its chat to the top."""
    chats = [
        (await alone.call("chats.open", peer_id=name(f"peer-{number}")))["chat"]["chat_id"]
        for number in range(7)
    ]
    await alone.call("messages.send", chat_id=chats[0], text="up", client_msg_id="up")
    listed, cursor = [], ""
    for expected in (3, 3, 1):
        page = await alone.call("chats.list", limit=3, cursor=cursor)
        assert len(page["chats"]) == expected
        listed += [chat["chat_id"] for chat in page["chats"]]
        cursor = page.get("next_cursor", "")
    assert cursor == ""
    assert listed == [chats[0], *reversed(chats[1:])]


async def test_the_pages_of_a_history(scene: Scene) -> None:
    """Pages before and after a message are the ones next to it, oldest first, with has_more to their side."""
    sent = ids(await scene.tells(scene.alice, *map(str, range(7))))

    async def page(**params: Any) -> tuple[list[str], bool]:
        result = await scene.bob.call("messages.history", chat_id=scene.chat_id, **params)
        return ids(result["messages"]), result.get("has_more", False)

    assert await page() == (sent, False)
    assert await page(limit=3) == (sent[4:], True)
    assert await page(limit=3, before=sent[4]) == (sent[1:4], True)
    assert await page(limit=3, before=sent[3]) == (sent[:3], False)
    assert await page(limit=3, after=sent[1]) == (sent[2:5], True)
    assert await page(limit=3, after=sent[3]) == (sent[4:], False)
    assert await page(after=sent[-1]) == ([], False)
    assert await page(before=sent[0]) == ([], False)


async def test_catching_up(scene: Scene, connect: Connect) -> None:
    """A device that comes back with its last event gets every later one, in order, and then the live ones."""
    await scene.tells(scene.alice, "before")
    cursor = scene.bob.events[-1]["params"]["event_id"]
    await scene.bob.close()
    away = [await scene.says(scene.alice, text) for text in ("one", "two", "three")]
    back = await connect(scene.bob.user_id, last_event_id=cursor)
    later = await scene.says(scene.alice, "live")
    expected = ids([*away, later])
    got = [await back.next("message.new") for _ in expected]
    assert sorted(params["message"]["message_id"] for params in got) == expected
    assert [params["message"]["seq"] for params in got] == [2, 3, 4, 5], "as they came into bob's copy"
    events = [one["params"]["event_id"] for one in back.events]
    assert len(events) == len(set(events))
    assert cursor not in events


@pytest.mark.parametrize("transport", ["ws"])
async def test_session_connect_says_where_it_begins(scene: Scene) -> None:
    """session.connect without a cursor begins now; with one the missed events follow its answer."""
    fresh = await scene.bob.call("session.connect")
    assert fresh["recovered"] is True
    sent = await scene.says(scene.alice, "hello")
    await scene.bob.next("message.new")
    back = await scene.bob.call("session.connect", last_event_id=fresh["last_event_id"])
    assert back["recovered"] is True
    again = await scene.history(scene.bob)
    assert ids(again) == [sent["message_id"]]


async def test_a_cursor_from_before_the_first_event(connect: Connect, name: Name) -> None:
    """The cursor of somebody whom nobody had written to yet is a good one."""
    alice, bob = name("alice"), name("bob")
    first = await connect(bob)
    cursor = (await first.call("session.connect"))["last_event_id"]
    writer = await connect(alice)
    chat = (await writer.call("chats.open", peer_id=bob))["chat"]["chat_id"]
    await writer.call("messages.send", chat_id=chat, text="first", client_msg_id="1")
    await first.next("message.new")
    back = await connect(bob, last_event_id=cursor)
    assert (await back.next("message.new"))["message"]["text"] == "first"


async def test_how_many_chats_come_unasked(alone: Device, name: Name) -> None:
    """Without a limit a page of the list has 20 chats, and says that there are more."""
    await in_batches(alone, "chats.open", [{"peer_id": name(f"peer-{number}")} for number in range(21)])
    page = await alone.call("chats.list")
    assert len(page["chats"]) == 20
    assert len((await alone.call("chats.list", cursor=page["next_cursor"]))["chats"]) == 1


async def test_how_many_messages_come_unasked(scene: Scene) -> None:
    """Without a limit a page of history has the newest 50 messages, and says that there are more."""
    texts = [str(number) for number in range(51)]
    sends = [{"chat_id": scene.chat_id, "text": text, "client_msg_id": text} for text in texts]
    await in_batches(scene.alice, "messages.send", sends)
    page = await scene.alice.call("messages.history", chat_id=scene.chat_id)
    assert [message["text"] for message in page["messages"]] == texts[1:]
    assert page["has_more"]


async def in_batches(device: Device, method: str, params: list[dict[str, Any]]) -> None:
    """Makes calls, as many at once as a batch may have; what is throttled is called again when it may be."""
    calls = {n: {"jsonrpc": "2.0", "id": n, "method": method, "params": one} for n, one in enumerate(params)}
    while calls:
        answers = await device.exchange(json.dumps([*calls.values()][:50]))
        for done in (answer["id"] for answer in answers if "result" in answer):
            del calls[done]
        errors = [answer["error"]["data"] for answer in answers if "error" in answer]
        await asyncio.sleep(max((error["retry_after_ms"] / 1000 for error in errors), default=0))


# ── cursors that the hot cache cannot answer ────────────────────────────────────────────────────────────────


def another_epoch(cursor: str) -> str:
    """Of a cache that was lost since."""
    _, n, ms = cursor.split("-")
    return f"1-{n}-{ms}"


def never_given(cursor: str) -> str:
    """Of an event that nobody was told of."""
    epoch, _, ms = cursor.split("-")
    return f"{epoch}-999999-{ms}"


def long_ago(_: str) -> str:
    """Older than anything that is kept."""
    return "1-1-1"


@pytest.mark.parametrize("made", [another_epoch, never_given, long_ago], ids=lambda made: made.__name__)
async def test_a_gap_is_filled_from_the_database(
    scene: Scene, connect: Connect, made: Callable[[str], str]
) -> None:
    """Where the cache does not know a cursor the database tells all since then; that is recovered, too."""
    await scene.tells(scene.alice, "before")
    cursor = scene.bob.events[-1]["params"]["event_id"]
    await scene.bob.close()
    away = [await scene.says(scene.alice, text) for text in ("one", "two")]
    back = await connect(scene.bob.user_id)
    start = await back.begin(made(cursor))
    assert start["recovered"] is True
    for message in away:
        await back.next("message.new", about(message["message_id"]))
    later = await scene.says(scene.alice, "live")
    await back.next("message.new", about(later["message_id"]))
    seqs = {one["params"]["message"]["seq"] for one in back.events if one["method"] == "message.new"}
    assert {2, 3, 4} <= seqs


@pytest_asyncio.fixture(scope="module")
async def long_away(own_stack: Stack) -> str:
    """Somebody who was away for more than 5,000 messages, of a hundred people."""
    owner = f"bob-{uuid.uuid4().hex}"
    shards, senders = own_stack.env()["MONGO_SHARDS"].split(), [f"{owner}-{n}" for n in range(100)]
    await fill_chats(shards, owner=owner, senders=senders, texts=["x"] * 51)
    return owner


async def test_a_gap_that_is_too_long(connect: Connect, long_away: str) -> None:
    """After more than the server fills in `recovered` is false: nothing old follows; it goes on from now."""
    alice, back = await connect(f"alice-{long_away}"), await connect(long_away)
    start = await back.begin(long_ago(""))
    assert start["recovered"] is False
    chat = (await alice.call("chats.open", peer_id=long_away))["chat"]
    sends = {"chat_id": chat["chat_id"], "text": "live", "client_msg_id": uuid.uuid4().hex}
    sent = (await alice.call("messages.send", **sends))["message"]
    await back.next("message.new", about(sent["message_id"]))
    again = await connect(long_away)
    assert (await again.begin(start["last_event_id"]))["recovered"] is True
    await again.next("message.new", about(sent["message_id"]))
    for device in (back, again):
        assert ids([one["params"]["message"] for one in device.events if one["method"] == "message.new"]) == [
            sent["message_id"]
        ]


async def test_a_stream_says_that_a_gap_is_too_long(connect_by: Connect, long_away: str) -> None:
    """A stream says so in an event named `lost`, and goes on from now."""
    back = await connect_by("http", long_away)
    assert isinstance(back, HttpDevice)
    headers = {"Last-Event-ID": long_ago("")}
    async with (
        asyncio.timeout(PATIENCE),
        back.http.stream("GET", "/events/stream", headers=headers) as stream,
    ):
        lines = stream.aiter_lines()
        begin, lost = await block(lines), await block(lines)
    assert lost == ["event: lost", 'data: {"recovered": false}']
    [cursor] = [line.removeprefix("id: ") for line in begin if line.startswith("id: ")]
    assert (await back.begin(cursor))["recovered"] is True


async def block(lines: AsyncIterator[str]) -> list[str]:
    """The lines up to the next empty one."""
    taken: list[str] = []
    async for line in lines:
        if not line:
            break
        taken.append(line)
    return taken
