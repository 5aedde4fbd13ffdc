"""Puts an aggregator together; the only place that names its concrete parts."""

from aggregator.parts import Parts
from aggregator.people import People
from aggregator.service import MessengerService
from aggregator.settings import Settings
from mesh import call
from mesh.bus import Bus
from mesh.lifecycle import App
from mesh.presence import Register
from messenger.aggregator.v1 import aggregator_pb2_grpc
from messenger.dbapi.v1 import dbapi_pb2_grpc
from messenger.items.v1 import items_pb2_grpc
from messenger.profiles.v1 import profiles_pb2_grpc


async def wire(settings: Settings, app: App) -> None:
    """Builds and starts the aggregator's parts."""
    enter = app.stack.enter_async_context
    dbapi = await app.channel(settings.dbapi_address, "dbapi", assertion=call.assertion)
    # Teams that own these have certificates by the names of their hosts.
    profiles, items = [
        await (app.channel(address) if address else app.channel(settings.dbapi_address, "dbapi"))
        for address in (settings.profiles_address, settings.items_address)
    ]

    parts = Parts(
        profiles_pb2_grpc.ProfilesServiceStub(profiles),
        items_pb2_grpc.ItemsServiceStub(items),
        seconds=settings.optional_seconds,
        remembered_s=settings.remembered_seconds,
    )
    bus = await enter(
        Bus(settings.redis_urls, retention=settings.bus_retention_seconds, length=settings.bus_stream_length)
    )
    register = await enter(Register(settings.redis_urls, place="aggregator"))
    people = People(register, bus, nodes=len(settings.redis_urls), seconds=settings.optional_seconds)
    mailbox = dbapi_pb2_grpc.MailboxServiceStub(dbapi)
    service = MessengerService(mailbox, parts, people, lanes=settings.mailbox_shards)
    app.serve(aggregator_pb2_grpc.add_MessengerServiceServicer_to_server, service)
    app.check("dbapi", dbapi.ready)
