"""What a user's stream says: event ids, entries, whether anything is missing, and what is pushed. Pure.

A stream's entry ids are `<epoch>-<n>`: the epoch is when the stream was born (µs), n counts its events. So a
reader sees by the numbers alone whether anything is missing. A stream that was lost has another epoch when it
begins again, and so has every stream of a node that was restarted: it may lack the last events that it took.
"""

import re
from dataclasses import dataclass
from itertools import accumulate

import msgspec

from mesh.errors import InvalidArgument


class EventId(msgspec.Struct, frozen=True, gc=False):
    """Where an event stands in its user's stream; the cursor for catching up. Opaque text to clients.

    Attributes:
        epoch: birth of the stream, µs; of the node's data where that holds none of the user (n is 0).
        n: 1, 2, 3 … within the epoch.
        ms: when it was published, Unix time in ms.
    """

    epoch: int
    n: int
    ms: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.n}-{self.ms}"

    def follows(self, other: "EventId") -> bool:
        """Whether this event comes after `other`, or belongs to another epoch, where nobody can tell."""
        return self.epoch != other.epoch or self.n > other.n

    def is_next_after(self, other: "EventId") -> bool:
        """Whether no event of the user lies between `other` and this one."""
        return self.n == (other.n + 1 if self.epoch == other.epoch else 1)

    @classmethod
    def parse(cls, text: str) -> "EventId":
        """Reads what `str` wrote; a suffix after a full stop is not part of the place.

        Raises:
            InvalidArgument: no event id looks like that.
        """
        found = _EVENT_ID.fullmatch(text)
        if not found:
            raise InvalidArgument(
                "last_event_id: not an event id; hand in one that the server sent, or none."
            )
        return cls(*(int(part) for part in found.groups()))


_EVENT_ID = re.compile(r"([0-9]{1,18})-([0-9]{1,15})-([0-9]{1,15})(?:\.[A-Za-z0-9.-]{1,128})?")


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event of a user: its id, and a serialized `messenger.events.v1.Notification`."""

    event_id: EventId
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a stream holds after a cursor, oldest first.

    Attributes:
        entries: at most as many as were asked for.
        whole: nothing is missing between the cursor and the first entry.
    """

    entries: tuple[Entry, ...]
    whole: bool


def stream_of(user_id: str) -> str:
    """The key of a user's stream."""
    return f"events:{user_id}"


def channel_of(user_id: str) -> str:
    """The PUB/SUB channel of a user."""
    return f"push:{user_id}"


def parse_push(data: bytes) -> tuple[Entry, ...] | bytes:
    """Reads what came over PUB/SUB: entries of the stream, or the bare payload of an ephemeral event.

    Entries come as `<epoch>-<n>-<ms> <length>,<length>… <payload><payload>…`; n is the first one's.

    Raises:
        InvalidArgument: it is neither.
    """
    place, _, rest = data.partition(b" ")
    if not place:
        return rest
    lengths, _, payloads = rest.partition(b" ")
    try:
        epoch, n, ms = map(int, place.split(b"-"))
        ends = tuple(accumulate(map(int, lengths.split(b","))))
    except ValueError:
        raise InvalidArgument("The push does not look like one of the bus.") from None
    if ends[-1] != len(payloads):
        raise InvalidArgument("The push is not as long as it says.")
    return tuple(
        Entry(event_id=EventId(epoch, n + index, ms), payload=payloads[start:end])
        for index, (start, end) in enumerate(zip((0, *ends), ends, strict=False))
    )


def read_entry(entry_id: str, fields: dict[bytes, bytes]) -> Entry:
    """What a stream holds under an id, `<epoch>-<n>`."""
    epoch, _, n = entry_id.partition("-")
    return Entry(event_id=EventId(int(epoch), int(n), int(fields[b"t"])), payload=fields[b"p"])


def continuation(cursor: EventId, entries: tuple[Entry, ...]) -> Page:
    """Decides whether entries read from the cursor's own place on follow it without a gap.

    The cursor's own entry must be there and be the same one (a node that lost its last second counts the same
    numbers again), or the very next one must.
    """
    if not entries:
        return Page(entries=(), whole=False)
    first = entries[0].event_id
    if first == cursor:
        return Page(entries=entries[1:], whole=True)
    return Page(entries=entries, whole=(first.epoch, first.n) == (cursor.epoch, cursor.n + 1))


def begins_after(cursor: EventId, entries: tuple[Entry, ...]) -> bool:
    """Whether a stream that did not exist at the cursor is complete from its first event on."""
    if not entries:
        return True
    first = entries[0].event_id
    return first.n == 1 and first.epoch >= cursor.ms * 1000
