"""The contract's methods as a table: how to call each, what it answers, and what it must refuse."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.contract.conftest import Scene
from tests.contract.shapes import (
    BOOL,
    CHAT,
    DEGRADED,
    MESSAGE,
    PRESENCE,
    SOME_TEXT,
    TEXT,
    TIME,
    USER_ID,
    Rule,
    Shape,
    list_of,
)

Params = dict[str, Any]
NOBODYS = str(uuid.uuid4())


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One row.

    Attributes:
        name: of the method.
        params: good params, all of them, for alice, given a scene, her own message and bob's, which is later.
        result: the shape of the answer.
        required: params that it cannot do without.
        bad: values by param that it must refuse with -32602, naming the param.
        good: values by param that are just within the bounds.
    """

    name: str
    result: Rule
    params: Callable[[Scene, Any, Any], Params] = lambda _scene, _mine, _last: {}
    required: tuple[str, ...] = ()
    bad: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    good: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


NO_UUID = ("", "no-uuid", 7, ["x"], {"x": 1}, True)
NO_TEXT = (7, ["x"], {"x": 1}, True)
NO_USER = ("", "a b", "é", "x" * 65, 7, ["x"])
NO_LIMIT = (0, 101, -1, 1.5, "many", True, [5])
USERS = ("x", "Ab9_.-" + "x" * 58)
LIMITS = (1, 100)

TALKING = (
    Method(
        name="session.connect",
        params=lambda scene, _mine, _last: {"token": scene.token},
        result=Shape(
            must={
                "user_id": USER_ID,
                "session_id": SOME_TEXT,
                "expires_at": TIME,
                "server_time": TIME,
                "last_event_id": SOME_TEXT,
                "recovered": BOOL,
            }
        ),
        bad={"token": NO_TEXT, "last_event_id": ("no such id", 7)},
    ),
    Method(
        name="session.refresh",
        params=lambda scene, _mine, _last: {"token": scene.token},
        result=Shape(must={"expires_at": TIME}),
        required=("token",),
        bad={"token": NO_TEXT},
    ),
    Method(name="session.ping", result=Shape(must={"server_time": TIME})),
    Method(
        name="chats.open",
        params=lambda scene, _mine, _last: {"peer_id": scene.bob.user_id, "item_id": "red-bike"},
        result=Shape(must={"chat": CHAT}, may={"degraded": DEGRADED}),
        required=("peer_id",),
        bad={"peer_id": NO_USER, "item_id": ("a b", 7)},
        good={"peer_id": USERS},
    ),
    Method(
        name="chats.list",
        params=lambda _scene, _mine, _last: {"cursor": "", "limit": 5},
        result=Shape(must={"chats": list_of(CHAT)}, may={"next_cursor": TEXT, "degraded": DEGRADED}),
        bad={"limit": NO_LIMIT, "cursor": (7, "no such cursor", "x" * 300)},
        good={"limit": LIMITS},
    ),
    Method(
        name="chats.get",
        params=lambda scene, _mine, _last: {"chat_id": scene.chat_id},
        result=Shape(must={"chat": CHAT}, may={"degraded": DEGRADED}),
        required=("chat_id",),
        bad={"chat_id": NO_UUID},
    ),
    Method(
        name="chats.mark_read",
        params=lambda scene, _mine, last: {"chat_id": scene.chat_id, "up_to": last["message_id"]},
        result=Shape(must={"chat": CHAT}),
        required=("chat_id", "up_to"),
        bad={"chat_id": NO_UUID, "up_to": NO_UUID},
    ),
    Method(
        name="chats.typing",
        params=lambda scene, _mine, _last: {"chat_id": scene.chat_id},
        result=Shape(),
        required=("chat_id",),
        bad={"chat_id": NO_UUID},
    ),
    Method(
        name="messages.send",
        params=lambda scene, _mine, _last: {
            "chat_id": scene.chat_id,
            "text": "Hello",
            "client_msg_id": "table",
        },
        result=Shape(must={"message": MESSAGE}, may={"duplicate": BOOL}),
        required=("chat_id", "text", "client_msg_id"),
        bad={
            "chat_id": NO_UUID,
            "text": ("", "x" * 4097, "😀" * 4097, *NO_TEXT),
            "client_msg_id": ("", "x" * 65, *NO_TEXT),
        },
        good={"text": ("x", "x" * 4096), "client_msg_id": ("x", "x" * 64)},
    ),
    Method(
        name="messages.history",
        params=lambda scene, _mine, _last: {"chat_id": scene.chat_id, "limit": 10},
        result=Shape(must={"messages": list_of(MESSAGE)}, may={"has_more": BOOL}),
        required=("chat_id",),
        bad={"chat_id": NO_UUID, "before": NO_UUID[1:], "after": NO_UUID[1:], "limit": NO_LIMIT},
        good={"limit": LIMITS},
    ),
    Method(
        name="rpc.discover",
        result=Shape(must={"openrpc": SOME_TEXT, "methods": list_of(Shape(must={"name": SOME_TEXT}))}),
    ),
)

AROUND = (
    Method(
        name="chats.mark_delivered",
        params=lambda scene, _mine, last: {"chat_id": scene.chat_id, "up_to": last["message_id"]},
        result=Shape(),
        required=("chat_id", "up_to"),
        bad={"chat_id": NO_UUID, "up_to": NO_UUID},
    ),
    Method(
        name="messages.edit",
        params=lambda scene, mine, _last: {
            "chat_id": scene.chat_id,
            "message_id": mine["message_id"],
            "text": "Hello again",
        },
        result=Shape(must={"message": MESSAGE}),
        required=("message_id", "chat_id", "text"),
        bad={"message_id": NO_UUID, "chat_id": NO_UUID, "text": ("", "x" * 4097, *NO_TEXT)},
        good={"text": ("x", "x" * 4096)},
    ),
    Method(
        name="messages.delete",
        params=lambda scene, mine, _last: {
            "chat_id": scene.chat_id,
            "message_id": mine["message_id"],
            "for_all": True,
        },
        result=Shape(),
        required=("message_id", "chat_id"),
        bad={"message_id": NO_UUID, "chat_id": NO_UUID, "for_all": ("yes", 1, [True])},
    ),
    Method(
        name="messages.search",
        params=lambda scene, _mine, _last: {
            "query": "sale",
            "chat_id": scene.chat_id,
            "cursor": "",
            "limit": 5,
        },
        result=Shape(must={"messages": list_of(MESSAGE)}, may={"next_cursor": TEXT}),
        required=("query",),
        bad={"query": ("", *NO_TEXT), "chat_id": NO_UUID[1:], "cursor": (7, "no such"), "limit": NO_LIMIT},
        good={"limit": LIMITS},
    ),
    Method(
        name="users.block",
        params=lambda scene, _mine, _last: {"user_id": scene.bob.user_id},
        result=Shape(),
        required=("user_id",),
        bad={"user_id": NO_USER},
        good={"user_id": USERS},
    ),
    Method(
        name="users.unblock",
        params=lambda scene, _mine, _last: {"user_id": scene.bob.user_id},
        result=Shape(),
        required=("user_id",),
        bad={"user_id": NO_USER},
        good={"user_id": USERS},
    ),
    Method(
        name="users.blocked",
        params=lambda _scene, _mine, _last: {"cursor": ""},
        result=Shape(may={"user_ids": list_of(USER_ID), "next_cursor": TEXT}),
        bad={"cursor": (7, "no such cursor !")},
    ),
    Method(
        name="presence.get",
        params=lambda scene, _mine, _last: {"user_ids": [scene.bob.user_id, "nobody-at-all"]},
        result=Shape(must={"presence": list_of(PRESENCE)}, may={"degraded": DEGRADED}),
        required=("user_ids",),
        bad={"user_ids": ([], ["x"] * 101, ["a b"], [7], "bob", {"x": 1})},
        good={"user_ids": (["x"], [f"x{n}" for n in range(100)])},
    ),
)

METHODS = (*TALKING, *AROUND)
