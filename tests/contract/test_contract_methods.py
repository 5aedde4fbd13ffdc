"""Every method of the contract, row by row, over both transports."""

import json
from typing import Any

import pytest

from tests.contract.conftest import Scene
from tests.contract.device import Device
from tests.contract.shapes import ERROR, assert_shape
from tests.contract.table import METHODS, Method

each_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)


async def talk(scene: Scene) -> tuple[Any, Any]:
    """A message of alice's, and bob's answer."""
    [mine] = await scene.tells(scene.alice, "Hello")
    [last] = await scene.tells(scene.bob, "Not for sale")
    return mine, last


@each_method
async def test_answers_in_the_promised_shape(scene: Scene, method: Method) -> None:
    """A good call is answered with every promised field, each of its kind."""
    mine, last = await talk(scene)
    result = await scene.alice.call(method.name, **method.params(scene, mine, last))
    assert_shape(result, method.result, method.name)


@each_method
async def test_refuses_what_is_not_in_the_contract(scene: Scene, method: Method) -> None:
    """Unknown, missing and bad params are each refused with -32602 and a text that names the param."""
    mine, last = await talk(scene)
    good = method.params(scene, mine, last)
    cases = [("no_such_param", {**good, "no_such_param": 1})]
    cases += [(name, {key: good[key] for key in good if key != name}) for name in method.required]
    cases += [(name, {**good, name: value}) for name, values in method.bad.items() for value in values]
    calls = [
        {"jsonrpc": "2.0", "id": number, "method": method.name, "params": params}
        for number, (_, params) in enumerate(cases)
    ]
    answers = sorted(await scene.alice.exchange(json.dumps(calls)), key=lambda answer: answer["id"])
    for (name, params), answer in zip(cases, answers, strict=True):
        assert "error" in answer, f"went well: {str(params)[:200]}"
        assert_shape(answer["error"], ERROR, "error")
        assert answer["error"]["code"] == -32602, (params, answer)
        assert name in answer["error"]["message"], (params, answer)
    assert [message["text"] for message in await scene.history(scene.alice)] == ["Hello", last["text"]]


@pytest.mark.parametrize("method", [one for one in METHODS if one.good], ids=lambda method: method.name)
async def test_takes_what_is_within_the_bounds(scene: Scene, method: Method) -> None:
    """The least and the most that a param may be are good."""
    mine, last = await talk(scene)
    params = method.params(scene, mine, last)
    for name, values in method.good.items():
        for number, value in enumerate(values):
            fresh = {"client_msg_id": f"{name} {number}"} if "client_msg_id" in params else {}
            result = await scene.alice.call(method.name, **{**params, **fresh, name: value})
            assert_shape(result, method.result, method.name)


@each_method
async def test_a_notification_is_never_answered(scene: Scene, method: Method) -> None:
    """A call without an id is carried out or refused in silence, also with bad params."""
    mine, last = await talk(scene)
    for params in (method.params(scene, mine, last), {"no_such_param": 1}):
        batch = [
            {"jsonrpc": "2.0", "method": method.name, "params": params},
            {"jsonrpc": "2.0", "id": "after", "method": "session.ping"},
        ]
        [answer] = await scene.alice.exchange(json.dumps(batch))
        assert answer["id"] == "after"


async def test_the_document_describes_every_method(alone: Device) -> None:
    """rpc.discover knows each method of the contract with its params."""
    document = await alone.call("rpc.discover")
    described = {one["name"]: {param["name"] for param in one["params"]} for one in document["methods"]}
    for method in METHODS:
        assert {*method.required, *method.bad} <= described[method.name], method.name


async def test_an_unknown_method_is_refused(alone: Device) -> None:
    """A method that is not there is -32601, before the params are looked at."""
    error = await alone.error("chats.explode", no_such_param=1)
    assert error.code == -32601
    assert_shape(error.error, ERROR, "error")
