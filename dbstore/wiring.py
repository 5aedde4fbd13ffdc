"""Puts dbstore together; the only place that names its concrete parts."""

from dbstore.consumer import EventHandler
from dbstore.late import LateCheck
from dbstore.rules import chat_of
from dbstore.settings import Settings
from mesh import call
from mesh.amqp import CHECKED, Consumer, Publisher
from mesh.breaker import Breaker, Part
from mesh.bus import Bus
from mesh.lifecycle import App
from mesh.mailbox.driver import LONGEST_S
from mesh.mailbox.mongo import MongoMailbox
from mesh.mailbox.readiness import MailboxReadiness


async def wire(settings: Settings, app: App) -> None:
    """Builds and starts dbstore's parts."""
    store = MongoMailbox(
        settings.mongo_shards,
        driver=settings.mesh_mongo_driver,
        time_left=call.time_left,
        parts=lambda shard: Part(
            f"shard {shard}", seconds=LONGEST_S, breaker=Breaker(tolerance=1, longest=5)
        ),
    )
    app.stack.push_async_callback(store.aclose)
    enter = app.stack.enter_async_context
    bus = await enter(
        Bus(settings.redis_urls, retention=settings.bus_retention_seconds, length=settings.bus_stream_length)
    )
    topology = settings.topology()
    publisher = await enter(Publisher(settings.amqp_url, topology, name="dbstore"))
    consumer = await enter(
        Consumer(
            settings.amqp_url,
            topology,
            CHECKED,
            EventHandler(store, bus, LateCheck(store, publisher)).handle,
            publisher,
            prefetch=settings.prefetch,
            concurrency=settings.concurrency,
            order=chat_of,
            drain_timeout=settings.drain_seconds,
        )
    )
    app.check("mailbox", MailboxReadiness(store))
    app.check("queue", consumer.ready)
    app.check("redis", bus.ping)
