"""Keeps a client's session going: which link, when to come back, with which token. Knows no call or event."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import structlog

from edge.links import Frame, Link, PollLink, SocketLink, Times
from edge.rpc import NOT_AUTHENTICATED, TOKEN_EXPIRED, Ended, comes_back
from edge.tracking import Backoff

log = structlog.get_logger()

Refresh = Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What a client does about its sessions; none of it blocks.

    Attributes:
        cursor: the last event that it has, for the next session.
        begin: a session begins, with this result of session.connect.
        receive: takes every frame of it.
        state: see `Client.state`.
    """

    cursor: Callable[[], str]
    begin: Callable[[Frame], None]
    receive: Callable[[Frame], None]
    state: Callable[[dict[str, Any]], None]


class Comeback:
    """One session after the other, until one is refused for good.

    Args:
        url: the messenger's address.
        token: a JWT.
        refresh: gets a younger one.
        backoff: pauses between attempts.
        times: how long everything else may take.
        hooks: the client's.

    Attributes:
        token: the youngest one.
        link: where requests go; None while there is no session.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        refresh: Refresh | None,
        backoff: Backoff,
        times: Times,
        hooks: Hooks,
    ) -> None:
        self.token = token
        self.link: Link | None = None
        self._url = url.rstrip("/")
        self._refresh = refresh
        self._backoff = backoff
        self._times = times
        self._hooks = hooks
        self._poll_seconds = times.poll
        self._current: Link | None = None
        self._began: float | None = None
        self._return_at: float | None = None
        self._woken = asyncio.Event()

    async def run(self) -> Ended:
        """Returns how the last session ended, which was refused for good."""
        failures = 0
        while True:
            self._hooks.state({"name": "connecting"})
            ended = await self._session()
            if not comes_back(ended.code) and not await self.renew(ended.code):
                return ended
            lived = time.monotonic() - self._began if self._began is not None else 0.0
            failures = 0 if lived > self._times.stable else failures
            pause = self.pause(failures) if ended.pause is None else ended.pause
            failures += 1
            if pause > 0:
                await self._wait(pause)

    def pause(self, failures: int) -> float:
        """Seconds to wait before the next attempt."""
        return self._backoff.pause(failures, random.random())  # noqa: S311  # spreads load

    def leave(self, after: float) -> None:
        """Ends the session in so many seconds, or when the edge does, and comes back at that time."""
        if self._current is not None:
            self._return_at = time.monotonic() + after
            self._current.end_in(after)

    async def wake(self) -> None:
        """Waits no longer, or sees whether the other side is still there."""
        self._woken.set()
        if self.link is not None:
            await self.link.check()

    async def renew(self, close_code: int = TOKEN_EXPIRED) -> bool:
        """Gets another token, where that is what the server asks for; whether there is one."""
        if close_code not in (NOT_AUTHENTICATED, TOKEN_EXPIRED) or self._refresh is None:
            return False
        try:
            token = await self._refresh()
        except Exception as error:  # whatever the caller's hook meets, there is no token
            log.warning("no younger token", cause=repr(error))
            return False
        if not token or token == self.token:
            return False
        self.token = token
        return True

    async def _session(self) -> Ended:
        """One session, on a WebSocket, or on HTTP where that cannot be opened."""
        socket = SocketLink(self._url, self._times, self._hooks.receive)
        ended = await self._live(socket)
        if socket.opened:
            return ended
        poll = PollLink(self._url, self._times, self._hooks.receive, self._poll_seconds)
        ended = await self._live(poll)
        if poll.opened:
            self._poll_seconds = min(self._times.poll_most, self._poll_seconds * 2)
        return ended

    async def _live(self, link: Link) -> Ended:
        self._current, self._began, self._return_at = link, None, None

        def begin(session: Frame) -> None:
            self.link, self._began = link, time.monotonic()
            if isinstance(link, SocketLink):
                self._poll_seconds = self._times.poll
            self._hooks.state({"name": "online", "transport": link.transport})
            self._hooks.begin(session)

        try:
            ended = await link.run(self.token, self._hooks.cursor(), begin)
        finally:
            self.link = self._current = None
        if self._return_at is None:
            return ended
        return replace(ended, pause=self._return_at - time.monotonic())

    async def _wait(self, pause: float) -> None:
        self._hooks.state({"name": "waiting", "retry_at": time.time() + pause})
        self._woken.clear()
        try:
            async with asyncio.timeout(pause):
                await self._woken.wait()
        except TimeoutError:
            pass
