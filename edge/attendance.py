"""Says which users are at this edge, and tells those who look when somebody comes or goes."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from mesh.bus import Bus
from mesh.errors import Unavailable
from mesh.presence import TTL, Register
from messenger.events.v1 import notifications_pb2

log = structlog.get_logger()

LINGER = 5.0
"""Seconds that somebody whose last device left still counts as here: a reload, a change of networks."""

CHUNK = 500
"""Users in one round trip."""


class Attendance:
    """Keeps the register's word for this edge fresh.

    Args:
        register: who is where.
        bus: pushes changes to those who look.
    """

    def __init__(self, register: Register, bus: Bus) -> None:
        self._register = register
        self._bus = bus
        self._here: set[str] = set()
        self._arrived: set[str] = set()
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        self._left: set[str] = set()
        self._woken = asyncio.Event()

    def arrive(self, user_id: str) -> None:
        """A user's first device is here."""
        if leaving := self._leaving.pop(user_id, None):
            leaving.cancel()
        self._left.discard(user_id)
        if user_id not in self._here:
            self._arrived.add(user_id)
            self._woken.set()

    def leave(self, user_id: str) -> None:
        """A user's last device is gone."""
        self._leaving[user_id] = asyncio.get_running_loop().call_later(LINGER, self._has_left, user_id)

    def _has_left(self, user_id: str) -> None:
        self._leaving.pop(user_id, None)
        self._left.add(user_id)
        self._woken.set()

    async def run(self) -> None:
        """Tells the register until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TTL / 3):
                    await self._woken.wait()
            due = self._arrived if self._woken.is_set() else self._here | self._arrived
            self._woken.clear()
            await self._tell_here(set(due))
            await self._tell_gone(set(self._left))

    async def drain(self) -> None:
        """Says that everybody has left."""
        for timer in self._leaving.values():
            timer.cancel()
        await self._tell_gone(self._here | self._left)

    async def _tell_here(self, users: set[str]) -> None:
        for chunk in _chunks(users):
            try:
                await self._tell(await self._register.here(chunk), online=True)
            except Unavailable as error:
                log.warning("the register of presence does not answer", cause=error.detail)
                return  # the next round says it again
            self._here.update(chunk)
            self._arrived.difference_update(chunk)

    async def _tell_gone(self, users: set[str]) -> None:
        for chunk in _chunks(users):
            self._here.difference_update(chunk)
            self._left.difference_update(chunk)
            try:
                await self._tell(await self._register.gone(chunk), online=False)
            except Unavailable as error:
                log.warning("the register of presence does not answer", cause=error.detail)

    async def _tell(self, watchers: Mapping[str, list[str]], *, online: bool) -> None:
        now = Timestamp()
        now.GetCurrentTime()
        await self._bus.tell(
            [
                (watcher, _changed(user_id, online, now))
                for user_id, looking in watchers.items()
                for watcher in looking
            ]
        )


def _changed(user_id: str, online: bool, now: Timestamp) -> bytes:
    body = notifications_pb2.PresenceChanged(user_id=user_id, online=online, last_seen=now)
    return notifications_pb2.Notification(presence=body).SerializeToString()


def _chunks(users: Iterable[str]) -> Iterable[list[str]]:
    ordered = list(users)
    return (ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK))
