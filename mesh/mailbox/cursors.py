"""Cursors: opaque, url-safe text that says where a page ended. Pure.

They hold places, no secrets: every query is bound to its owner besides.
"""

import re
from datetime import datetime

from mesh.errors import InvalidArgument
from mesh.mailbox.fold import from_ns, to_ms

_CHAT = "([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
_LIST = re.compile(f"([0-9]{{1,14}})~{_CHAT}")
_CHANGES = re.compile(f"{_CHAT}~([0-9]{{1,10}})")


def list_cursor(activity: datetime, chat_id: str) -> str:
    """Where a page of the chat list ended."""
    return f"{to_ms(activity)}~{chat_id}"


def parse_list_cursor(cursor: str) -> tuple[datetime, str]:
    """Activity and chat_id; raises InvalidArgument for a text that no page ended with."""
    if not (found := _LIST.fullmatch(cursor)):
        raise InvalidArgument("cursor: must be the next_cursor of the page before")
    return from_ns(int(found[1]) * 1_000_000), found[2]


def changes_token(chat_id: str, below: int = 0) -> str:
    """Where a page of changes ended: behind this chat or, where `below` is given, in it before that seq."""
    return f"{chat_id}~{below}"


def parse_changes_token(token: str) -> tuple[str, int]:
    """chat_id and seq; raises InvalidArgument for a text that no page ended with."""
    if not (found := _CHANGES.fullmatch(token)):
        raise InvalidArgument("page_token: must be the next_page_token of the page before")
    return found[1], int(found[2])
