"""A session's clock, by time handed in."""

import pytest

from edge.auth import Identity
from edge.session import Close, Due, Session
from mesh.errors import PermissionDenied, Unauthenticated


@pytest.fixture
def session() -> Session:
    """Opened at 1000, with 10 s to authenticate and a warning 60 s before its token's end."""
    return Session(session_id="s", opened_at=1000.0, connect_seconds=10.0, expiring_seconds=60.0)


def alice(expires_at: float) -> Identity:
    """Alice until then."""
    return Identity(user_id="alice", expires_at=expires_at)


def test_nobody_comes(session: Session) -> None:
    """A socket that nobody authenticates is closed after its 10 s, not before."""
    assert session.next_due() == 1010
    assert session.due(1009.9) is Due.NOTHING
    assert session.due(1010) is Due.CLOSE_UNAUTHENTICATED
    with pytest.raises(Unauthenticated):
        _ = session.user_id


def test_a_token_comes_to_its_end(session: Session) -> None:
    """The client is told once, 60 s before; at the end the session is closed."""
    session.authenticate(alice(2000))
    assert session.user_id == "alice"
    assert session.next_due() == 1940
    assert session.due(1939) is Due.NOTHING
    assert session.due(1940) is Due.TELL_EXPIRING
    assert session.due(1941) is Due.NOTHING
    assert session.next_due() == 2000
    assert session.due(2000) is Due.CLOSE_EXPIRED


def test_a_younger_token(session: Session) -> None:
    """Another token of the user begins the cycle again, with another warning."""
    session.authenticate(alice(2000))
    assert session.due(1950) is Due.TELL_EXPIRING
    session.authenticate(alice(3000))
    assert session.due(2500) is Due.NOTHING
    assert session.due(2940) is Due.TELL_EXPIRING


def test_a_token_that_is_over_when_looked_at_late(session: Session) -> None:
    """A clock that was looked at late closes at once instead of warning first."""
    session.authenticate(alice(2000))
    assert session.due(2001) is Due.CLOSE_EXPIRED


def test_a_session_keeps_its_user(session: Session) -> None:
    """Another user's token is refused, and changes nothing."""
    session.authenticate(alice(2000))
    with pytest.raises(PermissionDenied):
        session.authenticate(Identity(user_id="bob", expires_at=9000))
    assert session.user_id == "alice"
    assert session.next_due() == 1940


def test_close_codes_say_whether_to_come_back() -> None:
    """The contract's codes: 4000 to 4499 come back, 4500 to 4999 do not just so."""
    codes = {code.name: int(code) for code in Close}
    assert codes == {
        "DRAINING": 4000, "SLOW_CONSUMER": 4001, "OVERLOADED": 4002, "IDLE": 4003,
        "BAD_PROTOCOL": 4500, "NOT_AUTHENTICATED": 4501, "TOKEN_EXPIRED": 4502, "TOO_MANY_SESSIONS": 4503,
    }  # fmt: skip
