"""The gRPC server of every process: access, deadlines, identity, validation and errors around each handler.

The guard wraps handlers once, when they are added, instead of an interceptor that runs at each call. Health
and reflection are open to the whole mesh.
"""

import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import protovalidate
import structlog
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from opentelemetry.trace import SpanKind

from mesh import call, metrics, tracing
from mesh.access import callers_of
from mesh.assertion import Verifier
from mesh.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    MessengerError,
    PermissionDenied,
    to_trailer,
)
from mesh.shared.server import Sharing
from mesh.tls import Tls, peer_of

log = structlog.get_logger()

Handler = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]

OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 8 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 4_000),  # channels ask every 5 s
    ("grpc.max_connection_age_ms", 10 * 60_000),  # so that clients find new replicas behind a name
    ("grpc.max_connection_age_grace_ms", 120_000),  # longer than a shared stream lives
)

LIVENESS = "liveness"
"""Name under which health says SERVING for as long as the loop turns, ready or not."""

SERVED = metrics.histogram(
    "messenger_rpc_server_duration",
    "Calls that were answered here.",
    ("method", "code"),
    bounds=metrics.SECONDS,
    unit="s",
)

LEAST_BUDGET = 0.002
"""Seconds; a call that arrives with less left is refused at the door."""

OWNER_FIELD = "owner_id"
"""A request that has this field is about that user's data, so the call must be that user's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """How a server knows who calls; by default it takes everybody's word.

    Attributes:
        tls: its certificates; none for plaintext, and then every caller may call everything.
        extra_callers: additions to the protos' allow-lists, `caller=package.Service[/Method]`.
        verifier: proves the users of calls.
    """

    tls: Tls | None = None
    extra_callers: tuple[str, ...] = ()
    verifier: Verifier = field(default_factory=Verifier)


class Server:
    """A grpc.aio server with health and reflection.

    Args:
        listen: `host:port` (port 0 picks a free one) or `unix:/path`.
        security: how it knows who calls.
        plain_health: a second address that answers health alone, without TLS; empty for none.
    """

    def __init__(self, listen: str, *, security: Security | None = None, plain_health: str = "") -> None:
        self.security = security or Security()
        self._server = grpc.aio.server(options=OPTIONS)
        self._sharing = Sharing()
        self._server.add_generic_rpc_handlers((self._sharing.handler,))
        self._health = health.aio.HealthServicer()
        self._names = [health.SERVICE_NAME, reflection.SERVICE_NAME]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.address = _bind(self._server, listen, self.security.tls)
        self._probed: grpc.aio.Server | None = None
        if plain_health:
            self._probed = grpc.aio.server(options=OPTIONS)
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._probed)
            self.probe_address = _bind(self._probed, plain_health, None)

    def add(self, add_to_server: Callable[[Any, Any], None], servicer: object) -> None:
        """Serves `servicer`, by the function that was generated for it (`add_…Servicer_to_server`)."""
        add_to_server(servicer, _Guarded(self._server, self._sharing, self._names, self.security))

    async def start(self) -> None:
        """Opens the port; health says NOT_SERVING until `set_serving`."""
        reflection.enable_server_reflection(self._names, self._server)
        await self.set_serving(False)
        await self._health.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()
        if self._probed is not None:
            await self._probed.start()

    async def set_serving(self, serving: bool) -> None:
        """Tells health checks, for the whole process and for each service."""
        status = (
            health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", *self._names):
            await self._health.set(name, status)

    async def stop(self, grace: float) -> None:
        """Takes no new calls and gives those that run `grace` seconds."""
        await self._health.enter_graceful_shutdown()
        self._sharing.leave()
        await self._server.stop(grace)
        if self._probed is not None:
            await self._probed.stop(0)


def _bind(server: grpc.aio.Server, listen: str, tls: Tls | None) -> str:
    port = (
        server.add_secure_port(listen, tls.server_credentials()) if tls else server.add_insecure_port(listen)
    )
    return listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"


class _Guarded:
    """Stands in for the server while generated code adds handlers, and wraps each of them.

    Each is served both ways: on shared streams to the mesh, plainly to whoever makes plain calls.
    """

    def __init__(
        self, server: grpc.aio.Server, sharing: Sharing, names: list[str], security: Security
    ) -> None:
        self._server = server
        self._sharing = sharing
        self._names = names
        self._security = security

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Left to `add_registered_method_handlers`, which generated code calls with the same handlers."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler]
    ) -> None:
        """Adds the handlers of one service, guarded."""
        methods = Default().FindServiceByName(service).methods_by_name
        guarded = {
            name: grpc.unary_unary_rpc_method_handler(
                _guard(methods[name], handler.unary_unary, self._security),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
            for name, handler in handlers.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, guarded),))
        self._sharing.add_registered_method_handlers(service, guarded)
        self._names.append(service)


def _guard(descriptor: MethodDescriptor, behavior: Handler, security: Security) -> Handler:
    name = f"{descriptor.containing_service.full_name}/{descriptor.name}"
    callers = callers_of(descriptor, security.extra_callers)
    owned = OWNER_FIELD in descriptor.input_type.fields_by_name
    verifier = security.verifier
    ok = SERVED.labels(name, "OK")

    async def guarded(request: Message, context: grpc.aio.ServicerContext) -> Any:  # any message
        started = time.perf_counter()
        try:
            response = await run(request, context)
        except MessengerError as error:
            SERVED.labels(name, error.code.name).record(time.perf_counter() - started)
            await _refuse(context, error)
        else:
            ok.record(time.perf_counter() - started)
            return response

    async def run(request: Message, context: grpc.aio.ServicerContext) -> Any:
        try:
            if security.tls is not None:
                _admit(context, callers, f"/{name}")
            current = _incoming(context, verifier)
            call.enter(current)
            with tracing.span(name, SpanKind.SERVER):
                check(request)
                if owned:
                    verifier.require(getattr(request, OWNER_FIELD), current.user_id)
                return await behavior(request, context)
        except MessengerError:
            raise
        except TimeoutError:
            raise DeadlineExceeded("The call ran out of time.") from None
        except Exception:
            log.exception("handler failed", method=name)
            raise Internal("Something went wrong here.") from None

    return guarded


def _admit(context: grpc.aio.ServicerContext, callers: frozenset[str], method: str) -> None:
    peer = peer_of(context.auth_context())
    if peer not in callers:
        raise PermissionDenied(
            f"{peer or 'A caller without a name of the mesh'} may not call {method}.",
            reason="CALLER_NOT_ALLOWED",
        )


def check(request: Message) -> None:
    """Holds a request against the limits that its proto declares.

    Raises:
        InvalidArgument: names each field and the rule that it broke.
    """
    violations = protovalidate.collect_violations(request)
    if violations:
        raise InvalidArgument("; ".join(_describe(violation) for violation in violations))


def _describe(violation: protovalidate.Violation) -> str:
    field = violation.proto.field
    path = ".".join(element.field_name for element in field.elements) if field else "request"
    return f"{path}: {violation.proto.message}"


def _incoming(context: grpc.aio.ServicerContext, verifier: Verifier) -> call.Call:
    remaining = context.time_remaining()
    if remaining is None:
        deadline = math.inf
    elif remaining < LEAST_BUDGET:
        raise DeadlineExceeded("The call arrived with too little time left.")
    else:
        deadline = time.monotonic() + remaining
    metadata = dict(context.invocation_metadata() or ())
    assertion = str(metadata.get(call.ASSERTION_KEY, ""))
    return call.Call(
        deadline=deadline,
        user_id=verifier.user_of(str(metadata.get(call.USER_KEY, "")), assertion),
        assertion=assertion,
        traceparent=str(metadata.get(call.TRACE_KEY, "")) or call.new_traceparent(),
    )


async def _refuse(context: grpc.aio.ServicerContext, error: MessengerError) -> None:
    await context.abort(error.code, error.detail, to_trailer(error))
