"""The life of one client's session, pure: time is handed in, what is to be done comes out.

NEW ── authenticated ──► LIVE ── told ──► EXPIRING ── token over ──► closed 4502
 └── nobody after connect_seconds ──► closed 4501      ▲ a younger token: LIVE again
"""

import enum
from dataclasses import dataclass

from edge.auth import Identity
from mesh.errors import PermissionDenied, Unauthenticated


class Close(enum.IntEnum):
    """WebSocket close codes: 4000–4499 come back, 4500–4999 do not without doing something else first."""

    DRAINING = 4000
    SLOW_CONSUMER = 4001
    OVERLOADED = 4002
    IDLE = 4003
    BAD_PROTOCOL = 4500
    NOT_AUTHENTICATED = 4501
    TOKEN_EXPIRED = 4502
    TOO_MANY_SESSIONS = 4503


class Due(enum.Enum):
    """What a session's clock asks for."""

    NOTHING = enum.auto()
    CLOSE_UNAUTHENTICATED = enum.auto()
    TELL_EXPIRING = enum.auto()
    CLOSE_EXPIRED = enum.auto()


@dataclass(slots=True)
class Session:
    """State of one session.

    Attributes:
        session_id: for logs and the client.
        opened_at: Unix time, seconds; so are all times here.
        connect_seconds: how long it may stay without a user.
        expiring_seconds: how long before its token's end the client is told.
    """

    session_id: str
    opened_at: float
    connect_seconds: float
    expiring_seconds: float
    identity: Identity | None = None
    _told: bool = False

    @property
    def user_id(self) -> str:
        """The session's user.

        Raises:
            Unauthenticated: nobody yet.
        """
        if self.identity is None:
            raise Unauthenticated("Call session.connect with a token first.", reason="NOT_CONNECTED")
        return self.identity.user_id

    def authenticate(self, identity: Identity) -> None:
        """Gives the session its user, or a younger token of the user that it has.

        Raises:
            PermissionDenied: the token is another user's.
        """
        if self.identity is not None and self.identity.user_id != identity.user_id:
            raise PermissionDenied(
                "The token is another user's; open another session for it.", reason="OTHER_USER"
            )
        self.identity = identity
        self._told = False

    def next_due(self) -> float:
        """When `due` should be asked again."""
        if self.identity is None:
            return self.opened_at + self.connect_seconds
        return self.identity.expires_at - (0 if self._told else self.expiring_seconds)

    def due(self, now: float) -> Due:
        """What the time `now` asks for; an expiring session is told once a token."""
        if now < self.next_due():
            return Due.NOTHING
        if self.identity is None:
            return Due.CLOSE_UNAUTHENTICATED
        if now >= self.identity.expires_at:
            return Due.CLOSE_EXPIRED
        self._told = True
        return Due.TELL_EXPIRING
