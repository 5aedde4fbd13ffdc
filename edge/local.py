"""The methods that the edge answers itself: the session's own, and the document of all."""

from typing import Any

import msgspec

from edge.calls import Caller, LocalCall
from mesh.streams import EventId
from messenger.edge.v1 import session_pb2


def local_methods(openrpc: dict[str, Any]) -> dict[str, LocalCall]:
    """The edge's own methods, by JSON-RPC name.

    Args:
        openrpc: the document that `rpc.discover` answers with.
    """
    document = msgspec.Raw(msgspec.json.encode(openrpc))

    async def discover(_request: session_pb2.DiscoverRequest, _caller: Caller) -> msgspec.Raw:
        return document

    return {
        "session.connect": _connect,
        "session.refresh": _refresh,
        "session.ping": _ping,
        "rpc.discover": discover,
    }


async def _connect(request: session_pb2.ConnectRequest, caller: Caller) -> session_pb2.ConnectResponse:
    cursor = EventId.parse(request.last_event_id) if request.last_event_id else None
    response = await caller.connect(request.token, cursor)
    response.server_time.GetCurrentTime()
    return response


async def _refresh(request: session_pb2.RefreshRequest, caller: Caller) -> session_pb2.RefreshResponse:
    return await caller.refresh(request.token)


async def _ping(_request: session_pb2.PingRequest, _caller: Caller) -> session_pb2.PingResponse:
    response = session_pb2.PingResponse()
    response.server_time.GetCurrentTime()
    return response
