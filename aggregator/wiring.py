"""Puts an aggregator together; the only place that names its concrete parts."""

from messenger.aggregator.v1 import aggregator_pb2_grpc
from messenger.dbapi.v1 import dbapi_pb2_grpc
from messenger.items.v1 import items_pb2_grpc
from messenger.profiles.v1 import profiles_pb2_grpc

from aggregator.parts import Parts
from aggregator.service import MessengerService
from aggregator.settings import Settings
from mesh.channel import Channel
from mesh.lifecycle import App


async def wire(settings: Settings, app: App) -> None:
    """Builds and starts the aggregator's parts."""
    enter = app.stack.enter_async_context
    dbapi = await enter(Channel(settings.dbapi_address))
    profiles = await enter(Channel(settings.profiles_address or settings.dbapi_address))
    items = await enter(Channel(settings.items_address or settings.dbapi_address))

    parts = Parts(
        profiles_pb2_grpc.ProfilesServiceStub(profiles),
        items_pb2_grpc.ItemsServiceStub(items),
        seconds=settings.optional_seconds,
    )
    service = MessengerService(dbapi_pb2_grpc.MailboxServiceStub(dbapi), parts)
    app.serve(aggregator_pb2_grpc.add_MessengerServiceServicer_to_server, service)
    app.check("dbapi", dbapi.ready)
