"""How many sessions a user has."""

from edge.sessions import Sessions


class Device:
    """A session that can be told to go."""

    def __init__(self) -> None:
        self.dismissed = 0

    def dismiss(self) -> None:
        self.dismissed += 1


def test_the_oldest_goes() -> None:
    """One session too many sends the oldest away, once; another user's are not touched."""
    sessions, devices, other = Sessions(2), [Device() for _ in range(4)], Device()
    sessions.enter("bob", other)
    for device in devices:
        sessions.enter("ann", device)
    assert [device.dismissed for device in devices] == [1, 1, 0, 0]
    assert not other.dismissed
    assert len(sessions) == 3


def test_who_signs_in_again_is_counted_once() -> None:
    """A session that comes in twice takes one place, and keeps its age."""
    sessions, first, second = Sessions(2), Device(), Device()
    for device in (first, second, first):
        sessions.enter("ann", device)
    assert not first.dismissed
    sessions.enter("ann", Device())
    assert (first.dismissed, second.dismissed) == (1, 0)


def test_who_leaves_makes_room() -> None:
    """A place is free again, and nothing is kept of those who left, in whatever order."""
    sessions, devices = Sessions(1), [Device() for _ in range(3)]
    for device in devices:
        sessions.enter("ann", device)
        sessions.leave("ann", device)
        sessions.leave("ann", device)
    assert not any(device.dismissed for device in devices)
    assert len(sessions) == 0
    assert not sessions._of_user
