"""The optional parts of an answer: asked side by side, each with a small share of the time and a fallback."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from aggregator import rules
from mesh.breaker import Part
from mesh.errors import MessengerError
from messenger.common.v1 import types_pb2
from messenger.items.v1 import items_pb2, items_pb2_grpc
from messenger.profiles.v1 import profiles_pb2, profiles_pb2_grpc

log = structlog.get_logger()

P = TypeVar("P")


class Parts:
    """Names, pictures and titles for chats.

    Args:
        profiles: the profiles service.
        items: the items service.
        seconds: what one part may cost an answer; one that keeps failing costs nothing.
    """

    def __init__(
        self,
        profiles: profiles_pb2_grpc.ProfilesServiceStub,
        items: items_pb2_grpc.ItemsServiceStub,
        *,
        seconds: float,
    ) -> None:
        self._profiles = profiles
        self._items = items
        self._parts = {name: Part(name, seconds=seconds) for name in (rules.PROFILES, rules.ITEMS)}

    async def enrich(self, chats: Sequence[types_pb2.Chat]) -> list[str]:
        """Completes chats in place.

        Returns:
            The names of the parts that did not answer in time.
        """
        peers, item_ids = rules.peers_of(chats), rules.items_of(chats)
        profiles, items = await asyncio.gather(
            self._ask(rules.PROFILES, self._get_profiles, peers),
            self._ask(rules.ITEMS, self._get_items, item_ids),
        )
        rules.enrich(chats, profiles or {}, items or {})
        return [name for name, answer in ((rules.PROFILES, profiles), (rules.ITEMS, items)) if answer is None]

    async def _ask(
        self, name: str, get: Callable[[list[str]], Awaitable[dict[str, P]]], ids: list[str]
    ) -> dict[str, P] | None:
        if not ids:
            return {}
        try:
            async with self._parts[name].asked():
                return await get(ids)
        except MessengerError as error:
            log.debug("an answer goes without a part", part=name, cause=error.detail)
            return None

    async def _get_profiles(self, ids: list[str]) -> dict[str, profiles_pb2.Profile]:
        request = profiles_pb2.BatchGetProfilesRequest(user_ids=ids)
        response = await self._profiles.BatchGetProfiles(request)
        return {profile.user_id: profile for profile in response.profiles}

    async def _get_items(self, ids: list[str]) -> dict[str, items_pb2.ItemCard]:
        request = items_pb2.BatchGetItemsRequest(item_ids=ids)
        response = await self._items.BatchGetItems(request)
        return {item.item_id: item for item in response.items}
