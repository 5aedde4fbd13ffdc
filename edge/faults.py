"""The one table from the mesh's errors to JSON-RPC error objects; pure."""

from typing import Any

from edge import jsonrpc
from mesh.errors import Internal, InvalidArgument, MessengerError, Unimplemented

UNEXPECTED = "Something went wrong here; the trace_id helps us to find out what."

_OWN_CODES: dict[type[MessengerError], int] = {
    InvalidArgument: jsonrpc.INVALID_PARAMS,
    Unimplemented: jsonrpc.METHOD_NOT_FOUND,
    Internal: jsonrpc.INTERNAL_ERROR,
    MessengerError: jsonrpc.INTERNAL_ERROR,
}


def code_of(error: MessengerError) -> int:
    """The JSON-RPC code: the protocol's own where it has one, else −32000 − the gRPC status number."""
    own = _OWN_CODES.get(type(error))
    return -32000 - int(error.code.value[0]) if own is None else own


def data_of(reason: str, trace_id: str, *, retryable: bool = False) -> dict[str, Any]:
    """What every error object has in its data."""
    return {"reason": reason, "retryable": retryable, "trace_id": trace_id}


def describe(error: MessengerError, trace_id: str) -> tuple[int, str, dict[str, Any]]:
    """Code, message and data of the error object for a client."""
    code = code_of(error)
    message = UNEXPECTED if code == jsonrpc.INTERNAL_ERROR else error.detail
    data = data_of(error.reason, trace_id, retryable=error.retryable)
    if error.retry_after_ms is not None:
        data["retry_after_ms"] = error.retry_after_ms
    return code, message, data
