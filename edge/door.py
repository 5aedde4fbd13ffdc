"""What one address may do before anybody has signed in, pure: time is handed in, memory is bounded.

Each edge counts for itself. An address may stand for many people (NAT), so the numbers are for houses, not
persons: what one person may do is the business of the limits a user.
"""

from collections import Counter

from edge.addresses import UNKNOWN
from edge.limits import Limiter
from mesh.errors import ResourceExhausted

BURST_SECONDS = 10
"""A burst is what comes in so many seconds: those whose edge went away come back all at once."""

CONNECTIONS, HANDSHAKES, FAILURES = REASONS = (
    "TOO_MANY_CONNECTIONS", "TOO_MANY_HANDSHAKES", "TOO_MANY_FAILURES",
)  # fmt: skip
"""Why somebody is refused."""

FULL_RETRY_MS = 10_000
"""When somebody who found the house full may try again."""


class Door:
    """Counts what each address does; one that nobody knows is not counted.

    Args:
        connections: of one address at once.
        handshakes: of one address a second.
        failures: tokens a second that are none of ours, of one address.
        capacity: addresses remembered; beyond it the least recently seen is forgotten, and begins anew.
    """

    def __init__(
        self, *, connections: int, handshakes: float, failures: float, capacity: int = 100_000
    ) -> None:
        self._most = connections
        self._inside: Counter[str] = Counter()
        self._handshakes, self._failures = (
            Limiter(rate=rate, burst=max(rate * BURST_SECONDS, 1), capacity=capacity)
            for rate in (handshakes, failures)
        )

    def knock(self, address: str, now: float) -> None:
        """A client wants to open a WebSocket.

        Raises:
            ResourceExhausted: it may not now; the reason says why, and `retry_after_ms` when it may.
        """
        self.may_enter(address)
        self.may_sign_in(address, now)
        if address != UNKNOWN and (pause := self._handshakes.take(address, 1, now)):
            raise _refused("Too many connections were opened from here.", HANDSHAKES, pause)

    def may_enter(self, address: str) -> None:
        """Whether the address may have one connection or request more.

        Raises:
            ResourceExhausted: it may not.
        """
        if self._inside[address] >= self._most and address != UNKNOWN:
            raise ResourceExhausted(
                "Too many connections are open from here.",
                reason=CONNECTIONS,
                retry_after_ms=FULL_RETRY_MS,
            )

    def enter(self, address: str) -> None:
        """A connection or request begins; `leave` must follow."""
        self._inside[address] += 1

    def leave(self, address: str) -> None:
        """It is over."""
        self._inside[address] -= 1
        if not self._inside[address]:
            del self._inside[address]

    def may_sign_in(self, address: str, now: float) -> None:
        """Whether a token from there is looked at.

        Raises:
            ResourceExhausted: too many were none of ours.
        """
        if address != UNKNOWN and (pause := self._failures.wait(address, 1, now)):
            raise _refused("Too many tokens from here were not valid.", FAILURES, pause)

    def failed(self, address: str, now: float) -> None:
        """A token from there was none of ours."""
        if address != UNKNOWN:
            self._failures.take(address, 1, now)


def _refused(text: str, reason: str, pause: float) -> ResourceExhausted:
    return ResourceExhausted(text, reason=reason, retry_after_ms=int(pause * 1000) + 1)
