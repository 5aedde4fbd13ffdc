"""Reference profiles and items, so that a new system shows names; a team's own replaces them by address.

They know everybody and everything: names are made from the ids.
"""

from typing import TypeAlias

import grpc

from messenger.items.v1 import items_pb2, items_pb2_grpc
from messenger.profiles.v1 import profiles_pb2, profiles_pb2_grpc

Context: TypeAlias = grpc.aio.ServicerContext


def readable(identifier: str) -> str:
    """A title made from an id: `maria-lopez` becomes `Maria Lopez`."""
    words = identifier.replace("_", " ").replace("-", " ").replace(".", " ").split()
    return " ".join(word[:1].upper() + word[1:] for word in words) or identifier


class ProfilesService(profiles_pb2_grpc.ProfilesServiceServicer):
    """The reference directory of people."""

    async def BatchGetProfiles(
        self, request: profiles_pb2.BatchGetProfilesRequest, context: Context
    ) -> profiles_pb2.BatchGetProfilesResponse:
        """A profile for every id."""
        profiles = [
            profiles_pb2.Profile(user_id=user_id, name=readable(user_id)) for user_id in request.user_ids
        ]
        return profiles_pb2.BatchGetProfilesResponse(profiles=profiles)


class ItemsService(items_pb2_grpc.ItemsServiceServicer):
    """The reference directory of items."""

    async def BatchGetItems(
        self, request: items_pb2.BatchGetItemsRequest, context: Context
    ) -> items_pb2.BatchGetItemsResponse:
        """A card for every id."""
        items = [items_pb2.ItemCard(item_id=item_id, title=readable(item_id)) for item_id in request.item_ids]
        return items_pb2.BatchGetItemsResponse(items=items)
