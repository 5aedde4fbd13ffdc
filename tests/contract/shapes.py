"""What the contract's values look like: unknown fields are to be ignored, an absent one means its default."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Rule = Callable[[Any, str], list[str]]
"""`(value, path) -> problems`: each problem names the path and what was expected there."""


def _rule(what: str, holds: Callable[[Any], object]) -> Rule:
    return lambda value, path: [] if holds(value) else [f"{path}: {value!r} is not {what}"]


def _matches(pattern: str) -> Callable[[Any], object]:
    compiled = re.compile(pattern)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value)


TEXT = _rule("a text", lambda value: isinstance(value, str))
SOME_TEXT = _rule("a text that says something", lambda value: isinstance(value, str) and value)
BOOL = _rule("true or false", lambda value: isinstance(value, bool))
NATURAL = _rule("a whole number", lambda value: type(value) is int and value >= 0)
USER_ID = _rule("a user id", _matches(r"[A-Za-z0-9_.-]{1,64}"))
UUID = _rule("a UUID", _matches(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"))
UUID7 = _rule("a UUIDv7", _matches(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"))
TIME = _rule("an RFC 3339 time in UTC", _matches(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"))
REASON = _rule("UPPER_SNAKE", _matches(r"[A-Z][A-Z0-9_]*"))
TRACE_ID = _rule("a W3C trace id", _matches(r"[0-9a-f]{32}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """An object: fields that must be there, and fields that may be."""

    must: Mapping[str, Rule] = field(default_factory=dict)
    may: Mapping[str, Rule] = field(default_factory=dict)

    def __call__(self, value: Any, path: str) -> list[str]:
        """The problems of a value."""
        if not isinstance(value, dict):
            return [f"{path}: {value!r} is not an object"]
        found = [f"{path}.{name}: is missing" for name in self.must if name not in value]
        for name, rule in {**self.must, **self.may}.items():
            if name in value:
                found += rule(value[name], f"{path}.{name}")
        return found


def list_of(rule: Rule) -> Rule:
    """An array whose items all look alike."""

    def check(value: Any, path: str) -> list[str]:
        if not isinstance(value, list):
            return [f"{path}: {value!r} is not an array"]
        return [problem for i, item in enumerate(value) for problem in rule(item, f"{path}[{i}]")]

    return check


MESSAGE = Shape(
    must={
        "message_id": UUID7, "chat_id": UUID, "sender_id": USER_ID, "seq": NATURAL, "text": TEXT,
        "created_at": TIME,
    },
    may={"client_msg_id": SOME_TEXT, "edited_at": TIME, "deleted": BOOL},
)  # fmt: skip
PEER = Shape(must={"user_id": USER_ID}, may={"name": TEXT, "avatar_url": TEXT})
ITEM = Shape(must={"item_id": SOME_TEXT}, may={"title": TEXT, "url": TEXT})
CHAT = Shape(
    must={"chat_id": UUID, "peer": PEER, "updated_at": TIME},
    may={
        "item": ITEM, "last_message": MESSAGE, "unread": NATURAL, "seq": NATURAL, "read_up_to": UUID7,
        "peer_read_up_to": UUID7, "peer_delivered_up_to": UUID7, "blocked": BOOL,
    },
)  # fmt: skip
PRESENCE = Shape(must={"user_id": USER_ID}, may={"online": BOOL, "last_seen": TIME})
DEGRADED = list_of(SOME_TEXT)
ERROR_DATA = Shape(
    must={"reason": REASON, "retryable": BOOL, "trace_id": TRACE_ID}, may={"retry_after_ms": NATURAL}
)
ERROR = Shape(
    must={"code": _rule("a code", lambda value: type(value) is int), "message": SOME_TEXT, "data": ERROR_DATA}
)


def assert_shape(value: Any, rule: Rule, name: str) -> None:
    """Fails with every problem of the value."""
    problems = rule(value, name)
    assert not problems, "\n".join(problems)
