"""Example: a team's own directories of people and of things, as ordinary synchronous gRPC services.

Aggregator asks them instead of the reference once it is told where they are: PROFILES_ADDRESS, ITEMS_ADDRESS.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc

from messenger.items.v1.items_pb2 import BatchGetItemsRequest, BatchGetItemsResponse, ItemCard
from messenger.items.v1.items_pb2_grpc import ItemsServiceServicer, add_ItemsServiceServicer_to_server
from messenger.profiles.v1.profiles_pb2 import BatchGetProfilesRequest, BatchGetProfilesResponse, Profile
from messenger.profiles.v1.profiles_pb2_grpc import (
    ProfilesServiceServicer,
    add_ProfilesServiceServicer_to_server,
)
from tests.teams import identity


class StaffDirectory(ProfilesServiceServicer):
    """Knows the people of one company.

    Args:
        names: by user id.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def BatchGetProfiles(  # noqa: N802
        self, request: BatchGetProfilesRequest, context: grpc.ServicerContext
    ) -> BatchGetProfilesResponse:
        """Profiles of those who are known; who is not is left out."""
        known = [user_id for user_id in request.user_ids if user_id in self._names]
        return BatchGetProfilesResponse(profiles=map(self._profile, known))

    def _profile(self, user_id: str) -> Profile:
        return Profile(
            user_id=user_id, name=self._names[user_id], avatar_url=f"https://staff.example/{user_id}.png"
        )


class Catalogue(ItemsServiceServicer):
    """Knows what a shop sells.

    Args:
        titles: by item id.
    """

    def __init__(self, titles: Mapping[str, str]) -> None:
        self._titles = titles

    def BatchGetItems(  # noqa: N802
        self, request: BatchGetItemsRequest, context: grpc.ServicerContext
    ) -> BatchGetItemsResponse:
        """Cards of those that are known; what is not is left out."""
        known = [item_id for item_id in request.item_ids if item_id in self._titles]
        return BatchGetItemsResponse(items=map(self._card, known))

    def _card(self, item_id: str) -> ItemCard:
        return ItemCard(item_id=item_id, title=self._titles[item_id], url=f"https://shop.example/{item_id}")


def serve(
    address: str,
    names: Mapping[str, str],
    titles: Mapping[str, str],
    credentials: grpc.ServerCredentials | None = None,
) -> grpc.Server:
    """A server of both, started; without credentials it is open to everybody who reaches it."""
    server = grpc.server(ThreadPoolExecutor(8))
    add_ProfilesServiceServicer_to_server(StaffDirectory(names), server)
    add_ItemsServiceServicer_to_server(Catalogue(titles), server)
    identity.listen(server, address, credentials)
    server.start()
    return server


if __name__ == "__main__":
    people, things = {"alice": "Alice of the staff", "bob": "Bob of the staff"}, {"red-bike": "A red bicycle"}
    serve("127.0.0.1:7002", people, things, identity.server_credentials()).wait_for_termination()
