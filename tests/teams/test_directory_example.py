"""How a team tests its profiles service: without a server by grpcio-testing, and once over a real channel."""

from pathlib import Path

import grpc
import grpc_testing

from mesh.channel import Channel
from messenger.profiles.v1 import profiles_pb2
from messenger.profiles.v1.profiles_pb2_grpc import ProfilesServiceStub
from tests.teams.profiles import StaffDirectory, serve

SERVICE = profiles_pb2.DESCRIPTOR.services_by_name["ProfilesService"]
NAMES = {"anna": "Anna", "boris": "Boris"}


def test_unknown_people_are_left_out() -> None:
    """The answer holds the profiles of those who are known, and is no error for the others."""
    server = grpc_testing.server_from_dictionary(
        {SERVICE: StaffDirectory(NAMES)}, grpc_testing.strict_fake_time(0.0)
    )
    request = profiles_pb2.BatchGetProfilesRequest(user_ids=["anna", "nobody"])
    method = SERVICE.methods_by_name["BatchGetProfiles"]
    response, _, code, _ = server.invoke_unary_unary(method, (), request, 0.1).termination()
    assert code is grpc.StatusCode.OK
    assert [(profile.user_id, profile.name) for profile in response.profiles] == [("anna", "Anna")]


async def test_the_mesh_reaches_it(tmp_path: Path) -> None:
    """A service of the mesh, given nothing but the address, gets the profiles by the generated stub."""
    address = f"unix:{tmp_path}/profiles.sock"
    server = serve(address, NAMES)
    try:
        async with Channel(address) as channel:
            request = profiles_pb2.BatchGetProfilesRequest(user_ids=["boris"])
            response = await ProfilesServiceStub(channel).BatchGetProfiles(request, timeout=5)
    finally:
        server.stop(None).wait()
    assert [profile.name for profile in response.profiles] == ["Boris"]
