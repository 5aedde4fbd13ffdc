"""Lets clients in, on every transport: finds out whence they come, checks their tokens, keeps the limits."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from edge.addresses import Proxies
from edge.auth import Authenticator, Identity
from edge.door import REASONS, Door
from mesh import metrics
from mesh.errors import ResourceExhausted, Unauthenticated

TURNED_AWAY = metrics.counter(
    "messenger_edge_turned_away",
    "Handshakes, requests and sign-ins that were refused for the address that they came from.",
    ("reason",),
)
for _reason in REASONS:
    TURNED_AWAY.labels(_reason)  # is there, and 0, before the first


class Doorkeeper:
    """Stands before the transports.

    Args:
        authenticator: verifies tokens.
        proxies: whose word on a client's address counts.
        door: the limits an address.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        *,
        proxies: Proxies,
        door: Door,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._authenticator = authenticator
        self._proxies = proxies
        self._door = door
        self._clock = clock

    def address(self, peer: str, forwarded_for: Sequence[str], real_ip: str) -> str:
        """Under which address a client is counted; see `Proxies.client`."""
        return self._proxies.client(peer, forwarded_for, real_ip)

    def knock(self, address: str) -> None:
        """A client wants to open a WebSocket.

        Raises:
            ResourceExhausted: not from this address, not now.
        """
        with _counted():
            self._door.knock(address, self._clock())

    @contextlib.contextmanager
    def inside(self, address: str) -> Iterator[None]:
        """Counts a connection or request while it lasts.

        Raises:
            ResourceExhausted: there are too many from this address.
        """
        with _counted():
            self._door.may_enter(address)
        self._door.enter(address)
        try:
            yield
        finally:
            self._door.leave(address)

    async def identify(self, token: str, address: str) -> Identity:
        """The user that a token names.

        Raises:
            Unauthenticated: no token, or not one of ours, or over; the text says which.
            ResourceExhausted: too many from this address were none of ours; this one was not looked at.
            Unavailable: the issuer's keys cannot be had.
        """
        with _counted():
            self._door.may_sign_in(address, self._clock())
        try:
            return await self._authenticator.identify(token)
        except Unauthenticated as error:
            # One that is over was good once, and none at all costs nothing: only guesses count.
            if error.reason == "TOKEN_INVALID":
                self._door.failed(address, self._clock())
            raise


@contextlib.contextmanager
def _counted() -> Iterator[None]:
    try:
        yield
    except ResourceExhausted as refusal:
        TURNED_AWAY.labels(refusal.reason).add()
        raise
