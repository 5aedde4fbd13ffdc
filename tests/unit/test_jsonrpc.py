"""JSON-RPC 2.0 as the specification has it: reading anything, writing answers."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.jsonrpc import (
    INVALID_REQUEST,
    MAX_BATCH,
    PARSE_ERROR,
    Call,
    Malformed,
    error,
    join,
    notification,
    parse,
    result,
)

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
request_ids = st.none() | st.text() | st.integers(-(2**53), 2**53) | st.floats(-1e300, 1e300)


def one(text: bytes) -> Call | Malformed:
    """The only part of a text that is no batch."""
    parsed = parse(text)
    assert not parsed.is_batch
    [part] = parsed.parts
    return part


@given(st.binary())
def test_any_bytes_are_read(text: bytes) -> None:
    """Whatever arrives, parse answers; what is not JSON is one parse error, never a call or a batch."""
    parsed = parse(text)
    try:
        json.loads(text.decode(), parse_constant=int)
    except (ValueError, RecursionError):
        assert not parsed.is_batch
        assert [part.code for part in parsed.parts if isinstance(part, Malformed)] == [PARSE_ERROR]


@given(json_values)
def test_any_json_is_read(value: Any) -> None:
    """Valid JSON that is no request is an invalid request, item by item in a batch."""
    parsed = parse(json.dumps(value).encode())
    assert parsed.is_batch == (isinstance(value, list) and 0 < len(value) <= MAX_BATCH)
    for part in parsed.parts:
        assert isinstance(part, Malformed)
        assert part.code == INVALID_REQUEST


@given(st.text(), request_ids, st.none() | st.lists(json_values) | st.dictionaries(st.text(), json_values))
def test_a_request_is_read_as_it_was_written(method: str, request_id: Any, params: Any) -> None:
    """Method, id and params come out as they went in; the id comes back in the answer."""
    request = {"jsonrpc": "2.0", "method": method, "id": request_id}
    request |= {} if params is None else {"params": params}
    call = one(json.dumps(request).encode())
    assert isinstance(call, Call)
    assert (call.method, call.request_id, call.wants_response) == (method, request_id, True)
    assert (json.loads(call.params) if call.params else None) == params
    assert json.loads(result(call.request_id, {"x": 1})) == {
        "jsonrpc": "2.0", "result": {"x": 1}, "id": request_id,
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        b"", b" ", b"{", b"[", b'"', b"\xff", b"\xef\xbb\xbf{}", b"{'a': 1}", b"[1,]", b"NaN",
        b'{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]',
        b'[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},{"jsonrpc": "2.0", "method"]',
        b'{"jsonrpc": "2.0", "method": "x", "id": 1, "params": {"a": "\xff"}}',
        b'[{"jsonrpc": "2.0", "method": "x", "id": 1, "params": {"a": "\xff"}}]',
        b'{"jsonrpc": "2.0", "method": "x", "id": 1} {}', b"1 2", b'{"jsonrpc": 2, "method"',
        b"[" * 30_000 + b"]" * 30_000,
        b'[{"jsonrpc": "2.0", "method": "x", "id": 1, "params": ' + b"[" * 30_000 + b"]" * 30_000 + b"}]",
    ],
)  # fmt: skip
def test_what_is_not_json_is_one_parse_error(text: bytes) -> None:
    """Broken, badly encoded and bottomless texts are answered by a single parse error, also as a batch."""
    part = one(text)
    assert isinstance(part, Malformed)
    assert (part.code, part.reason) == (PARSE_ERROR, "PARSE_ERROR")


@pytest.mark.parametrize(
    "request_object",
    [
        1, "x", None, True, {}, {"foo": "boo"},
        {"jsonrpc": "2.0", "method": 1, "params": "bar"},
        {"jsonrpc": "1.0", "method": "x", "id": 1},
        {"jsonrpc": 2.0, "method": "x", "id": 1},
        {"method": "x", "id": 1},
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "method": "x", "id": {}},
        {"jsonrpc": "2.0", "method": "x", "id": [1]},
        {"jsonrpc": "2.0", "method": "x", "id": True},
        {"jsonrpc": "2.0", "method": "x", "id": 1, "params": 5},
        {"jsonrpc": "2.0", "method": "x", "id": 1, "params": "x"},
        {"jsonrpc": "2.0", "method": "x", "id": 1, "params": None},
    ],
)  # fmt: skip
def test_what_is_no_request_is_an_invalid_request(request_object: Any) -> None:
    """Each way of missing the specification's request object is told from broken JSON."""
    part = one(json.dumps(request_object).encode())
    assert isinstance(part, Malformed)
    assert (part.code, part.reason) == (INVALID_REQUEST, "INVALID_REQUEST")


def test_a_request_without_id_is_a_notification() -> None:
    """No id: no answer. An id of null: an answer under null."""
    assert one(b'{"jsonrpc": "2.0", "method": "x"}') == Call(method="x", wants_response=False)
    assert one(b'{"jsonrpc": "2.0", "method": "x", "id": null}') == Call(method="x")


def test_members_that_the_specification_does_not_know_are_let_through() -> None:
    """A request may carry more than the specification names."""
    assert one(b'{"jsonrpc": "2.0", "method": "x", "id": 1, "z": {}}') == Call(method="x", request_id=1)


@pytest.mark.parametrize(
    ("size", "is_batch"), [(0, False), (1, True), (MAX_BATCH, True), (MAX_BATCH + 1, False)]
)
def test_a_batch_has_bounds(size: int, is_batch: bool) -> None:
    """A batch of 1 to 50 is answered by an array; an empty or larger one by a single invalid request."""
    calls = [{"jsonrpc": "2.0", "method": "x", "id": n} for n in range(size)]
    parsed = parse(json.dumps(calls).encode())
    assert parsed.is_batch == is_batch
    if is_batch:
        assert [part.request_id for part in parsed.parts if isinstance(part, Call)] == list(range(size))
    else:
        assert [part.code for part in parsed.parts if isinstance(part, Malformed)] == [INVALID_REQUEST]


def test_one_bad_part_of_a_batch_is_its_own() -> None:
    """The specification's mixed batch: good and bad parts keep their places."""
    parsed = parse(b'[1, {"jsonrpc": "2.0", "method": "x", "id": "5"}, {"foo": "boo"}]')
    assert [type(part) for part in parsed.parts] == [Malformed, Call, Malformed]


def test_answers_are_written_as_the_specification_has_them() -> None:
    """An answer has a result or an error, the id and the version; nothing is written for silence."""
    failed = json.loads(error(None, -32700, "Parse error", {"reason": "PARSE_ERROR"}))
    assert failed == {
        "jsonrpc": "2.0", "id": None,
        "error": {"code": -32700, "message": "Parse error", "data": {"reason": "PARSE_ERROR"}},
    }  # fmt: skip
    assert json.loads(notification("typing", {"x": 1})) == {
        "jsonrpc": "2.0", "method": "typing", "params": {"x": 1},
    }  # fmt: skip
    good = result(1, [])
    assert join([], is_batch=True) == join([], is_batch=False) == b""
    assert json.loads(join([good], is_batch=True)) == [json.loads(good)]
    assert json.loads(join([good], is_batch=False)) == json.loads(good)
