"""Cursors: opaque, url-safe text that says where a page ended. Pure.

They hold places, no secrets: every query is bound to its owner besides.
"""

import re
from datetime import datetime

from mesh.errors import InvalidArgument
from mesh.mailbox.fold import check_user, from_ns, to_ms

_UUID = "([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
_LIST = re.compile(f"([0-9]{{1,14}})~{_UUID}")
_CHANGES = re.compile(f"{_UUID}~([0-9]{{1,10}})")
_MESSAGE = re.compile(_UUID)


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


def parse_message_cursor(cursor: str) -> str:
    """The message_id that a page of found messages ended with; raises InvalidArgument for another text."""
    if not _MESSAGE.fullmatch(cursor):
        raise InvalidArgument("cursor: must be the next_cursor of the page before")
    return cursor


def parse_user_cursor(cursor: str) -> str:
    """The user id that a page of people ended with; raises InvalidArgument for what is none."""
    check_user("cursor", cursor)
    return cursor
