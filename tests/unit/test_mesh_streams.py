"""Event ids and what a reader concludes from them, pure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import InvalidArgument
from mesh.streams import Entry, EventId, begins_after, continuation, parse_push

ids = st.builds(EventId, st.integers(0, 10**18 - 1), st.integers(0, 10**15 - 1), st.integers(0, 10**15 - 1))


def entries(*places: EventId) -> tuple[Entry, ...]:
    """Entries of a stream."""
    return tuple(Entry(event_id=place, payload=b"x") for place in places)


@given(ids)
def test_an_id_is_read_as_it_was_written(event_id: EventId) -> None:
    """Text and id stand for each other, also with the suffix of an event that the mailbox filled in."""
    assert EventId.parse(str(event_id)) == event_id
    assert EventId.parse(f"{event_id}.0b54a3c0-aaaa.17.x") == event_id


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever a client hands in is an id or an InvalidArgument."""
    try:
        EventId.parse(text)
    except InvalidArgument as error:
        assert "last_event_id" in error.detail  # noqa: PT017  # either way is right here


@pytest.mark.parametrize(
    "text",
    ["", "1", "1-2", "1-2-3-4", "a-b-c", "1-2--3", " 1-2-3", "1-2-3\n", "٣-1-1", "9" * 19 + "-1-1", "1-2-3."],
)  # fmt: skip
def test_what_no_server_wrote_is_refused(text: str) -> None:
    """Only what `str` writes is an id."""
    with pytest.raises(InvalidArgument):
        EventId.parse(text)


@given(st.integers(1, 10**9), st.integers(1, 10**9), st.integers(0, 10**9))
def test_order_within_an_epoch(one: int, other: int, epoch: int) -> None:
    """Within an epoch the greater number follows; another epoch always does, for nobody can tell."""
    first, second = EventId(epoch, one, 5), EventId(epoch, other, 3)
    assert first.follows(second) == (one > other)
    assert EventId(epoch + 1, 1, 0).follows(first)
    assert first.follows(EventId(epoch + 1, 1, 0))


@given(ids, st.lists(st.binary(), min_size=1))
def test_a_push_is_read_as_it_was_written(event_id: EventId, payloads: list[bytes]) -> None:
    """Payloads are any bytes, also such that look like ids; one push's entries are numbered on."""
    lengths = ",".join(str(len(payload)) for payload in payloads)
    pushed = parse_push(f"{event_id} {lengths} ".encode() + b"".join(payloads))
    assert pushed == tuple(
        Entry(event_id=EventId(event_id.epoch, event_id.n + index, event_id.ms), payload=payload)
        for index, payload in enumerate(payloads)
    )


@pytest.mark.parametrize("data", [b"7-1 3 abc", b"7-1-5", b"7-1-5 4 abc", b"7-1-5 2,x abc", b"x-1-5 3 abc"])
def test_what_is_no_push_of_the_bus_is_refused(data: bytes) -> None:
    """Wrong places, lengths and sums of lengths are noticed."""
    with pytest.raises(InvalidArgument):
        parse_push(data)


CURSOR = EventId(7, 3, 1000)


@pytest.mark.parametrize(
    ("found", "whole", "left"),
    [
        (entries(CURSOR), True, 0),
        (entries(CURSOR, EventId(7, 4, 1001)), True, 1),
        (entries(EventId(7, 4, 1001), EventId(7, 5, 1002)), True, 2),
        (entries(EventId(7, 5, 1002)), False, 1),
        (entries(EventId(8, 1, 1002)), False, 1),
        (entries(EventId(7, 3, 999), EventId(7, 4, 1001)), False, 2),
        ((), False, 0),
    ],
    ids=["nothing new", "one new", "trimmed", "a hole", "a new epoch", "counted again", "lost"],
)  # fmt: skip
def test_a_continuation(found: tuple[Entry, ...], whole: bool, left: int) -> None:
    """Entries follow a cursor without a gap when they begin with the very same entry, or with the next."""
    page = continuation(CURSOR, found)
    assert page.whole == whole
    assert len(page.entries) == left
    assert CURSOR not in [entry.event_id for entry in page.entries] or not whole


@pytest.mark.parametrize(
    ("found", "whole"),
    [
        ((), True),
        (entries(EventId(2_000_000, 1, 2000)), True),
        (entries(EventId(1_000_000, 1, 1000), EventId(1_000_000, 2, 1001)), True),
        (entries(EventId(2_000_000, 2, 2000)), False),
        (entries(EventId(999_999, 1, 999)), False),
    ],
    ids=["still nothing", "born later", "born in the same ms", "its first was trimmed", "born before"],
)
def test_a_stream_that_did_not_exist_yet(found: tuple[Entry, ...], whole: bool) -> None:
    """A cursor from before the stream is good where the stream began after it and has its first event."""
    assert begins_after(EventId(5, 0, 1000), found) == whole
