"""The call that this task is working on: its deadline, its user, its trace.

Every server sets it, every outgoing call reads it. Python's gRPC propagates none of the three by itself.
"""

import math
import secrets
import time
from contextvars import ContextVar

import msgspec
from msgspec.structs import replace

from mesh.errors import Unauthenticated

USER_KEY = "x-user-id"
ASSERTION_KEY = "x-user-assertion"
TRACE_KEY = "traceparent"


class Call(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What travels with a call from hop to hop.

    Attributes:
        deadline: when it must be over, on the clock of `time.monotonic`; infinity for none.
        user_id: the end user on whose behalf it runs; empty for the system's own work.
        assertion: the edge's signed word for `user_id` (assertion.py), as it came.
        traceparent: W3C trace context, https://www.w3.org/TR/trace-context/.
    """

    deadline: float = math.inf
    user_id: str = ""
    assertion: str = ""
    traceparent: str = ""


_current: ContextVar[Call] = ContextVar("call", default=Call())  # noqa: B039  # frozen


def current() -> Call:
    """The call this task works on."""
    return _current.get()


def enter(call: Call) -> None:
    """Makes `call` the current one until the task ends."""
    _current.set(call)


class within:  # noqa: N801  # reads as what it does: `with within(call):`
    """Makes `call` the current one for a block."""

    __slots__ = ("_call", "_token")

    def __init__(self, call: Call) -> None:
        self._call = call

    def __enter__(self) -> None:
        self._token = _current.set(self._call)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


def budget(seconds: float) -> within:
    """Gives a block at most `seconds`, and never more than the call has left."""
    call = _current.get()
    return within(replace(call, deadline=min(call.deadline, time.monotonic() + seconds)))


def on_behalf_of(user: str) -> within:
    """Names the end user of a block's calls."""
    return within(replace(_current.get(), user_id=user, assertion=""))


def assertion() -> str:
    """The signed word for the current call's user; empty where there is none."""
    return _current.get().assertion


def time_left() -> float:
    """Seconds until the current call's deadline; infinity without one, below zero when it has passed."""
    return _current.get().deadline - time.monotonic()


def user_id() -> str:
    """The end user of the current call.

    Raises:
        Unauthenticated: nobody was named.
    """
    user = _current.get().user_id
    if not user:
        raise Unauthenticated(
            f"The call names no user; send the metadata {ASSERTION_KEY} ({USER_KEY} where there are no keys)."
        )
    return user


def new_traceparent() -> str:
    """A fresh W3C trace context, not sampled."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"


def trace_id(traceparent: str) -> str:
    """The trace id (32 hex digits) in a trace context; empty where there is none."""
    return traceparent[3:35]
