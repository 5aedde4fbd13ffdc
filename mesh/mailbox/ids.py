"""Message ids that sort as a chat is read, and chat ids that follow from who talks about what. Pure."""

import uuid
from collections.abc import Callable

# Never changes: every chat there is was named under it.
_CHATS = uuid.UUID("6f0c1d5e-3a57-4f0e-9a3b-0d6a3c2f8b11")

_TAIL_BITS = 62
_TAIL = (1 << _TAIL_BITS) - 1
_STEP_BITS = 32


def next_message_id(now_ns: int, after: str, random_bits: Callable[[int], int]) -> str:
    """A UUIDv7 greater than `after`, the greatest id that the chat holds ("" for none).

    The twelve bits next to the milliseconds hold their fraction (RFC 9562, section 6.2, method 3). Where the
    clock is not past `after`, the result is `after` plus a small random step: a later message sorts later
    whatever the clocks say, and two writers that continue from the same id still differ.

    Args:
        now_ns: nanoseconds since 1970.
        after: message id as text, or "".
        random_bits: gives a non-negative number of so many bits, as `random.getrandbits`.
    """
    milliseconds, rest_ns = divmod(now_ns, 1_000_000)
    fraction = (rest_ns << 12) // 1_000_000
    number = (milliseconds << 12 | fraction) << _TAIL_BITS | random_bits(_TAIL_BITS)
    if after and (least := _number(after)) >= number:
        number = least + 1 + random_bits(_STEP_BITS)
    return _text(number)


def chat_id(user_id: str, peer_id: str, item_id: str = "") -> str:
    """The id of the chat of two users about an item: the same from either side (UUIDv5).

    User ids hold no colon, so the name that is hashed reads in one way only.
    """
    low, high = sorted((user_id, peer_id))
    return str(uuid.uuid5(_CHATS, f"{low}:{high}:{item_id}"))


def _number(message_id: str) -> int:
    """The 122 bits of a UUIDv7 that count: all but version and variant."""
    value = uuid.UUID(message_id).int
    return (value >> 80) << 74 | (value >> 64 & 0xFFF) << _TAIL_BITS | value & _TAIL


def _text(number: int) -> str:
    head, fraction, tail = number >> 74, number >> _TAIL_BITS & 0xFFF, number & _TAIL
    return str(uuid.UUID(int=head << 80 | 0x7 << 76 | fraction << 64 | 0b10 << _TAIL_BITS | tail))
