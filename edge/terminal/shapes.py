"""The contract's nouns as a client receives them. Unknown fields are ignored, absent ones default. Pure."""

from datetime import datetime
from typing import Any, TypeVar

import msgspec

Shape = TypeVar("Shape", bound="_Noun")


class _Noun(msgspec.Struct, frozen=True, kw_only=True):
    @classmethod
    def of(cls: type[Shape], value: Any) -> Shape:
        """Reads what came as JSON."""
        return msgspec.convert(value, cls)


class Message(_Noun, frozen=True, kw_only=True):
    """One message, in one's own copy of the chat."""

    message_id: str
    chat_id: str
    sender_id: str
    created_at: datetime
    seq: int = 0
    text: str = ""
    client_msg_id: str = ""
    edited_at: datetime | None = None
    deleted: bool = False


class Peer(_Noun, frozen=True, kw_only=True):
    """The other side of a chat."""

    user_id: str
    name: str = ""


class Item(_Noun, frozen=True, kw_only=True):
    """What a chat is about."""

    item_id: str
    title: str = ""


class Chat(_Noun, frozen=True, kw_only=True):
    """One chat; of two states the one with the greater `version` is newer."""

    chat_id: str
    peer: Peer
    updated_at: datetime
    item: Item | None = None
    last_message: Message | None = None
    unread: int = 0
    read_up_to: str = ""
    peer_read_up_to: str = ""
    peer_delivered_up_to: str = ""
    blocked: bool = False
    version: int = 0

    @property
    def name(self) -> str:
        """What to call the other side."""
        return self.peer.name or self.peer.user_id


class Presence(_Noun, frozen=True, kw_only=True):
    """Whether a person is there."""

    user_id: str
    online: bool = False
    last_seen: datetime | None = None
