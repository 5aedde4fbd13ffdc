"""The gRPC channel of every process, for the ordinary generated stubs.

Each call gets `min(its own cap, what the current call has left − margin)`, carries user and trace, and fails
with a MessengerError. Balancing is round robin over what the name resolves to, with health checks.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from mesh import call
from mesh.errors import DeadlineExceeded, from_rpc

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
            }
        ],
        "retryThrottling": {"maxTokens": 50, "tokenRatio": 0.1},
    }
)

OPTIONS = (
    ("grpc.service_config", SERVICE_CONFIG),
    ("grpc.enable_retries", 1),
    ("grpc.max_receive_message_length", 8 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Without it every channel of a process shares one connection an address, also across event loops.
    ("grpc.use_local_subchannel_pool", 1),
)

UnaryCall = Callable[..., Awaitable[Any]]


class Channel:
    """What a generated stub takes: makes unary calls that know the current call.

    Args:
        address: a gRPC target: `host:port`, `dns:///name:port` or `unix:/path`.
        cap: seconds that one call may take at most, whatever the caller has left.
    """

    def __init__(self, address: str, *, cap: float = DEFAULT_CAP) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        self._cap = cap

    async def __aenter__(self) -> "Channel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def ready(self) -> None:
        """Returns when the other side answers; bound it with a timeout."""
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
        multicallable = self._channel.unary_unary(
            method, request_serializer=request_serializer, response_deserializer=response_deserializer
        )

        async def invoke(request: object, *, timeout: float | None = None) -> object:
            current = call.current()
            seconds = min(self._cap if timeout is None else timeout, call.time_left() - MARGIN)
            if seconds <= 0:
                raise DeadlineExceeded("There is no time left for another call.")
            try:
                return await multicallable(request, timeout=seconds, metadata=_outgoing(current))
            except grpc.aio.AioRpcError as error:
                raise from_rpc(error) from None

        return invoke


def _outgoing(current: call.Call) -> tuple[tuple[str, str], ...]:
    return tuple(
        (key, value)
        for key, value in ((call.USER_KEY, current.user_id), (call.TRACE_KEY, current.traceparent))
        if value
    )
