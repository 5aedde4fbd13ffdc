"""Who is there and who types: ephemeral, so that a failure here is never a call's failure."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from aggregator import rules
from mesh import call
from mesh.breaker import Part
from mesh.bus import Bus
from mesh.errors import MessengerError
from mesh.presence import Presence, Register
from messenger.common.v1 import types_pb2
from messenger.events.v1 import notifications_pb2

log = structlog.get_logger()


class People:
    """Presence and typing. Each Redis node is a part of its own: one that is away costs only its users.

    Args:
        register: who is where.
        bus: pushes to those who are there.
        nodes: how many Redis nodes both are spread over.
        seconds: what all of it may cost an answer.
    """

    def __init__(self, register: Register, bus: Bus, *, nodes: int, seconds: float) -> None:
        self._register = register
        self._bus = bus
        self._seconds = seconds
        self._parts = [Part(f"{rules.PRESENCE} {node}", seconds=seconds) for node in range(nodes)]

    async def tell_typing(self, peer_id: str, chat_id: str, user_id: str) -> None:
        """Tells the peer's devices that the user types."""
        body = notifications_pb2.Typing(chat_id=chat_id, user_id=user_id)
        try:
            await self._tell(peer_id, notifications_pb2.Notification(typing=body))
        except MessengerError as error:
            log.debug("nobody was told of typing", cause=error.detail)

    async def look(
        self, user_id: str, people: Sequence[str], *, hidden: frozenset[str]
    ) -> list[types_pb2.Presence] | None:
        """How people are, in their order, and has the user told of their changes for the next minutes.

        Returns:
            None where the register does not answer. Who is hidden looks like somebody who was never there.
        """
        groups: dict[int, list[str]] = defaultdict(list)
        for person in dict.fromkeys(people):
            if person not in hidden:
                groups[self._bus.node_of(person)].append(person)
        try:
            answers = await asyncio.gather(*(self._ask(*group, user_id) for group in groups.items()))
        except MessengerError as error:
            log.debug("an answer goes without presence", cause=error.detail)
            return None
        found = {one.user_id: one for answer in answers for one in answer}
        return [_to_proto(found.get(person) or Presence(user_id=person, online=False)) for person in people]

    async def forget(self, one: str, other: str) -> None:
        """Neither sees the other any more, nor is told of changes."""
        with call.budget(self._seconds):
            await asyncio.gather(self._part_from(one, other), self._part_from(other, one))

    async def _part_from(self, watcher: str, person: str) -> None:
        try:
            async with self._parts[self._bus.node_of(person)].asked():
                await self._register.unwatch(watcher, person)
            body = notifications_pb2.PresenceChanged(user_id=person, online=False)
            await self._tell(watcher, notifications_pb2.Notification(presence=body))
        except MessengerError as error:
            log.debug("watching ends by itself in some minutes", cause=error.detail)

    async def _ask(self, node: int, people: Sequence[str], watcher: str) -> list[Presence]:
        async with self._parts[node].asked():
            found = await self._register.get(people)
            await self._register.watch(watcher, people)
            return found

    async def _tell(self, user_id: str, notification: notifications_pb2.Notification) -> None:
        async with self._parts[self._bus.node_of(user_id)].asked():
            await self._bus.tell([(user_id, notification.SerializeToString())])


def _to_proto(presence: Presence) -> types_pb2.Presence:
    message = types_pb2.Presence(user_id=presence.user_id, online=presence.online)
    if presence.last_seen_ms:
        seen = Timestamp()
        seen.FromMilliseconds(presence.last_seen_ms)
        message.last_seen.CopyFrom(seen)
    return message
