"""The gRPC channel of every process, for the ordinary generated stubs.

Each call gets `min(its own cap, what the current call has left − margin)`, carries user and trace, and fails
with a MessengerError. Calls share streams where the other side knows them. Balancing is round robin over what
the name resolves to, with health checks. With certificates both sides prove their names; exchanged ones count
from the next call.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from opentelemetry.trace import SpanKind

from mesh import call, metrics, tracing
from mesh.errors import DeadlineExceeded, MessengerError, from_rpc
from mesh.shared import frames
from mesh.shared.client import SharedChannel
from mesh.tls import Tls, channel_credentials

MARGIN = 0.01
"""Seconds of what is left that a caller keeps for its own answer."""

DEFAULT_CAP = 10.0
"""Seconds; no call is without a deadline."""

SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": ""},
        # UNAVAILABLE alone says that a call may go again (AIP-194); the throttle stops a retry storm.
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            },
            # A shared stream is not a call: the calls on it are what is tried again, by whoever made them.
            {"name": [{"service": frames.SERVICE}]},
        ],
        "retryThrottling": {"maxTokens": 50, "tokenRatio": 0.1},
    }
)

OPTIONS = (
    ("grpc.service_config", SERVICE_CONFIG),
    ("grpc.enable_retries", 1),
    ("grpc.max_receive_message_length", 8 * 1024 * 1024),
    # A process that hangs says nothing; after these it is taken out, and calls to it fail at once.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Without it every channel of a process shares one connection an address, also across event loops.
    ("grpc.use_local_subchannel_pool", 1),
)

CALLED = metrics.histogram(
    "messenger_rpc_client_duration",
    "Calls to other processes, with their retries.",
    ("method", "code"),
    bounds=metrics.SECONDS,
    unit="s",
)

UnaryCall = Callable[..., Awaitable[Any]]


def nobody() -> str:
    """Hands on no assertion: the other side has no business with users' mailboxes."""
    return ""


class Channel:
    """What a generated stub takes: makes unary calls that know the current call.

    Args:
        address: a gRPC target: `host:port`, `dns:///name:port` or `unix:/path`.
        cap: seconds that one call may take at most, whatever the caller has left.
        service: the logical name that the other side's certificate must have; by default the address's host.
        tls: this process's certificates; none for plaintext.
        assertion: gives the signed word for the current call's user, where the other side is to have it.
    """

    def __init__(
        self,
        address: str,
        *,
        cap: float = DEFAULT_CAP,
        service: str = "",
        tls: Tls | None = None,
        assertion: Callable[[], str] = nobody,
    ) -> None:
        self._address = address
        self._cap = cap
        self._service = service
        self._tls = tls
        self._assertion = assertion
        self._closing: set[asyncio.Task[None]] = set()
        self._open()

    def _open(self) -> None:
        self._material = self._tls.material if self._tls else None
        if self._material is None:
            self._channel = grpc.aio.insecure_channel(self._address, options=OPTIONS)
        else:
            options = (
                (*OPTIONS, ("grpc.ssl_target_name_override", self._service)) if self._service else OPTIONS
            )
            credentials = channel_credentials(self._material)
            self._channel = grpc.aio.secure_channel(self._address, credentials, options=options)
        self._shared = SharedChannel(self._channel)

    def _current(self) -> SharedChannel:
        """The channel; a new one once the certificates were exchanged, for the old one keeps its own."""
        if self._tls is not None and self._tls.material is not self._material:
            self._shared.leave()
            task = asyncio.get_running_loop().create_task(self._channel.close(self._cap))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            self._open()
        return self._shared

    async def __aenter__(self) -> "Channel":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._shared.cancel()
        await self._channel.close()
        await asyncio.gather(*self._closing)

    async def ready(self) -> None:
        """Returns when the other side answers; bound it with a timeout."""
        self._current()
        await self._channel.channel_ready()

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = None,  # generated stubs pass it
    ) -> UnaryCall:
        """A function that calls `method` (`/package.Service/Method`).

        It takes the request and an optional `timeout` in seconds, and raises MessengerError.
        """

        def bind(channel: SharedChannel) -> UnaryCall:
            return channel.unary_unary(method, request_serializer, response_deserializer)

        bound, multicallable = self._shared, bind(self._shared)

        name = method.removeprefix("/")
        ok = CALLED.labels(name, "OK")

        async def invoke(request: object, *, timeout: float | None = None) -> object:
            started = time.perf_counter()
            try:
                with tracing.span(name, SpanKind.CLIENT):
                    response = await run(request, self._cap if timeout is None else timeout)
            except MessengerError as error:
                CALLED.labels(name, error.code.name).record(time.perf_counter() - started)
                raise
            ok.record(time.perf_counter() - started)
            return response

        async def run(request: object, cap: float) -> object:
            nonlocal bound, multicallable
            seconds = min(cap, call.time_left() - MARGIN)
            if seconds <= 0:
                raise DeadlineExceeded("There is no time left for another call.")
            if (channel := self._current()) is not bound:
                bound, multicallable = channel, bind(channel)
            metadata = _outgoing(call.current(), self._assertion())
            try:
                return await multicallable(request, timeout=seconds, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                raise from_rpc(error) from None

        return invoke


def _outgoing(current: call.Call, assertion: str) -> tuple[tuple[str, str], ...]:
    pairs = (
        (call.USER_KEY, current.user_id),
        (call.ASSERTION_KEY, assertion),
        (call.TRACE_KEY, current.traceparent),
    )
    return tuple(pair for pair in pairs if pair[1])
