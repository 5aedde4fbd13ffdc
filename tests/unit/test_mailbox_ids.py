"""Message ids sort as they were made, whatever the clocks say; chat ids follow from who talks about what."""

import uuid
from collections.abc import Callable
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from mesh.mailbox.ids import chat_id, next_message_id

NOW_NS = 1_790_000_000_000_000_000
times = st.integers(min_value=0, max_value=4 * NOW_NS)
randoms = st.randoms(use_true_random=False)
users = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)
items = st.from_regex(r"[A-Za-z0-9_.-]{0,64}", fullmatch=True)


def bits(seed: int) -> Callable[[int], int]:
    """Random bits that are the same in every run."""
    return Random(seed).getrandbits  # noqa: S311 - repeatable, not secret


@given(st.lists(times, min_size=2), randoms)
def test_each_id_is_greater_than_the_one_before(clock: list[int], random: Random) -> None:
    """Text order is the order of making, with a clock that jumps as it likes."""
    made = [""]
    for now_ns in clock:
        made.append(next_message_id(now_ns, made[-1], random.getrandbits))
    assert made == sorted(set(made))


@given(times, randoms)
def test_an_id_is_a_uuid_of_version_7(now_ns: int, random: Random) -> None:
    """Version, variant and milliseconds stand where RFC 9562 has them."""
    made = uuid.UUID(next_message_id(now_ns, "", random.getrandbits))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == now_ns // 1_000_000


@given(times, randoms)
def test_continued_ids_keep_the_form(now_ns: int, random: Random) -> None:
    """An id that continues from a clock ahead, or carries over all its bits, is still a UUIDv7."""
    full = str(uuid.UUID(int=(now_ns // 1_000_000) << 80 | 0x7FFF << 64 | 0b10 << 62 | (1 << 62) - 1))
    made = next_message_id(0, full, random.getrandbits)
    assert made > full
    assert (uuid.UUID(made).version, uuid.UUID(made).variant) == (7, uuid.RFC_4122)


@given(st.integers(min_value=0, max_value=999_000))
def test_ids_of_one_millisecond_follow_its_fraction(rest_ns: int) -> None:
    """Two processes with good clocks are in order down to a quarter of a microsecond."""
    earlier = next_message_id(NOW_NS + rest_ns, "", bits(1))
    later = next_message_id(NOW_NS + rest_ns + 250, "", bits(2))
    assert earlier < later


def test_two_that_continue_from_the_same_id_differ() -> None:
    """Both sides may answer the same message at once."""
    ahead = next_message_id(2 * NOW_NS, "", bits(1))
    made = {next_message_id(NOW_NS, ahead, bits(seed)) for seed in range(100)}
    assert len(made) == 100


@given(users, users, items)
def test_a_chat_is_the_same_from_either_side(ann: str, bob: str, item: str) -> None:
    """The order of the two does not matter."""
    assert chat_id(ann, bob, item) == chat_id(bob, ann, item)


@given(st.tuples(users, users, items), st.tuples(users, users, items))
def test_different_chats_have_different_ids(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    """No two triples run together into the same name."""
    same = ({*one[:2]}, one[2]) == ({*other[:2]}, other[2])
    assert (chat_id(*one) == chat_id(*other)) == same


def test_a_chat_keeps_its_id_for_ever() -> None:
    """Data lies under these ids: a change of the rule would lose it."""
    assert chat_id("ann", "bob", "item-1") == "f3e13357-67d4-5dc6-9bf6-ff283be3e25d"
    assert chat_id("ann", "b", "item") != chat_id("ann", "b", "")
