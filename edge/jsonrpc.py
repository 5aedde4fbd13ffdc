"""JSON-RPC 2.0, pure: text in, calls and errors out; results in, text out. Knows no method and no transport.

Source: https://www.jsonrpc.org/specification
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

MAX_BATCH = 50
"""Calls in one batch."""

MAX_BYTES = 64 * 1024
"""Of one text: a frame or a body. The drivers hold it, before the text is here."""

RequestId = str | int | float | None


class Call(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request object.

    Attributes:
        method: its name.
        params: the raw JSON of its params; empty where there are none.
        request_id: echoed in the response.
        wants_response: False for a notification.
    """

    method: str
    params: bytes = b""
    request_id: RequestId = None
    wants_response: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """Something that is no request object; it is answered with an error under a null id."""

    code: int
    message: str

    @property
    def reason(self) -> str:
        """For programs, in UPPER_SNAKE."""
        return "PARSE_ERROR" if self.code == PARSE_ERROR else "INVALID_REQUEST"


NOT_JSON = Malformed(code=PARSE_ERROR, message="Parse error: the text is not JSON.")


class Parsed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One frame or body: its parts in order, and whether the answer is an array."""

    parts: tuple[Call | Malformed, ...]
    is_batch: bool


class _Request(msgspec.Struct, gc=False):
    method: str
    jsonrpc: str
    params: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    id: str | int | float | msgspec.UnsetType | None = msgspec.UNSET


_REQUEST = msgspec.json.Decoder(_Request)
_BATCH = msgspec.json.Decoder(list[msgspec.Raw])
_ANYTHING = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()
_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def parse(text: bytes) -> Parsed:
    """Reads one frame or body, whatever it holds; never raises."""
    try:
        text.decode()  # params stay raw here, and msgspec looks at the encoding of nothing that it skips
        if text.lstrip(b" \t\r\n")[:1] != b"[":
            return Parsed(parts=(_part(text),), is_batch=False)
        raw = _BATCH.decode(text)
    except _BROKEN:
        return Parsed(parts=(NOT_JSON,), is_batch=False)
    if not raw:
        return _refused("Invalid request: the batch is empty.")
    if len(raw) > MAX_BATCH:
        return _refused(f"Invalid request: a batch holds at most {MAX_BATCH} calls.")
    return Parsed(parts=tuple(_part(bytes(item)) for item in raw), is_batch=True)


def _refused(message: str) -> Parsed:
    return Parsed(parts=(Malformed(code=INVALID_REQUEST, message=message),), is_batch=False)


def _part(text: bytes) -> Call | Malformed:
    try:
        request = _REQUEST.decode(text)
    except msgspec.ValidationError as error:
        if not _is_json(text):  # the decoder stops at the first thing that is wrong
            return NOT_JSON
        return Malformed(code=INVALID_REQUEST, message=f"Invalid request: {error}.")
    except _BROKEN:
        return NOT_JSON
    if request.jsonrpc != "2.0":
        return Malformed(code=INVALID_REQUEST, message='Invalid request: "jsonrpc" must be "2.0".')
    params = b"" if request.params is msgspec.UNSET else bytes(request.params)
    if params and params[:1] not in b"{[":
        return Malformed(
            code=INVALID_REQUEST, message="Invalid request: params must be an object or an array."
        )
    if request.id is msgspec.UNSET:
        return Call(method=request.method, params=params, wants_response=False)
    return Call(method=request.method, params=params, request_id=request.id)


def _is_json(text: bytes) -> bool:
    try:
        _ANYTHING.decode(text)
    except _BROKEN:
        return False
    return True


def result(request_id: RequestId, value: object) -> bytes:
    """The response to a call that went well; `value` is what msgspec can encode, or raw JSON."""
    return _ENCODER.encode({"jsonrpc": "2.0", "result": value, "id": request_id})


def error(request_id: RequestId, code: int, message: str, data: dict[str, Any] | None = None) -> bytes:
    """The response to a call that did not."""
    body: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        body["data"] = data
    return _ENCODER.encode({"jsonrpc": "2.0", "error": body, "id": request_id})


def notification(method: str, params: object) -> bytes:
    """A notification from the server."""
    return _ENCODER.encode({"jsonrpc": "2.0", "method": method, "params": params})


def join(responses: Sequence[bytes], *, is_batch: bool) -> bytes:
    """The text of an answer; empty where nothing is to be answered."""
    if not responses:
        return b""
    return b"[" + b",".join(responses) + b"]" if is_batch else responses[0]
