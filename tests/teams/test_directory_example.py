"""How a team tests its directories: without a server by grpcio-testing, and once over a real channel."""

from pathlib import Path

import grpc
import grpc_testing

from mesh.channel import Channel
from messenger.items.v1 import items_pb2, items_pb2_grpc
from messenger.profiles.v1 import profiles_pb2
from messenger.profiles.v1.profiles_pb2_grpc import ProfilesServiceStub
from tests.teams.directory import Catalogue, StaffDirectory, serve

SERVICE = profiles_pb2.DESCRIPTOR.services_by_name["ProfilesService"]
CATALOGUE = items_pb2.DESCRIPTOR.services_by_name["ItemsService"]
NAMES = {"anna": "Anna", "boris": "Boris"}
TITLES = {"bike": "A bike"}


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


def test_unknown_things_are_left_out() -> None:
    """The same for items."""
    server = grpc_testing.server_from_dictionary(
        {CATALOGUE: Catalogue(TITLES)}, grpc_testing.strict_fake_time(0.0)
    )
    request = items_pb2.BatchGetItemsRequest(item_ids=["nothing", "bike"])
    method = CATALOGUE.methods_by_name["BatchGetItems"]
    response, _, code, _ = server.invoke_unary_unary(method, (), request, 0.1).termination()
    assert code is grpc.StatusCode.OK
    assert [(item.item_id, item.title) for item in response.items] == [("bike", "A bike")]


async def test_the_mesh_reaches_it(tmp_path: Path) -> None:
    """A service of the mesh, given nothing but the address, gets profiles and items by the stubs."""
    address = f"unix:{tmp_path}/profiles.sock"
    server = serve(address, NAMES, TITLES)
    try:
        async with Channel(address) as channel:
            request = profiles_pb2.BatchGetProfilesRequest(user_ids=["boris"])
            response = await ProfilesServiceStub(channel).BatchGetProfiles(request, timeout=5)
            asked = items_pb2.BatchGetItemsRequest(item_ids=["bike"])
            items = await items_pb2_grpc.ItemsServiceStub(channel).BatchGetItems(asked, timeout=5)
    finally:
        server.stop(None).wait()
    assert [profile.name for profile in response.profiles] == ["Boris"]
    assert [item.title for item in items.items] == ["A bike"]
