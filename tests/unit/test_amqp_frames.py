"""Frames packed and read by hand, against pamqp, and against bytes cut anywhere."""

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import frame as pamqp_frame
from pamqp.body import ContentBody
from pamqp.commands import Basic, Queue
from pamqp.frame import FrameTypes
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from mesh.amqp import frames
from mesh.amqp.frames import Confirmed, Delivered, Event, Reader, Returned

HEADERS = {"attempt": 3, "cause": "späť", "published": 1_764_369_000_123, "x-death": [{"reason": "expired"}]}


def marshal(*parts: FrameTypes) -> bytes:
    """What a broker that uses pamqp would send."""
    return b"".join(pamqp_frame.marshal(part, frames.CHANNEL) for part in parts)


def content(body: bytes, size: int = 7, **properties: object) -> list[FrameTypes]:
    """A content's header, and its body in frames of so many bytes."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    header = ContentHeader(body_size=len(body), properties=Basic.Properties(**properties))  # type: ignore[arg-type]
    return [header, *map(ContentBody, parts)]


DELIVER = Basic.Deliver("consumer", 1, False, "exchange", "key")
STREAM = marshal(
    Queue.DeclareOk("queue", 3, 4),
    Basic.Deliver("consumer", 5, True, "exchange", "key"),
    *content(
        b"a body in several frames", headers=HEADERS, content_type="t", content_encoding="e", priority=4
    ),
    Heartbeat(),
    Basic.Ack(6, True),
    Basic.Nack(7, False),
    Basic.Deliver("", 8, False, "exchange", "key"),
    *content(b""),
    Basic.Return(312, "NO_ROUTE", "exchange", "key"),
    *content(b"back", headers=HEADERS, message_id="id"),
    Basic.Ack(10),
)
EVENTS = [
    Delivered(5, True, HEADERS, b"a body in several frames"),
    Confirmed(6, True, True),
    Confirmed(7, False, False),
    Delivered(8, False, {}, b""),
    Returned("id", "312 NO_ROUTE"),
    Confirmed(10, False, True),
]


def read(*pieces: bytes) -> list[Event]:
    """What a reader makes of them."""
    reader = Reader()
    return [event for piece in pieces for event in reader.feed(piece)]


def check(events: list[Event]) -> None:
    """The stream's events are all there."""
    declared, *others = events
    assert isinstance(declared, Queue.DeclareOk)
    assert (declared.queue, declared.message_count, declared.consumer_count) == ("queue", 3, 4)
    assert others == EVENTS


def test_any_fragmentation() -> None:
    """Wherever the network cuts the stream, in two, byte by byte or not at all, the events are the same."""
    check(read(STREAM))
    check(read(*(STREAM[at : at + 1] for at in range(len(STREAM)))))
    for cut in range(len(STREAM)):
        check(read(STREAM[:cut], STREAM[cut:]))


@pytest.mark.parametrize(
    "data",
    [
        b"AMQP\x00\x00\x09\x01",
        STREAM[:-1] + b"\x00",
        frames.FRAME.pack(frames.METHOD, 1, frames.FRAME_MAX),
        marshal(ContentBody(b"of nothing")),
        marshal(DELIVER, DELIVER),
        marshal(DELIVER, *content(b"four")[:1], ContentBody(b"too long")),
        frames.FRAME.pack(frames.METHOD, 1, 4) + b"\xff\xff\xff\xff\xce",
    ],
    ids=["other version", "no end", "too long", "no header", "no content", "long body", "no such method"],
)
def test_what_is_not_amqp(data: bytes) -> None:
    """What makes no sense is told as that, not waited for."""
    with pytest.raises(ValueError, match="not AMQP"):
        read(data + bytes(8))


@given(st.binary(max_size=60), st.integers(0, len(STREAM)), st.integers(0, 20))
def test_any_bytes(data: bytes, at: int, dropped: int) -> None:
    """No bytes at all, alone or amid good ones, raise anything but the one error."""
    for stream in (data, STREAM[:at] + data + STREAM[at + dropped :]):
        with contextlib.suppress(ValueError):
            read(stream)


headers = st.dictionaries(st.text(max_size=20), st.text(max_size=50) | st.integers(-(2**63), 2**63 - 1))


@given(headers, st.integers(0, 300), st.integers(20, 120))
def test_a_publish_is_what_pamqp_makes(given_headers: dict[str, str | int], size: int, most: int) -> None:
    """Byte for byte: mandatory, persistent, our content type, and no frame above the broker's size."""
    body = random.Random(size).randbytes(size)  # noqa: S311  # no secret
    assert frames.publish("exchange", "key", given_headers, "id", body, most) == marshal(
        Basic.Publish(exchange="exchange", routing_key="key", mandatory=True),
        *content(
            body,
            most - frames.OVERHEAD,
            headers=given_headers,
            content_type="application/x-protobuf",
            delivery_mode=2,
            priority=0,
            message_id="id",
        ),
    )


def test_settlements_are_what_pamqp_makes() -> None:
    """Byte for byte."""
    tag = 2**40
    assert frames.ack(tag) == marshal(Basic.Ack(tag))
    assert frames.nack(tag) == marshal(Basic.Nack(tag, requeue=True))
    assert frames.reject(tag) == marshal(Basic.Reject(tag, requeue=True))
    assert marshal(Heartbeat()) == frames.BEAT
