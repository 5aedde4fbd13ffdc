"""How calls are carried out, with methods of the test's own: limits, order, deadlines, fallbacks."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec
import pytest
from google.protobuf.message import Message

from edge import table
from edge.admission import Admission
from edge.calls import Calls
from edge.lanes import Lanes
from edge.table import Method
from mesh.channel import Channel
from mesh.errors import ResourceExhausted, Unavailable
from messenger.aggregator.v1 import aggregator_pb2

CHAT = "0190c3a5-7b1e-7c3a-9d5e-2f4b6a8c0d1e"
OTHER_CHAT = "0190c3a5-7b1e-7c3a-9d5e-2f4b6a8c0d1f"

Behavior = Callable[[Any], Awaitable[Message]]


class HandChannel:
    """A channel whose one behaviour the test gives."""

    def __init__(self, behavior: Behavior) -> None:
        self._behavior = behavior

    def unary_unary(self, *_: object, **__: object) -> Behavior:
        return self._behavior


class OpenDoor:
    """An admission that lets everybody in, but for the methods that it refuses."""

    def __init__(self) -> None:
        self.under_way = 0
        self.refuses: set[str] = set()

    def shed(self, method: Method) -> ResourceExhausted | None:
        if method.name not in self.refuses:
            return None
        return ResourceExhausted("no", reason="SHED", retry_after_ms=5)

    def begin(self, _user_id: str, _method: Method) -> None:
        self.under_way += 1

    def end(self, _user_id: str, _method: Method) -> None:
        self.under_way -= 1

    def answered(self, _seconds: float) -> None:
        return None

    async def pay(self, _user_id: str, _method: str, _cost: float) -> None:
        return None


class Ann:
    """A caller."""

    user_id = "ann"

    def __init__(self) -> None:
        self.lanes = Lanes()


class World:
    """Calls with a behaviour behind them."""

    def __init__(self, behavior: Behavior, **fallbacks: Any) -> None:
        self.door = OpenDoor()
        self.caller = Ann()
        methods = table.methods([table.MESSENGER])
        service = methods["messages.send"].service
        self.calls = Calls(
            methods,
            channels={service: cast(Channel, HandChannel(behavior))},
            local={},
            fallbacks={name.replace("_", "."): fallback for name, fallback in fallbacks.items()},
            admission=cast(Admission, self.door),
        )

    async def call(self, method: str, **params: object) -> dict[str, Any]:
        text = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        answer = await self.calls.answer(self.calls.take(text), cast(Any, self.caller))
        return cast(dict[str, Any], msgspec.json.decode(answer.text))


def send(chat_id: str = CHAT, text: str = "hi") -> dict[str, str]:
    """Params of messages.send."""
    return {"chat_id": chat_id, "text": text, "client_msg_id": text}


async def test_one_chat_s_calls_keep_their_order() -> None:
    """Calls of one chat run one after the other in the order of arrival; another chat's does not wait."""
    begun: list[str] = []
    gate = asyncio.Event()

    async def slow(request: aggregator_pb2.SendMessageRequest) -> Message:
        begun.append(request.text)
        if request.text == "first":
            await gate.wait()
        return aggregator_pb2.SendMessageResponse()

    world = World(slow)
    params = [send(text="first"), send(text="second"), send(OTHER_CHAT, "elsewhere")]
    *tasks, elsewhere = [asyncio.ensure_future(world.call("messages.send", **one)) for one in params]
    await elsewhere
    assert begun == ["first", "elsewhere"]
    gate.set()
    await asyncio.gather(*tasks)
    assert begun == ["first", "elsewhere", "second"]


async def test_waiting_for_a_turn_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call's deadline also covers its wait for the call before it, and nothing of it is left over."""

    async def never(_request: Message) -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    world = World(never)
    hasty = dataclasses.replace(world.calls._methods["messages.send"], deadline=0.05)
    monkeypatch.setattr(world.calls, "_methods", {"messages.send": hasty})
    answers = await asyncio.gather(*(world.call("messages.send", **send(text=str(n))) for n in range(3)))
    assert [answer["error"]["code"] for answer in answers] == [-32004] * 3
    assert world.door.under_way == 0
    assert not len(world.caller.lanes)


async def test_absent_service_falls_back() -> None:
    """While a method's service is away its fallback answers; without one the error is retryable."""

    async def away(_request: Message) -> Message:
        raise Unavailable("away")

    async def instead(_request: Message, user_id: str) -> Message:
        assert user_id == "ann"
        return aggregator_pb2.ListChatsResponse(degraded=["aggregator"])

    world = World(away, chats_list=instead)
    assert (await world.call("chats.list"))["result"]["degraded"] == ["aggregator"]
    error = (await world.call("messages.send", **send()))["error"]
    assert (error["code"], error["data"]["retryable"]) == (-32014, True)


async def test_refused_call_costs_nothing() -> None:
    """A call that is shed reaches no service, and its error says when to come back."""
    reached = 0

    async def count(_request: Message) -> Message:
        nonlocal reached
        reached += 1
        return aggregator_pb2.ListChatsResponse()

    world = World(count)
    world.door.refuses = {"chats.list"}
    error = (await world.call("chats.list"))["error"]
    assert (error["code"], error["data"]["retry_after_ms"]) == (-32008, 5)
    assert reached == 0


def test_what_needs_no_work_is_answered_at_once() -> None:
    """What is shed or no call is answered without a task, a trace or a look at its params; a call is not."""
    world = World(cast(Behavior, None))
    world.door.refuses = {"chats.list"}

    def answer(text: bytes) -> Any:
        taken = world.calls.take(text).answer
        return None if taken is None else msgspec.json.decode(taken.text or b"0")

    assert answer(b'{"jsonrpc":"2.0","id":7,"method":"chats.list","params":{"no":1}}')["id"] == 7
    assert answer(b'{"jsonrpc":"2.0","method":"chats.list"}') == 0
    assert answer(b"{")["error"]["code"] == -32700
    assert answer(b'[{"jsonrpc":"2.0","id":7,"method":"chats.list"},1]')[1]["error"]["code"] == -32600
    assert answer(b'{"jsonrpc":"2.0","id":7,"method":"chats.get"}') is None
    assert answer(b'{"jsonrpc":"2.0","id":7,"method":"no.such"}') is None


async def test_a_batch_of_which_a_part_is_shed() -> None:
    """Each call of a batch has its own fate, in its own place."""

    async def served(_request: Message) -> Message:
        return aggregator_pb2.GetChatResponse()

    world = World(served)
    world.door.refuses = {"chats.list"}
    text = msgspec.json.encode(
        [
            {"jsonrpc": "2.0", "id": 1, "method": "chats.list"},
            {"jsonrpc": "2.0", "id": 2, "method": "chats.get", "params": {"chat_id": CHAT}},
        ]
    )
    answer = await world.calls.answer(world.calls.take(text), cast(Any, world.caller))
    first, second = msgspec.json.decode(answer.text)
    assert (first["id"], first["error"]["data"]["reason"]) == (1, "SHED")
    assert (second["id"], "result" in second) == (2, True)
    assert [error.reason for error in answer.errors] == ["SHED"]
    assert world.door.under_way == 0


async def test_unexpected_failure_says_nothing_of_the_inside() -> None:
    """An unforeseen exception becomes -32603 with fixed text; what it said stays here."""

    async def broken(_request: Message) -> Message:
        raise RuntimeError("password=hunter2")

    error = (await World(broken).call("chats.list"))["error"]
    assert error["code"] == -32603
    assert "hunter2" not in str(error)


async def test_mutation_gets_a_request_id() -> None:
    """A mutation carries a request id of its own, or the client's where it brought one."""
    seen: list[str] = []

    async def keep(request: aggregator_pb2.OpenChatRequest) -> Message:
        seen.append(request.request_id)
        return aggregator_pb2.OpenChatResponse()

    world = World(keep)
    await world.call("chats.open", peer_id="bob")
    await world.call("chats.open", peer_id="bob")
    await world.call("chats.open", peer_id="bob", request_id="mine")
    first, second, third = seen
    assert first
    assert first != second
    assert third == "mine"
