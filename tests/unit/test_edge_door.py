"""What one address may do before anybody has signed in, by a clock that the test holds."""

from collections.abc import Callable

import pytest

from edge.addresses import UNKNOWN
from edge.door import BURST_SECONDS, FULL_RETRY_MS, Door
from mesh.errors import ResourceExhausted

HERE, THERE = "203.0.113.7", "198.51.100.1"


def refusal(attempt: Callable[[], None]) -> ResourceExhausted:
    """The error of what must be refused."""
    with pytest.raises(ResourceExhausted) as caught:
        attempt()
    return caught.value


def test_connections_at_once() -> None:
    """An address has so many at once; when one leaves the next may come; other addresses are not touched."""
    door = Door(connections=2, handshakes=100, failures=1)
    for _ in range(2):
        door.knock(HERE, 0.0)
        door.enter(HERE)
    refused = refusal(lambda: door.knock(HERE, 0.0))
    assert (refused.reason, refused.retry_after_ms) == ("TOO_MANY_CONNECTIONS", FULL_RETRY_MS)
    assert refusal(lambda: door.may_enter(HERE)).reason == "TOO_MANY_CONNECTIONS"
    door.knock(THERE, 0.0)
    door.leave(HERE)
    door.knock(HERE, 0.0)


def test_handshakes_a_second() -> None:
    """After its burst an address opens so many a second, is told when, and what was refused costs nothing."""
    door = Door(connections=1_000, handshakes=2, failures=1)
    for _ in range(2 * BURST_SECONDS):
        door.knock(HERE, 0.0)
    refused = refusal(lambda: door.knock(HERE, 0.0))
    assert (refused.reason, refused.retry_after_ms) == ("TOO_MANY_HANDSHAKES", 501)
    door.knock(THERE, 0.0)
    refusal(lambda: door.knock(HERE, 0.4))
    door.knock(HERE, 0.5)
    refusal(lambda: door.knock(HERE, 0.5))


def test_failed_tokens() -> None:
    """An address that guesses may neither sign in nor open sockets for a while; good tokens cost nothing."""
    door = Door(connections=1_000, handshakes=1_000, failures=0.5)
    for _ in range(100):
        door.may_sign_in(HERE, 0.0)
    for _ in range(5):
        door.may_sign_in(HERE, 0.0)
        door.failed(HERE, 0.0)
    refused = refusal(lambda: door.may_sign_in(HERE, 0.0))
    assert (refused.reason, refused.retry_after_ms) == ("TOO_MANY_FAILURES", 2001)
    assert refusal(lambda: door.knock(HERE, 0.0)).reason == "TOO_MANY_FAILURES"
    door.may_sign_in(THERE, 0.0)
    refusal(lambda: door.may_sign_in(HERE, 1.9))
    door.may_sign_in(HERE, 2.0)
    door.knock(HERE, 2.0)


def test_a_slow_limit_lets_one_through() -> None:
    """Also where ten seconds hold less than one, the first may."""
    door = Door(connections=1, handshakes=0.01, failures=0.01)
    door.knock(HERE, 0.0)
    refusal(lambda: door.knock(HERE, 0.0))


def test_nobody_known_is_not_counted() -> None:
    """Those of whom only a proxy is known share no limit: they would take it from each other."""
    door = Door(connections=1, handshakes=0.1, failures=0.1)
    for _ in range(50):
        door.knock(UNKNOWN, 0.0)
        door.enter(UNKNOWN)
        door.failed(UNKNOWN, 0.0)


def test_memory_is_bounded() -> None:
    """However many addresses come, so many are remembered; one with connections is not forgotten."""
    door = Door(connections=1, handshakes=0.1, failures=0.1, capacity=10)
    door.enter(HERE)
    for number in range(1_000):
        door.knock(f"198.51.{number // 250}.{number % 250}", 0.0)
        door.failed(f"198.51.{number // 250}.{number % 250}", 0.0)
    assert len(door._handshakes) == len(door._failures) == 10
    assert refusal(lambda: door.knock(HERE, 0.0)).reason == "TOO_MANY_CONNECTIONS"
    door.leave(HERE)
    assert not door._inside
