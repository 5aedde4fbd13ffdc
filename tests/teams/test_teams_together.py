"""The examples of this folder, as guests of a real stack: what docs/for-teams.md says comes true."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import aio_pika
import grpc
import httpx
import pytest
from aio_pika.exceptions import ChannelNotFoundEntity

from messenger.dbapi.v1 import dbapi_pb2, dbapi_pb2_grpc
from messenger.events.v1.queue_pb2 import MessageAccepted
from tests.contract.device import Device
from tests.contract.meta_schema import violations
from tests.teams import crm, identity, push
from tests.teams.conftest import PATIENCE_S, Teams

ITEM = "red-bike"


async def opened(alice: Device, bob: Device, item_id: str = ITEM) -> str:
    """The chat of the two about an item."""
    return str((await alice.call("chats.open", peer_id=bob.user_id, item_id=item_id))["chat"]["chat_id"])


async def says(who: Device, chat_id: str, text: str) -> None:
    """Sends a message."""
    await who.call("messages.send", chat_id=chat_id, text=text, client_msg_id=text[:64])


# ── a team's method on the WebSocket ────────────────────────────────────────────────────────────────────────


async def test_a_teams_method_on_the_websocket(people: list[Device]) -> None:
    """A client calls it like any other; it goes on to dbapi and aggregator in the user's name."""
    alice, bob = people
    made = await alice.call("offers.make", chat_id=await opened(alice, bob), price=1250)
    assert made["item_id"] == ITEM
    assert made["message"]["sender_id"] == alice.user_id
    heard = await bob.next("message.new", lambda params: params["message"]["text"] == "I offer 12.50.")
    assert heard["message"]["message_id"] == made["message"]["message_id"]


async def test_a_repeated_call_is_the_same_message(people: list[Device]) -> None:
    """The request id that a client gives reaches the service."""
    alice, bob = people
    params = {"chat_id": await opened(alice, bob), "price": 1, "request_id": uuid.uuid4().hex}
    assert await alice.call("offers.make", **params) == await alice.call("offers.make", **params)


async def test_its_errors_are_the_contracts(people: list[Device]) -> None:
    """Limits of its proto are held by the edge; what it and the services behind it refuse comes through."""
    alice, bob = people
    bad = await alice.error("offers.make", chat_id=await opened(alice, bob), price=0)
    assert bad.code == -32602
    assert "price" in bad.message
    foreign = await alice.error("offers.make", chat_id=str(uuid.uuid4()), price=1)
    assert foreign.code == -32005
    about_nothing = await alice.error("offers.make", chat_id=await opened(alice, bob, ""), price=1)
    assert (about_nothing.code, about_nothing.data["reason"]) == (-32009, "NO_ITEM")
    assert about_nothing.message == "The chat is about nothing that one could buy."


async def test_it_is_in_the_openrpc_document(teams: Teams) -> None:
    """/openrpc.json has it with its comment, its limits and its cost, and is still valid."""
    async with httpx.AsyncClient(base_url=teams.stack.settings.messenger_url, trust_env=False) as http:
        document = (await http.get("/openrpc.json")).json()
    assert violations(document) == []
    [method] = [one for one in document["methods"] if one["name"] == "offers.make"]
    assert method["summary"].startswith("Offers a price for the item")
    price = next(param for param in method["params"] if param["name"] == "price")
    assert price["schema"] == {"type": "integer", "minimum": 1, "maximum": 100_000_000}
    assert (method["x-cost"], method["x-deadline-ms"]) == (5, 3000)


async def test_it_is_limited_like_any_other(people: list[Device]) -> None:
    """Its cost in tokens counts: a bucket of 20 is empty after four calls at 5."""
    alice, bob = people
    chat_id = await opened(alice, bob)
    for price in range(1, 5):
        await alice.call("offers.make", chat_id=chat_id, price=price)
    throttled = await alice.error("offers.make", chat_id=chat_id, price=5)
    assert (throttled.code, throttled.data["reason"]) == (-32008, "THROTTLED")


async def test_a_service_that_is_down(teams: Teams, people: list[Device]) -> None:
    """Its method answers -32014, others work, and it is called again as soon as it is back."""
    alice, bob = people

    async def code() -> int:
        """What a stranger hears who makes an offer in a chat that there is not; each has tokens."""
        headers = {"Authorization": f"Bearer {teams.token(uuid.uuid4().hex)}"}
        call = {"jsonrpc": "2.0", "id": 1, "method": "offers.make"}
        call["params"] = {"chat_id": str(uuid.uuid4()), "price": 1}
        async with httpx.AsyncClient(base_url=teams.stack.settings.messenger_url, trust_env=False) as http:
            return int((await http.post("/rpc", json=call, headers=headers)).json()["error"]["code"])

    assert await code() == -32005
    await asyncio.to_thread(teams.deals.stop)
    try:
        assert await code() == -32014
        await opened(alice, bob)
    finally:
        teams.deals.start()
        await asyncio.to_thread(teams.deals.await_ready)
    async with asyncio.timeout(PATIENCE_S):
        while await code() != -32005:  # noqa: ASYNC110  # the edge connects again in its own time
            await asyncio.sleep(0.1)


# ── calls by gRPC ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def dial(teams: Teams) -> Any:
    """Channels of a guest: `dial("crm", "dbapi")`."""  # that is no signature
    channels = []

    def connect(guest: str, service: str) -> grpc.Channel:
        addresses = teams.stack.env() | {"DEALS_ADDRESS": teams.deals.address}
        credentials = identity.channel_credentials(teams.stack.guest(guest))
        channels.append(identity.channel(addresses[f"{service.upper()}_ADDRESS"], service, credentials))
        return channels[-1]

    yield connect
    for channel in channels:
        channel.close()


async def test_a_guest_asks_dbapi_and_aggregator(teams: Teams, people: list[Device], dial: Any) -> None:
    """By its certificate, its place on the lists and the assertion a program reads what is the user's."""
    alice, bob = people
    chat_id = await opened(alice, bob)
    await says(alice, chat_id, "Is it still there?")
    await bob.next("message.new")
    assertion = teams.assertion(bob.user_id)
    dbapi, aggregator = dial("crm", "dbapi"), dial("crm", "aggregator")
    assert await asyncio.to_thread(crm.chats_of, dbapi, bob.user_id, assertion) == [chat_id]
    assert await asyncio.to_thread(crm.unread_of, aggregator, assertion) == {"Alice of the staff": 1}


async def test_what_a_guest_may_not(teams: Teams, people: list[Device], dial: Any) -> None:
    """Another user's mailbox, a method that the lists do not open, and a team's method past the edge."""
    alice, bob = people

    async def refusal(call: Callable[..., object], *arguments: object) -> str:
        with pytest.raises(grpc.RpcError) as refused:
            await asyncio.to_thread(call, *arguments)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        return crm.reason_of(refused.value)

    dbapi, mine = dial("crm", "dbapi"), teams.assertion(alice.user_id)
    assert await refusal(crm.chats_of, dbapi, bob.user_id, mine) == "USER_NOT_PROVEN"
    stub = dbapi_pb2_grpc.MailboxServiceStub(dbapi)
    request = dbapi_pb2.GetChatRequest(owner_id=alice.user_id, chat_id=str(uuid.uuid4()))
    assert await refusal(stub.GetChat, request, PATIENCE_S) == "CALLER_NOT_ALLOWED"
    make = dial("crm", "deals").unary_unary("/shop.deals.v1.DealsService/MakeOffer")
    assert await refusal(make, b"", PATIENCE_S) == "CALLER_NOT_ALLOWED"


# ── what teams put in the place of ours, or beside it ───────────────────────────────────────────────────────


async def test_names_come_from_the_teams_directories(people: list[Device]) -> None:
    """People and things are called what the team's services call them, and nothing is missing."""
    alice, bob = people
    await opened(alice, bob)
    answer = await alice.call("chats.list")
    [chat] = answer["chats"]
    assert chat["peer"]["name"] == "Bob of the staff"
    assert chat["peer"]["avatar_url"] == f"https://staff.example/{bob.user_id}.png"
    assert chat["item"] == {"item_id": ITEM, "title": "A red bicycle", "url": f"https://shop.example/{ITEM}"}
    assert answer["degraded"] == []


async def test_the_teams_checker_is_asked(people: list[Device]) -> None:
    """What it rejects never arrives; what comes after does."""
    alice, bob = people
    chat_id = await opened(alice, bob)
    for text in ("Please pay in advance.", "Hello!"):
        await says(alice, chat_id, text)
    assert (await bob.next("message.new"))["message"]["text"] == "Hello!"
    history = await bob.call("messages.history", chat_id=chat_id)
    assert [message["text"] for message in history["messages"]] == ["Hello!"]


async def test_a_queue_of_the_teams_own(teams: Teams, people: list[Device]) -> None:
    """It hears each message that its receiver may read, at least once, and none that was rejected."""
    alice, bob = people
    heard: asyncio.Queue[MessageAccepted] = asyncio.Queue()
    url = teams.stack.env()["AMQP_URL"]
    consuming = asyncio.create_task(push.consume(url, heard.put, prefix=teams.prefix))
    try:
        await bound(url, f"{teams.prefix}push")
        chat_id = await opened(alice, bob)
        for text in ("Please pay in advance.", "Hello!"):
            await says(alice, chat_id, text)
        async with asyncio.timeout(PATIENCE_S):
            while (accepted := await heard.get()).receiver_id != bob.user_id:
                pass  # of another test, on its way for the second time
    finally:
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)
    assert accepted.message.text == "Hello!"


async def bound(url: str, queue: str) -> None:
    """Returns when somebody consumes the queue."""
    connection = await aio_pika.connect(url)
    async with connection, asyncio.timeout(PATIENCE_S):
        while True:
            try:
                channel = await connection.channel()
                found = await channel.declare_queue(queue, passive=True)
                if found.declaration_result.consumer_count:
                    return
            except ChannelNotFoundEntity:
                pass
            await asyncio.sleep(0.05)
