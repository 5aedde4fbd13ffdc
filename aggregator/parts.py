"""The optional parts of an answer: asked side by side, each with a small share of the time and a fallback."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

import structlog

from aggregator import rules
from mesh.breaker import Part
from mesh.errors import MessengerError
from mesh.lru import Lru
from messenger.common.v1 import types_pb2
from messenger.items.v1 import items_pb2, items_pb2_grpc
from messenger.profiles.v1 import profiles_pb2, profiles_pb2_grpc

log = structlog.get_logger()

P = TypeVar("P")

REMEMBERED = 50_000
"""Ids of one part that are remembered; who was not asked for longest goes first."""


class Parts:
    """Names, pictures and titles for chats.

    Args:
        profiles: the profiles service.
        items: the items service.
        seconds: what one part may cost an answer; one that keeps failing costs nothing.
        remembered_s: seconds for which an answer is current; 0 asks each time.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        profiles: profiles_pb2_grpc.ProfilesServiceStub,
        items: items_pb2_grpc.ItemsServiceStub,
        *,
        seconds: float,
        remembered_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        async def get_profiles(ids: list[str]) -> dict[str, profiles_pb2.Profile]:
            response = await profiles.BatchGetProfiles(profiles_pb2.BatchGetProfilesRequest(user_ids=ids))
            return {profile.user_id: profile for profile in response.profiles}

        async def get_items(ids: list[str]) -> dict[str, items_pb2.ItemCard]:
            response = await items.BatchGetItems(items_pb2.BatchGetItemsRequest(item_ids=ids))
            return {item.item_id: item for item in response.items}

        self._profiles = _Directory(rules.PROFILES, get_profiles, seconds, remembered_s, clock)
        self._items = _Directory(rules.ITEMS, get_items, seconds, remembered_s, clock)

    async def enrich(self, chats: Sequence[types_pb2.Chat]) -> list[str]:
        """Completes chats in place.

        Returns:
            The names of the parts that did not answer in time: what they say is missing, or from before.
        """
        profiles, of_profiles = self._profiles.recall(rules.peers_of(chats))
        items, of_items = self._items.recall(rules.items_of(chats))
        degraded: list[str] = []
        if of_profiles or of_items:
            missing = await asyncio.gather(
                self._profiles.ask(of_profiles, profiles), self._items.ask(of_items, items)
            )
            degraded = [name for name in missing if name]
        rules.enrich(chats, profiles, items)
        return degraded


class _Directory(Generic[P]):
    """One part: asked for what is not known or has been known for too long."""

    def __init__(
        self,
        name: str,
        get: Callable[[list[str]], Awaitable[Mapping[str, P]]],
        seconds: float,
        remembered_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._name = name
        self._get = get
        self._part = Part(name, seconds=seconds)
        self._remembered_s = remembered_s
        self._clock = clock
        self._known: Lru[str, tuple[float, P | None]] = Lru(REMEMBERED)

    def recall(self, ids: Sequence[str]) -> tuple[dict[str, P], list[str]]:
        """What is known of these ids, and which of them to ask for."""
        now = self._clock()
        found: dict[str, P] = {}
        asked = []
        for one in ids:
            at, value = self._known.get(one) or (now - self._remembered_s, None)
            if value is not None:
                found[one] = value
            if now - at >= self._remembered_s:
                asked.append(one)
        return found, asked

    async def ask(self, ids: list[str], found: dict[str, P]) -> str:
        """Brings `found` up to date with what the part says of ids; its name where it does not answer."""
        if not ids:
            return ""
        now = self._clock()
        try:
            async with self._part.asked():
                answer = await self._get(ids)
        except MessengerError as error:
            log.debug("an answer goes without a part", part=self._name, cause=error.detail)
            return self._name
        for one in ids:
            self._known.put(one, (now, answer.get(one)))
            found.pop(one, None)
        found.update(answer)
        return ""
