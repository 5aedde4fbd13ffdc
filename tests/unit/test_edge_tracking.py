"""What a client keeps in mind, pure."""

from hypothesis import given
from hypothesis import strategies as st

from edge.rpc import comes_back
from edge.tracking import Backoff, Gaps, Seen


def test_an_event_is_new_once() -> None:
    """The same id again is not new, until it has been forgotten behind enough others."""
    seen = Seen(limit=2)
    assert [seen.add(text) for text in "abacba"] == [True, True, False, True, False, True]


def test_a_hole() -> None:
    """A client that holds 6 and is pushed 8 misses 7, and nothing once it has it."""
    gaps = Gaps()
    gaps.hold("c", 6)
    assert gaps.missing("c") == set()
    gaps.hold("c", 8)
    assert gaps.missing("c") == {7}
    gaps.hold("c", 7)
    assert gaps.missing("c") == set()
    gaps.expect("c", 10)
    assert gaps.missing("c") == {9, 10}


def test_what_was_there_before_is_no_hole() -> None:
    """A chat that is first heard of at 50 misses nothing; nor does an unknown or a forgotten one."""
    gaps = Gaps()
    gaps.expect("c", 50)
    assert gaps.missing("c") == gaps.missing("other") == set()
    gaps.expect("c", 51)
    gaps.forget("c")
    assert gaps.missing("c") == set()
    gaps.expect("c", 60)
    gaps.expect("c", 61)
    gaps.forget()
    assert gaps.missing("c") == set()


@given(st.permutations(list(range(2, 12))), st.integers(0, 10))
def test_any_order(seqs: list[int], held: int) -> None:
    """In whatever order messages come, exactly those that have not come yet are missing."""
    gaps = Gaps()
    gaps.hold("c", 1)
    gaps.expect("c", 11)
    for seq in seqs[:held]:
        gaps.hold("c", seq)
        gaps.hold("c", seq)
    assert gaps.missing("c") == set(seqs[held:])


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_pauses(failures: int, chance: float) -> None:
    """Pauses grow with the failures, spread from nothing up, and are bounded."""
    backoff = Backoff(first=0.5, most=30)
    assert 0 <= backoff.pause(failures, chance) <= min(30, 0.5 * 2 ** min(failures, 10))
    assert backoff.pause(3, 1.0) == 4
    assert backoff.pause(99, 1.0) == 30


def test_close_codes() -> None:
    """4500 to 4999 do not come back by themselves; everything else does."""
    codes = (1000, 1006, 1009, 4000, 4499, 4500, 4501, 4999, 5000)
    assert [code for code in codes if not comes_back(code)] == [4500, 4501, 4999]
