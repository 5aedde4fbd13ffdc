"""What travels with a call, in this process."""

import asyncio
import math
import time

import pytest

from mesh import call
from mesh.call import Call
from mesh.errors import Unauthenticated


def test_outside_of_a_call() -> None:
    """Without a call there is no deadline and no user."""
    assert call.time_left() == math.inf
    with pytest.raises(Unauthenticated, match="x-user-id"):
        call.user_id()


def test_a_budget_only_shortens() -> None:
    """A part's share is never more than what the call has left."""
    with call.within(Call(deadline=time.monotonic() + 1)):
        with call.budget(60):
            assert call.time_left() <= 1
        with call.budget(0.1):
            assert call.time_left() <= 0.1
        assert 0.5 < call.time_left() <= 1
    assert call.time_left() == math.inf


def test_acting_for_a_user_keeps_the_rest() -> None:
    """Naming the user changes neither deadline nor trace, and ends with its block."""
    outer = Call(deadline=5.0, traceparent=call.new_traceparent())
    with call.within(outer):
        with call.on_behalf_of("alice"):
            assert call.user_id() == "alice"
            assert call.current() == Call(deadline=5.0, traceparent=outer.traceparent, user_id="alice")
        assert call.current() is outer


async def test_tasks_have_calls_of_their_own() -> None:
    """What a task enters is its own; a task begins with its parent's call."""

    async def enter(user: str) -> tuple[str, str]:
        before = call.user_id()
        call.enter(Call(user_id=user))
        await asyncio.sleep(0)
        return before, call.user_id()

    with call.within(Call(user_id="parent")):
        assert [*await asyncio.gather(enter("a"), enter("b"))] == [("parent", "a"), ("parent", "b")]
        assert call.user_id() == "parent"


def test_a_trace_context() -> None:
    """A fresh trace context is W3C's, and its trace id can be told."""
    traceparent = call.new_traceparent()
    version, trace_id, span_id, flags = traceparent.split("-")
    assert (version, len(trace_id), len(span_id), flags) == ("00", 32, 16, "00")
    assert call.trace_id(traceparent) == trace_id
    assert call.trace_id("") == ""
    assert call.new_traceparent() != traceparent
