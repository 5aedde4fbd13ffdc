"""JSON-RPC 2.0 to the letter, over both transports: every example of its specification that applies.

Source: https://www.jsonrpc.org/specification, section 7
"""

import json
from typing import Any

import pytest

from tests.contract.conftest import Scene
from tests.contract.device import Device
from tests.contract.shapes import ERROR, assert_shape

PING = {"jsonrpc": "2.0", "method": "session.ping"}


def failed(answer: Any, code: int, request_id: Any = None) -> None:
    """The answer is this error."""
    assert set(answer) == {"jsonrpc", "error", "id"}
    assert answer["jsonrpc"] == "2.0"
    assert answer["id"] == request_id
    assert answer["error"]["code"] == code, answer
    assert_shape(answer["error"], ERROR, "error")


@pytest.mark.parametrize("request_id", [1, 0, -7, 2**53, 1.5, "1", "", "ä😀", "x" * 200, None])
async def test_an_id_comes_back_as_it_was(alone: Device, request_id: Any) -> None:
    """Ids of each kind come back with value and type; an id of null is answered, too."""
    answer = await alone.exchange(json.dumps({**PING, "id": request_id}))
    assert answer["id"] == request_id
    assert type(answer["id"]) is type(request_id)
    assert set(answer) == {"jsonrpc", "result", "id"}


async def test_params_by_name_and_by_position(scene: Scene) -> None:
    """The same call in both of the specification's styles has the same answer."""
    by_name = {"jsonrpc": "2.0", "method": "chats.get", "params": {"chat_id": scene.chat_id}, "id": 3}
    by_position = {"jsonrpc": "2.0", "method": "chats.get", "params": [scene.chat_id], "id": 3}
    assert await scene.alice.exchange(json.dumps(by_name)) == await scene.alice.exchange(
        json.dumps(by_position)
    )


@pytest.mark.parametrize("params", [{}, [], ...])
async def test_no_params(alone: Device, params: Any) -> None:
    """Params that are empty, by name or by position, or left out, are none."""
    request = {**PING, "id": 1} | ({} if params is ... else {"params": params})
    assert "result" in await alone.exchange(json.dumps(request))


async def test_a_notification(scene: Scene) -> None:
    """Calls without an id are carried out and not answered, alone and as a whole batch."""
    for number, as_batch in enumerate((False, True)):
        call = {
            "jsonrpc": "2.0", "method": "messages.send",
            "params": {"chat_id": scene.chat_id, "text": str(number), "client_msg_id": str(number)},
        }  # fmt: skip
        await silence(scene.alice, [call] if as_batch else call)
        assert (await scene.bob.next("message.new"))["message"]["text"] == str(number)


async def test_a_notification_that_fails(alone: Device) -> None:
    """A notification is not answered where there is no such method or the params are bad, either."""
    await silence(alone, {"jsonrpc": "2.0", "method": "foobar", "params": {}})
    await silence(alone, {"jsonrpc": "2.0", "method": "chats.get", "params": {"chat_id": 1}})
    await silence(alone, [{"jsonrpc": "2.0", "method": "foobar"}] * 3)


async def silence(device: Device, request: Any) -> None:
    """Sends what is not to be answered; the next answer is another call's."""
    if device.__class__.__name__ == "HttpDevice":
        assert await device.exchange(json.dumps(request)) is None
        assert device.response.status_code == 204  # type: ignore[attr-defined]
        return
    await device.socket.send(json.dumps(request))  # type: ignore[attr-defined]
    assert (await device.exchange(json.dumps({**PING, "id": "after"})))["id"] == "after"


async def test_a_call_of_a_method_that_is_not_there(alone: Device) -> None:
    """The specification's foobar."""
    failed(await alone.exchange('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}'), -32601, "1")


@pytest.mark.parametrize(
    "text",
    [
        '{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]',
        '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},{"jsonrpc": "2.0", "method"]',
        "hello", "", " ", "{", "[", "NaN", "1 2",
        "[" * 20_000,
        "[" * 20_000 + "]" * 20_000,
    ],
)  # fmt: skip
async def test_invalid_json(alone: Device, text: str) -> None:
    """What is not JSON is one -32700 under a null id, and the connection survives."""
    failed(await alone.exchange(text), -32700)
    await alone.call("session.ping")


@pytest.mark.parametrize(
    "text",
    [
        '{"jsonrpc": "2.0", "method": 1, "params": "bar"}',
        '{"jsonrpc": "2.0", "method": "session.ping", "params": "bar", "id": 1}',
        '{"jsonrpc": "1.0", "method": "session.ping", "id": 1}',
        '{"method": "session.ping", "id": 1}',
        '{"jsonrpc": "2.0", "id": 1}',
        '{"jsonrpc": "2.0", "method": "session.ping", "id": {}}',
        '{"jsonrpc": "2.0", "method": "session.ping", "id": [1]}',
        '{"jsonrpc": "2.0", "method": "session.ping", "id": true}',
        '{"jsonrpc": "2.0", "result": {}, "id": 1}',
        "{}", "1", "null", "true", '"text"', "[]",
    ],
)  # fmt: skip
async def test_an_invalid_request(alone: Device, text: str) -> None:
    """JSON that is no request object, and an empty batch, is one -32600 under a null id."""
    failed(await alone.exchange(text), -32600)
    await alone.call("session.ping")


@pytest.mark.parametrize("text", ["[1]", "[1,2,3]"])
async def test_an_invalid_batch(alone: Device, text: str) -> None:
    """A batch of what is no request has one error for each, in an array."""
    answers = await alone.exchange(text)
    assert len(answers) == len(json.loads(text))
    for answer in answers:
        failed(answer, -32600)


async def test_a_mixed_batch(alone: Device) -> None:
    """The specification's batch of good and bad parts: one answer for each, but for the notification."""
    batch = [
        {**PING, "id": "1"},
        {"jsonrpc": "2.0", "method": "session.ping"},
        {"jsonrpc": "2.0", "method": "chats.list", "params": {"limit": 5}, "id": "2"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
        {**PING, "id": "9"},
    ]
    answers = await alone.exchange(json.dumps(batch))
    assert isinstance(answers, list)
    by_id = {answer["id"]: answer for answer in answers}
    assert set(by_id) == {"1", "2", None, "5", "9"}
    assert len(answers) == 5
    assert all("result" in by_id[good] for good in ("1", "2", "9"))
    failed(by_id[None], -32600)
    failed(by_id["5"], -32601, "5")


async def test_the_largest_batch(alone: Device) -> None:
    """A batch of 50 is carried out whole; one of 51 is refused as one, and nothing of it happens."""
    calls = [{**PING, "id": number} for number in range(51)]
    answers = await alone.exchange(json.dumps(calls[:50]))
    assert sorted(answer["id"] for answer in answers) == list(range(50))
    assert all("result" in answer for answer in answers)
    failed(await alone.exchange(json.dumps(calls)), -32600)


async def test_a_batch_that_is_too_large_stores_nothing(scene: Scene) -> None:
    """None of 51 sends in one batch is stored."""
    batch = [
        {
            "jsonrpc": "2.0", "id": number, "method": "messages.send",
            "params": {"chat_id": scene.chat_id, "text": "x", "client_msg_id": str(number)},
        }
        for number in range(51)
    ]  # fmt: skip
    failed(await scene.alice.exchange(json.dumps(batch)), -32600)
    assert await scene.history(scene.alice) == []


async def test_sends_of_one_batch_keep_their_order(scene: Scene) -> None:
    """Messages that one batch sends to a chat stand there in the order of the batch."""
    texts = [str(number) for number in range(20)]
    batch = [
        {
            "jsonrpc": "2.0", "id": text, "method": "messages.send",
            "params": {"chat_id": scene.chat_id, "text": text, "client_msg_id": text},
        }
        for text in texts
    ]  # fmt: skip
    answers = await scene.alice.exchange(json.dumps(batch))
    assert all("result" in answer for answer in answers)
    assert [message["text"] for message in await scene.history(scene.alice)] == texts
