"""The parsers at the door against hostile, broken and nearly good input. What must hold is in targets.py.

`make fuzz MINUTES=30` goes on for longer, with other input each time. What is found is kept in .hypothesis/
and tried again first by the next run, also by `make test`; put it under `@example` to keep it for everybody.
"""

import json
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzz import targets
from tests.fuzz.targets import METHODS

# More than the default, unless a profile wants even more.
examples = settings(max_examples=max(500, settings().max_examples), deadline=None)

NASTY: st.SearchStrategy[Any] = st.sampled_from(
    [
        None, True, 0, -1, 1.5, 1e308, 2**31, 2**53 + 1, 2**64, -(2**63), "", "\x00", "\ud800", "ı", "ﬀ",
        "9" * 400, "1e999", "NaN", "-0", [], {}, [[]], {"": None}, "2026-01-01T00:00:00Z",
        "6ac69bbc-b4ff-51e2-aeec-1973f2467ffb", "../../etc/passwd", "{{7*7}}", "' || 1 == 1 || '",
        {"$gt": ""},
    ]
)  # fmt: skip
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    NASTY | st.text() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=12,
)


def params_of(kind: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Params for a message's descriptor: the right names, and mostly, but not always, values that fit."""
    fields = {field.name: value_of(field) | NASTY for field in kind.fields}
    return st.fixed_dictionaries({}, optional={**fields, "nonsense": NASTY})


def value_of(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """A JSON value for a field."""
    values: st.SearchStrategy[Any]
    if field.message_type is not None:
        values = st.deferred(lambda: params_of(field.message_type))
    elif field.cpp_type in {FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_ENUM}:
        values = st.text(max_size=70) | st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        values = st.booleans()
    else:
        values = st.integers(0, 200)
    return st.lists(values, max_size=4) if field.is_repeated else values


def encoded(value: Any) -> bytes:
    """JSON as another program might write it: lone surrogates escaped, non-ASCII as it is."""
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


@st.composite
def calls(draw: st.DrawFn) -> dict[str, Any]:
    """Request objects, some with too much, too little or wrong members."""
    method = draw(st.sampled_from(list(METHODS.values())))
    call: dict[str, Any] = {
        "jsonrpc": "2.0", "method": method.name, "id": draw(NASTY),
        "params": draw(params_of(method.request.DESCRIPTOR) | ANYTHING),
    }  # fmt: skip
    spoilt = draw(st.dictionaries(st.sampled_from([*call, "extra"]), NASTY, max_size=2))
    dropped = draw(st.sets(st.sampled_from(list(call)), max_size=1))
    return {name: value for name, value in (call | spoilt).items() if name not in dropped}


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Frames that were good, or nearly, until somebody cut, doubled or overwrote a piece."""
    text = encoded(draw(calls() | st.lists(calls() | ANYTHING, max_size=4)))
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 12)))
    middle = draw(st.binary(max_size=8) | st.just(text[start:end] * 2))
    return text[:start] + middle + text[end:]


@examples
@given(st.binary(max_size=300) | ANYTHING.map(encoded) | calls().map(encoded) | damaged())
@example(b'{"jsonrpc":"2.0","id":"\\ud800","method":"\\ud800"}')
@example(b"[" * 60_000)
@example(b'{"jsonrpc":"2.0","id":' + b"9" * 60_000 + b',"method":"x"}')
@example(b'{"a":' * 10_000 + b"1" + b"}" * 10_000)
def test_frames(text: bytes) -> None:
    """No frame breaks the edge, and each gets an answer that is JSON-RPC."""
    targets.frame(text)


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=max(100, settings().max_examples), deadline=None)
@given(data=st.data())
def test_params(name: str, data: st.DataObject) -> None:
    """Params of every method are refused by name or mean what protobuf's own JSON reader takes them for."""
    method = METHODS[name]
    strategy = params_of(method.request.DESCRIPTOR) | ANYTHING
    targets.params(method, data.draw(strategy.map(encoded) | st.binary(max_size=60)))


EVENT_IDS = st.from_regex(r"[0-9]{1,20}-[0-9]{1,18}-[0-9]{1,18}(\.[A-Za-z0-9.-]{0,140})?") | st.text()


@examples
@given(EVENT_IDS)
@example("١-٢-٣")
@example("1-1-1\n")
@example("1-1-1." + "x" * 129)
def test_event_ids(text: str) -> None:
    """No cursor breaks the edge."""
    targets.event_id(text)


@examples
@given(st.binary(max_size=100) | st.tuples(EVENT_IDS, st.binary()).map(lambda p: p[0].encode() + b" " + p[1]))
def test_pushes(data: bytes) -> None:
    """Nothing that Redis hands over breaks the edge."""
    targets.push(data)
