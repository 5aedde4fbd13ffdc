"""Puts an edge together; the only place that names its concrete parts."""

import secrets
import time
from importlib.resources import files

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from edge import table
from edge.addresses import Proxies
from edge.admission import Admission
from edge.attendance import Attendance
from edge.auth import Authenticator
from edge.backlog import Backlog
from edge.buckets import SharedBuckets
from edge.calls import Calls
from edge.comments import comments
from edge.door import Door
from edge.doorkeeper import Doorkeeper
from edge.fallback import fallbacks
from edge.http import HttpApi
from edge.hub import Hub
from edge.keys import key_set
from edge.listener import HttpServer
from edge.local import local_methods
from edge.openrpc import document
from edge.sessions import Sessions
from edge.settings import Settings
from edge.ws import Gateway
from mesh import metrics
from mesh.assertion import Signer
from mesh.bus import Bus
from mesh.channel import nobody
from mesh.feed import Feed
from mesh.lifecycle import App
from mesh.presence import Register
from messenger.dbapi.v1 import dbapi_pb2_grpc


async def wire(settings: Settings, app: App) -> None:
    """Builds and starts the edge's parts."""
    enter = app.stack.enter_async_context
    signed = Signer(settings.assertion_signing_key).current if settings.assertion_signing_key else nobody
    aggregator = await app.channel(settings.aggregator_address, "aggregator", assertion=signed)
    dbapi = await app.channel(settings.dbapi_address, "dbapi", assertion=signed)
    # Teams have certificates by the names of their hosts, and may go on in the user's name.
    teams = {
        service: await app.channel(target, assertion=signed)
        for service, target in settings.teams.addresses.items()
    }
    bus = await enter(
        Bus(settings.redis_urls, retention=settings.bus_retention_seconds, length=settings.bus_stream_length)
    )

    methods = table.methods((*table.OWN, *settings.teams.services))
    described = {**settings.teams.described, **comments(_descriptors().file)}
    openrpc = document(methods, url=settings.public_url, described=described, limits=_limits(settings))
    place = secrets.token_hex(8)
    buckets = await enter(
        SharedBuckets(settings.redis_urls, rate=settings.limit_rate, burst=settings.limit_burst)
    )
    admission = await enter(
        Admission(
            buckets,
            redis_url=settings.redis_urls[0],
            place=place,
            concurrent=settings.limit_concurrent,
            calls_per_edge=settings.calls_per_edge,
        )
    )
    mailbox = dbapi_pb2_grpc.MailboxServiceStub(dbapi)
    calls = Calls(
        methods,
        channels={table.MESSENGER.full_name: aggregator, **teams},
        local=local_methods(openrpc),
        fallbacks=fallbacks(mailbox),
        admission=admission,
    )
    nodes = len(settings.redis_urls)
    backlog = Backlog(bus, mailbox, now_ms=lambda: time.time_ns() // 1_000_000, nodes=nodes)
    register = await enter(Register(settings.redis_urls, place=place))
    attendance = Attendance(register, bus)
    hub = Hub(
        backlog,
        attendance,
        lambda deliver, resumed: Feed(settings.redis_urls, deliver=deliver, resumed=resumed),
    )
    keeper, sessions = doorkeeper(settings), Sessions(settings.user_sessions)

    gateway = Gateway(settings, doorkeeper=keeper, sessions=sessions, calls=calls, hub=hub)
    api = HttpApi(
        doorkeeper=keeper,
        sessions=sessions,
        admission=admission,
        calls=calls,
        hub=hub,
        outbound_bytes=settings.outbound_bytes,
        openrpc=openrpc,
        failing=app.failing,
        dev_secret=settings.jwt_secret if settings.dev_sign_in else "",
    )
    server = HttpServer(
        api.app(), settings.http_listen, grace=settings.drain_seconds, patience=settings.patience_seconds
    )

    metrics.watch("messenger_edge_connections", "Open WebSockets.", lambda: len(gateway))
    metrics.watch(
        "messenger_edge_followers", "Devices that hear events, on every transport.", lambda: len(hub)
    )
    app.check("redis", bus.ping)
    app.check("aggregator", aggregator.ready)
    app.background(hub.run(), "push feed")
    app.background(admission.run(), "admission")
    app.background(attendance.run(), "attendance")
    app.background(server.serve(), "http")
    await gateway.start()
    app.on_drain(api.drain)
    app.on_drain(gateway.drain)
    app.on_drain(attendance.drain)
    app.on_drain(server.drain)


def _descriptors() -> FileDescriptorSet:
    """The protos as they were compiled, with their comments; beside the generated code."""
    return FileDescriptorSet.FromString(files("messenger").joinpath("descriptors.binpb").read_bytes())


def _limits(settings: Settings) -> dict[str, float]:
    """What the document of all methods says of a user's limits; a method's cost is in tokens."""
    return {
        "calls_at_once": settings.limit_concurrent,
        "method_tokens_per_second": settings.limit_rate,
        "method_tokens_at_once": settings.limit_burst,
        "sessions_on_one_edge": settings.user_sessions,
    }


def doorkeeper(settings: Settings) -> Doorkeeper:
    """Lets clients in as the settings say."""
    keys = key_set(settings.jwt_jwks) if settings.jwt_jwks else None
    return Doorkeeper(
        Authenticator(secret=settings.jwt_secret, keys=keys),
        proxies=Proxies(settings.trusted_proxies),
        door=Door(
            connections=settings.address_connections,
            handshakes=settings.address_handshakes,
            failures=settings.address_failures,
        ),
    )
