"""What travels on a shared stream: pure. MessagePack, written by position."""

from typing import Any

import msgspec

SERVICE = "messenger.mesh.v1.Sharing"
METHOD = f"/{SERVICE}/Share"

MAX_FRAME = 256 * 1024
"""Bytes of payload after which a frame takes no further call; one call may be larger."""

LINGER = 0.001
"""Seconds that a frame waits for more to carry where that pays: to write one costs as much as a call does."""

MANY = 4
"""With fewer calls under way on a stream none waits for others."""

NOT_SHARED = -1
"""The code of an answer that says: this method is not served on streams; call it plainly."""


class Ask(msgspec.Struct, array_like=True, gc=False):
    """A call.

    Attributes:
        number: its number on this stream.
        method: `/package.Service/Method`.
        payload: the serialized request.
        seconds: what its caller gives it.
        metadata: as of a plain call.
    """

    number: int
    method: str
    payload: bytes
    seconds: float
    metadata: list[tuple[str, str]]


class Answer(msgspec.Struct, array_like=True, gc=False):
    """What a call was answered with.

    Attributes:
        number: of the call.
        payload: the serialized response; empty after an error.
        code: gRPC's status number, or NOT_SHARED.
        detail: its text.
        trailers: trailing metadata.
    """

    number: int
    payload: bytes
    code: int = 0
    detail: str = ""
    trailers: list[tuple[str, bytes]] = []


class Asks(msgspec.Struct, array_like=True, gc=False):
    """A frame of the caller's: calls, and the numbers of calls that nobody waits for any more."""

    asks: list[Ask]
    dropped: list[int]


class Answers(msgspec.Struct, array_like=True, gc=False):
    """A frame of the server's. `leaving`: send nothing more here; what was sent is answered still."""

    answers: list[Answer]
    leaving: bool = False


encode = msgspec.msgpack.Encoder().encode
decode_asks = msgspec.msgpack.Decoder(Asks).decode
decode_answers = msgspec.msgpack.Decoder(Answers).decode


def waits(ready: int, under_way: int) -> bool:
    """Whether a frame should linger: there are many calls, and most are yet to come.

    Args:
        ready: calls or answers that it would carry now.
        under_way: calls on its stream, these among them.
    """
    return under_way >= MANY and 2 * ready < under_way


def take(waiting: list[Any], size: int = MAX_FRAME) -> list[Any]:
    """Takes from the front what makes one frame: at least one, and no more payload than `size`."""
    count, room = 0, size
    for one in waiting:
        room -= len(one.payload)
        if room < 0 and count:
            break
        count += 1
    taken = waiting[:count]
    del waiting[:count]
    return taken
