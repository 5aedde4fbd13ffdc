"""The aggregator's rules, pure: what an answer is made of."""

from collections.abc import Iterable, Mapping

from messenger.common.v1 import types_pb2
from messenger.items.v1 import items_pb2
from messenger.profiles.v1 import profiles_pb2

DEFAULT_CHATS = 20
DEFAULT_MESSAGES = 50
DEFAULT_FOUND = 20
DEFAULT_BLOCKED = 100

PROFILES = "profiles"
ITEMS = "items"
PRESENCE = "presence"


def peers_of(chats: Iterable[types_pb2.Chat]) -> list[str]:
    """The users whose profiles an answer needs, each once."""
    return list(dict.fromkeys(chat.peer.user_id for chat in chats))


def items_of(chats: Iterable[types_pb2.Chat]) -> list[str]:
    """The items whose cards an answer needs, each once."""
    return list(dict.fromkeys(chat.item.item_id for chat in chats if chat.HasField("item")))


def enrich(
    chats: Iterable[types_pb2.Chat],
    profiles: Mapping[str, profiles_pb2.Profile],
    items: Mapping[str, items_pb2.ItemCard],
) -> None:
    """Writes names, pictures and titles into the chats; what is unknown is left out."""
    for chat in chats:
        if profile := profiles.get(chat.peer.user_id):
            _copy(profile, chat.peer, ("name", "avatar_url"))
        if chat.HasField("item") and (item := items.get(chat.item.item_id)):
            _copy(item, chat.item, ("title", "url"))


def _copy(
    source: profiles_pb2.Profile | items_pb2.ItemCard,
    target: types_pb2.Peer | types_pb2.Item,
    fields: tuple[str, ...],
) -> None:
    for field in fields:
        if value := getattr(source, field):
            setattr(target, field, value)
