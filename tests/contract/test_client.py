"""The reference client keeps its promises against a real system, through a hop that can break connections."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from edge.client import Client, Notification, RpcError
from edge.links import Times
from edge.tracking import Backoff
from tests.contract.conftest import Connect, Target
from tests.contract.device import PATIENCE, Device
from tests.contract.hop import Hop

Name = Callable[[str], str]
QUICK = Backoff(first=0.02, most=0.1)


@pytest.fixture
async def hop(target: Target) -> AsyncIterator[Hop]:
    """A hop before the system."""
    async with Hop(target.url) as hop:
        yield hop


@pytest.fixture
async def bob(connect_by: Connect, name: Name) -> Device:
    """Somebody to talk to, on a device that is not under test."""
    return await connect_by("ws", name("bob"))


@pytest.fixture
async def client(hop: Hop, target: Target, name: Name) -> AsyncIterator[Client]:
    """Alice's client, behind the hop."""
    async with Client(hop.url, await target.token(name("alice")), backoff=QUICK) as client:
        yield client


async def next_of(client: Client, method: str) -> Notification:
    """The next notification of this name."""
    async with asyncio.timeout(PATIENCE):
        async for note in client:
            if note.method == method:
                return note
    raise AssertionError("the client is closed")


async def open_chat(client: Client, bob: Device) -> str:
    """A chat of the two."""
    chat_id: str = (await client.call("chats.open", peer_id=bob.user_id))["chat"]["chat_id"]
    return chat_id


async def write(bob: Device, chat_id: str, *texts: str) -> None:
    """Messages of bob's."""
    for text in texts:
        await bob.call("messages.send", chat_id=chat_id, text=text, client_msg_id=text)


async def test_a_conversation(client: Client, bob: Device) -> None:
    """Calls are coroutines with the contract's results, notifications come out of the iterator."""
    assert client.session["user_id"].startswith("alice")
    chat_id = await open_chat(client, bob)
    sent = await client.send(chat_id, "Hello")
    assert (await bob.next("message.new"))["message"]["message_id"] == sent["message_id"]
    await write(bob, chat_id, "Hi")
    texts = [(await next_of(client, "message.new")).params["message"]["text"] for _ in range(2)]
    assert texts == ["Hello", "Hi"]


async def test_errors_are_exceptions(client: Client) -> None:
    """A refused call raises with everything that the error says, at once."""
    with pytest.raises(RpcError, match="limit") as refused:
        await client.call("chats.list", limit=1000)
    assert (refused.value.code, refused.value.reason) == (-32602, "INVALID_ARGUMENT")
    assert not refused.value.retryable
    assert len(refused.value.trace_id) == 32


async def test_a_lost_connection_loses_nothing(client: Client, bob: Device, hop: Hop) -> None:
    """After a cut the client is back by itself; what was missed follows, once."""
    chat_id = await open_chat(client, bob)
    await write(bob, chat_id, "one")
    assert (await next_of(client, "message.new")).params["message"]["text"] == "one"
    await hop.cut()
    await write(bob, chat_id, "two", "three")
    texts = {(await next_of(client, "message.new")).params["message"]["text"] for _ in range(2)}
    assert texts == {"two", "three"}
    assert hop.opened >= 2
    await write(bob, chat_id, "four")
    assert (await next_of(client, "message.new")).params["message"]["text"] == "four"


async def test_an_unanswered_send_is_sent_again(client: Client, bob: Device, hop: Hop) -> None:
    """A send whose answer was lost is made again under the same key: one message, and the caller has it."""
    chat_id = await open_chat(client, bob)
    hop.hears.clear()
    sending = asyncio.create_task(client.send(chat_id, "once", "the key"))
    await bob.next("message.new")
    await hop.cut()
    hop.hears.set()
    sent = await sending
    assert sent["client_msg_id"] == "the key"
    history = await bob.call("messages.history", chat_id=chat_id)
    assert [message["message_id"] for message in history["messages"]] == [sent["message_id"]]


async def test_sends_keep_their_order(client: Client, bob: Device, hop: Hop) -> None:
    """Messages sent at once to a chat stand there in the order of the calls, also through a cut."""
    chat_id = await open_chat(client, bob)
    texts = [str(number) for number in range(10)]
    sending = [asyncio.create_task(client.send(chat_id, text)) for text in texts]
    await bob.next("message.new")
    await hop.cut()
    await asyncio.gather(*sending)
    history = await client.call("messages.history", chat_id=chat_id)
    assert [message["text"] for message in history["messages"]] == texts


async def test_a_throttled_call_waits(client: Client) -> None:
    """A call over the limit comes back when the server says, and its caller sees nothing of it."""
    refused: list[str] = []
    request = client._request

    async def watched(method: str, params: dict[str, Any], deadline: float) -> Any:
        try:
            return await request(method, params, deadline)
        except RpcError as error:
            refused.append(error.reason)
            raise

    client._request = watched  # type: ignore[method-assign]
    await asyncio.gather(*(client.call("messages.search", query="x", limit=1) for _ in range(60)))
    assert "THROTTLED" in refused


async def test_a_token_that_ends(target: Target, hop: Hop, name: Name) -> None:
    """Before its token ends the client gets another by its hook, and the session goes on."""
    user = name("alice")
    got = asyncio.Event()

    async def refresh() -> str:
        got.set()
        return await target.token(user)

    async with Client(hop.url, await target.token(user, 2), refresh=refresh, backoff=QUICK) as client:
        await asyncio.wait_for(got.wait(), PATIENCE)
        assert (await client.call("session.connect"))["user_id"] == user
    assert hop.opened == 1


@pytest.mark.parametrize(("ttl", "hook"), [(-60, False), (-60, True), (3600, False)])
async def test_a_session_that_is_refused(target: Target, hop: Hop, name: Name, ttl: int, hook: bool) -> None:
    """A token that is over or forged ends the client for good, unless its hook has a good one."""
    user = name("alice")
    token = await target.token(user, ttl) + ("" if ttl < 0 else "forged")
    refresh: Callable[[], Awaitable[str]] | None = (lambda: target.token(user)) if hook else None
    client = Client(hop.url, token, refresh=refresh, backoff=QUICK)
    if hook:
        async with client:
            assert client.session["user_id"] == user
        return
    with pytest.raises(RpcError) as refused:
        await client.__aenter__()
    assert refused.value.code == -32016
    assert hop.opened == 1
    with pytest.raises(RpcError):
        await client.call("session.ping")


async def test_it_takes_up_where_an_earlier_one_stopped(
    target: Target, client: Client, bob: Device, hop: Hop
) -> None:
    """A new client with the last_event_id of an earlier one gets what came since."""
    chat_id = await open_chat(client, bob)
    await write(bob, chat_id, "before")
    await next_of(client, "message.new")
    cursor = client.last_event_id
    await write(bob, chat_id, "after")
    token = await target.token(client.session["user_id"])
    async with Client(hop.url, token, last_event_id=cursor) as later:
        assert (await next_of(later, "message.new")).params["message"]["text"] == "after"


class Lossy(Client):
    """Never gets the push of a message that says "two"."""

    lost = False

    def _receive(self, message: dict[str, Any]) -> None:
        if message.get("params", {}).get("message", {}).get("text") == "two":
            self.lost = True
        else:
            super()._receive(message)


async def test_a_hole_is_filled(target: Target, bob: Device, name: Name) -> None:
    """A message that was never pushed is fetched: the chat's seq shows that it is missing."""
    async with Lossy(target.url, await target.token(name("alice"))) as client:
        chat_id = await open_chat(client, bob)
        await write(bob, chat_id, "one")
        await next_of(client, "message.new")
        await write(bob, chat_id, "two", "three")
        notes = [(await next_of(client, "message.new")).params for _ in range(2)]
    assert client.lost
    assert {note["message"]["text"]: "event_id" in note for note in notes} == {"two": False, "three": True}


async def test_a_closed_client(target: Target, hop: Hop, name: Name) -> None:
    """After closing, calls fail, the iterator ends, and no task is left behind."""
    before = asyncio.all_tasks()
    async with Client(hop.url, await target.token(name("alice"))) as client:
        pass
    with pytest.raises(RpcError, match="closed"):
        await client.call("session.ping")
    assert [note.method async for note in client][-1] == "state"
    assert client.state["name"] == "closed"
    assert not [task for task in asyncio.all_tasks() - before if "Client" in repr(task.get_coro())]


async def test_without_websockets(target: Target, bob: Device, hop: Hop, name: Name) -> None:
    """Where no WebSocket gets through, all goes by HTTP; when one does again, nothing is missed or double."""
    hop.takes_sockets = False
    times = Times(poll=0.5, wait=1.0)
    texts: list[str] = []
    async with Client(hop.url, await target.token(name("alice")), backoff=QUICK, times=times) as client:
        assert (client.user_id, client.state["transport"]) == (name("alice"), "http")
        chat_id = await open_chat(client, bob)
        assert (await client.send(chat_id, "Hello"))["text"] == "Hello"
        assert (await bob.next("message.new"))["message"]["text"] == "Hello"
        await write(bob, chat_id, "one")
        async with asyncio.timeout(PATIENCE):
            async for note in client:
                if note.method == "message.new":
                    texts.append(note.params["message"]["text"])
                    hop.takes_sockets = True
                if note.params.get("transport") == "websocket":
                    await write(bob, chat_id, "two")
                if "two" in texts:
                    break
    assert texts == ["Hello", "one", "two"]


async def test_a_token_that_is_over_on_http(target: Target, hop: Hop, name: Name) -> None:
    """On HTTP a token that is not accepted ends the client for good, too, unless its hook has a good one."""
    hop.takes_sockets = False
    token = await target.token(name("alice"), -60)
    with pytest.raises(RpcError) as refused:
        await Client(hop.url, token, backoff=QUICK).__aenter__()
    assert refused.value.code == -32016
    async with Client(hop.url, token, refresh=lambda: target.token(name("alice")), backoff=QUICK) as client:
        await client.call("session.ping")
