"""How many sessions each user has on this edge, pure: one too many sends the oldest away.

The oldest, for it is often a socket whose network is gone and that nobody has missed yet; to refuse the
newest would lock out who comes back.
"""

from typing import Protocol


class Session(Protocol):
    """A device that hears events, on any transport."""

    def dismiss(self) -> None:
        """Begins to end it, for its user has too many."""


class Sessions:
    """The users' sessions; memory is bounded by their number.

    Args:
        most: sessions of one user.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._of_user: dict[str, dict[Session, None]] = {}

    def enter(self, user_id: str, session: Session) -> None:
        """Counts a session in, once; dismisses the oldest, which is counted out, where there is no room."""
        sessions = self._of_user.setdefault(user_id, {})
        sessions[session] = None
        if len(sessions) > self._most:
            oldest = next(iter(sessions))
            del sessions[oldest]
            oldest.dismiss()

    def leave(self, user_id: str, session: Session) -> None:
        """Counts a session out; nothing happens where it is out already."""
        sessions = self._of_user.get(user_id, {})
        sessions.pop(session, None)
        if not sessions:
            self._of_user.pop(user_id, None)

    def __len__(self) -> int:
        return sum(len(sessions) for sessions in self._of_user.values())
