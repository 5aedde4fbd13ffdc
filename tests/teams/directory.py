"""Example: a team's own directory of people, as an ordinary synchronous gRPC service.

Aggregator asks it instead of the reference once it is told where it is: PROFILES_ADDRESS=127.0.0.1:7002.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc

from messenger.profiles.v1.profiles_pb2 import BatchGetProfilesRequest, BatchGetProfilesResponse, Profile
from messenger.profiles.v1.profiles_pb2_grpc import (
    ProfilesServiceServicer,
    add_ProfilesServiceServicer_to_server,
)


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


def serve(address: str, names: Mapping[str, str]) -> grpc.Server:
    """A server of the directory, started."""
    server = grpc.server(ThreadPoolExecutor(8))
    add_ProfilesServiceServicer_to_server(StaffDirectory(names), server)
    server.add_insecure_port(address)
    server.start()
    return server


if __name__ == "__main__":
    serve("127.0.0.1:7002", {"anna": "Anna", "boris": "Boris"}).wait_for_termination()
