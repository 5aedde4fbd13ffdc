"""Puts dbapi together; the only place that names its concrete parts."""

from datetime import timedelta

from dbapi.auditing import Audits
from dbapi.directory import ItemsService, ProfilesService
from dbapi.outbox import Announcer, Relay
from dbapi.service import MailboxService
from dbapi.settings import Settings
from mesh import call
from mesh.amqp import Publisher, watch_depths
from mesh.lifecycle import App
from mesh.mailbox.audit import Auditor
from mesh.mailbox.mongo import MongoMailbox
from mesh.mailbox.readiness import MailboxReadiness
from messenger.dbapi.v1 import dbapi_pb2_grpc
from messenger.items.v1 import items_pb2_grpc
from messenger.profiles.v1 import profiles_pb2_grpc


async def wire(settings: Settings, app: App) -> None:
    """Builds and starts dbapi's parts."""
    store = MongoMailbox(settings.mongo_shards, driver=settings.mesh_mongo_driver, time_left=call.time_left)
    app.stack.push_async_callback(store.aclose)
    topology = settings.topology()
    publisher = await app.stack.enter_async_context(Publisher(settings.amqp_url, topology, name="dbapi"))

    clear_every = min(1.0, settings.relay_after_seconds / 4)
    announcer = Announcer(store, publisher, clear_every=clear_every)
    relay = Relay(
        store,
        publisher,
        after=timedelta(seconds=settings.relay_after_seconds),
        every=settings.relay_every_seconds,
    )
    audits = Audits(
        lambda: Auditor(settings.mongo_shards, settings.mesh_mongo_driver),
        store,
        every=settings.audit_every_seconds,
        settled=timedelta(seconds=settings.audit_settled_seconds),
    )
    app.serve(
        dbapi_pb2_grpc.add_MailboxServiceServicer_to_server, MailboxService(store, announcer, app.verifier)
    )
    app.serve(profiles_pb2_grpc.add_ProfilesServiceServicer_to_server, ProfilesService())
    app.serve(items_pb2_grpc.add_ItemsServiceServicer_to_server, ItemsService())
    app.background(announcer.run(), "announcer")
    app.background(relay.run(), "relay")
    if settings.audit_every_seconds:
        app.background(audits.run(), "audits")
    app.background(watch_depths(publisher, topology), "queue depths")
    app.check("mailbox", MailboxReadiness(store), lasting=True)
    app.on_drain(announcer.flush)
