"""Frames of AMQP 0-9-1: the frequent ones packed and read by hand, all others by pamqp. Pure; no connection.

Source: https://www.rabbitmq.com/amqp-0-9-1-reference
"""

import struct
from collections.abc import Mapping
from functools import lru_cache
from struct import Struct
from typing import NamedTuple, cast

from pamqp import decode, encode
from pamqp import frame as pamqp_frame
from pamqp.base import Frame
from pamqp.commands import Basic
from pamqp.exceptions import PAMQPException
from pamqp.header import ContentHeader, ProtocolHeader

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
"""Types of frames."""

CHANNEL = 1
"""The one channel of a connection."""

FRAME = Struct(">BHI")
"""Type, channel, bytes of payload; `END` follows the payload."""
END = 0xCE
OVERHEAD = FRAME.size + 1
FRAME_MAX = 131_072
"""Bytes of a frame with its overhead, until the broker says less."""

CONTENT = Struct(">BHIHHQH")
"""A frame's head, the class, a weight of 0, bytes of the body, flags of the properties that follow."""
CONTENT_HEAD = Struct(">HHQH")
SETTLEMENT = Struct(">BHIIQBB")
"""A whole frame: its head, the method, the delivery's tag, bits, the end."""
INDEX = Struct(">I")
TAG = Struct(">QB")

CONTENT_TYPE, CONTENT_ENCODING, HEADERS = 0x8000, 0x4000, 0x2000
DELIVERY_MODE, PRIORITY, MESSAGE_ID = 0x1000, 0x0800, 0x0080
OURS = CONTENT_TYPE | HEADERS | DELIVERY_MODE | PRIORITY | MESSAGE_ID
"""Properties of what is published here."""
TYPE = encode.short_string("application/x-protobuf")
PERSISTENT = bytes((2, 0))
"""The delivery mode, and a priority of 0."""

BEAT = FRAME.pack(HEARTBEAT, 0, 0) + bytes((END,))


class Delivered(NamedTuple):
    """A message from a queue."""

    tag: int
    redelivered: bool
    headers: Mapping[str, object]
    body: bytes


class Confirmed(NamedTuple):
    """The broker's word on what was published: this tag, or all up to it."""

    tag: int
    multiple: bool
    taken: bool


class Returned(NamedTuple):
    """A message that no queue takes; its confirm is still to come."""

    message_id: str
    text: str


Event = Delivered | Confirmed | Returned | Frame


def method(frame: Frame, channel: int = CHANNEL) -> bytes:
    """Any method."""
    return pamqp_frame.marshal(frame, channel)


def protocol_header() -> bytes:
    """What a client begins with."""
    return ProtocolHeader().marshal()


def publish(
    exchange: str, routing_key: str, headers: Mapping[str, str | int], message_id: str, body: bytes, most: int
) -> bytes:
    """A mandatory, persistent message.

    Args:
        exchange: that takes it.
        routing_key: by which it goes on from there.
        headers: as consumers read them.
        message_id: comes back with it when no queue takes it.
        body: of any size.
        most: bytes of a frame.
    """
    properties = TYPE + encode.field_table({**headers}) + PERSISTENT + encode.short_string(message_id)
    size = CONTENT_HEAD.size + len(properties)
    parts = [
        _method_of(exchange, routing_key),
        CONTENT.pack(HEADER, CHANNEL, size, Basic.frame_id, 0, len(body), OURS),
        properties,
    ]
    step = most - OVERHEAD
    for at in range(0, len(body), step):
        part = body[at : at + step]
        parts += (b"\xce", FRAME.pack(BODY, CHANNEL, len(part)), part)
    parts.append(b"\xce")
    return b"".join(parts)


@lru_cache(maxsize=256)
def _method_of(exchange: str, routing_key: str) -> bytes:
    return method(Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=True))


def ack(tag: int) -> bytes:
    """Takes a delivery off its queue."""
    return SETTLEMENT.pack(METHOD, CHANNEL, 13, Basic.Ack.index, tag, 0, END)


def nack(tag: int) -> bytes:
    """Puts a delivery back."""
    return SETTLEMENT.pack(METHOD, CHANNEL, 13, Basic.Nack.index, tag, 2, END)


def reject(tag: int) -> bytes:
    """Puts a delivery back, a step towards its delivery limit."""
    return SETTLEMENT.pack(METHOD, CHANNEL, 13, Basic.Reject.index, tag, 1, END)


class Reader:
    """Bytes in, events out.

    Attributes:
        most: bytes that a frame may have.
    """

    def __init__(self) -> None:
        self.most = FRAME_MAX
        self._rest = b""
        self._method = b""  # the content's whose header or body is still to come
        self._header = b""
        self._parts: list[bytes] = []
        self._missing = 0

    def feed(self, data: bytes) -> list[Event]:
        """What these bytes complete; nothing after an error makes sense any more.

        Raises:
            ValueError: this is not AMQP.
        """
        try:
            return self._feed(self._rest + data if self._rest else data)
        except (struct.error, IndexError, TypeError, OverflowError, PAMQPException) as error:
            raise ValueError(f"not AMQP: {error}") from error

    def _feed(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        at, size = 0, len(data)
        while size - at >= OVERHEAD:
            kind, _, length = FRAME.unpack_from(data, at)
            if length > self.most - OVERHEAD:
                raise ValueError("not AMQP: a frame that is too long")
            begin = at + FRAME.size
            end = begin + length
            if end >= size:
                break
            if data[end] != END:
                raise ValueError("not AMQP: a frame without an end")
            event = self._frame(kind, data[begin:end])
            if event is not None:
                events.append(event)
            at = end + 1
        self._rest = data[at:]
        return events

    def _frame(self, kind: int, payload: bytes) -> Event | None:
        if kind == METHOD and not self._method:
            return self._take_method(payload)
        if kind == HEADER and self._method and not self._header:
            self._header = payload
            self._missing = CONTENT_HEAD.unpack_from(payload)[2]
            return None if self._missing else self._content()
        if kind == BODY and 0 < len(payload) <= self._missing:
            self._parts.append(payload)
            self._missing -= len(payload)
            return None if self._missing else self._content()
        if kind == HEARTBEAT:
            return None
        raise ValueError(f"not AMQP: an unexpected frame of type {kind}")

    def _take_method(self, payload: bytes) -> Event | None:
        index = INDEX.unpack_from(payload)[0]
        if index in (Basic.Deliver.index, Basic.Return.index):
            self._method = payload
            return None
        if index in (Basic.Ack.index, Basic.Nack.index):
            tag, bits = TAG.unpack_from(payload, INDEX.size)
            return Confirmed(tag, bool(bits & 1), index == Basic.Ack.index)
        return _unmarshal(payload)

    def _content(self) -> Event:
        method, header = self._method, self._header
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._method = self._header = b""
        self._parts = []
        index = INDEX.unpack_from(method)[0]
        if index == Basic.Return.index:
            return _returned(method, header)
        tag, bits = TAG.unpack_from(method, INDEX.size + 1 + method[INDEX.size])  # behind the consumer's
        return Delivered(tag, bool(bits & 1), _headers(header), body)


def _headers(header: bytes) -> Mapping[str, object]:
    flags = CONTENT_HEAD.unpack_from(header)[3]
    if not flags & HEADERS:
        return {}
    at = CONTENT_HEAD.size
    for other in (CONTENT_TYPE, CONTENT_ENCODING):  # what stands before them
        if flags & other:
            at += 1 + header[at]
    return decode.field_table(header[at:])[1]


def _returned(method: bytes, header: bytes) -> Returned:
    frame, content = cast(Basic.Return, _unmarshal(method)), ContentHeader()
    content.unmarshal(header)
    return Returned(content.properties.message_id or "", f"{frame.reply_code} {frame.reply_text}")


def _unmarshal(payload: bytes) -> Frame:
    whole = FRAME.pack(METHOD, CHANNEL, len(payload)) + payload + b"\xce"
    return cast(Frame, pamqp_frame.unmarshal(whole)[2])
