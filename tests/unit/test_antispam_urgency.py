"""Which messages are judged together."""

from hypothesis import given
from hypothesis import strategies as st

from antispam.urgency import Group, groups


def test_who_has_waited_goes_first() -> None:
    """Fresh messages have all the time that judging takes; the others do not hold them up, nor wait."""
    assert groups([0.9, 0.1, -0.2, 0.15, 0.05], 0.15) == [
        Group(members=(0, 3), seconds=0.15),
        Group(members=(1, 4), seconds=0.05),
        Group(members=(2,), seconds=0.0),
    ]
    assert groups([], 0.15) == []


@given(st.lists(st.floats(-5, 5)), st.floats(0.01, 2))
def test_nobody_is_lost_or_kept_too_long(left: list[float], enough: float) -> None:
    """Each message is in exactly one group, whose time is never more than the message's own."""
    found = groups(left, enough)
    assert sorted(place for group in found for place in group.members) == list(range(len(left)))
    for group in found:
        assert list(group.members) == sorted(group.members)
        assert all(group.seconds <= max(left[place], 0) for place in group.members)
