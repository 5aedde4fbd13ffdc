"""Who is there and who types: ephemeral, so that a failure here is never a call's failure."""

from collections.abc import Sequence

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from mesh.bus import Bus
from mesh.errors import MessengerError
from mesh.presence import Presence, Register
from messenger.common.v1 import types_pb2
from messenger.events.v1 import notifications_pb2

log = structlog.get_logger()


class People:
    """Presence and typing.

    Args:
        register: who is where.
        bus: pushes to those who are there.
    """

    def __init__(self, register: Register, bus: Bus) -> None:
        self._register = register
        self._bus = bus

    async def tell_typing(self, peer_id: str, chat_id: str, user_id: str) -> None:
        """Tells the peer's devices that the user types."""
        body = notifications_pb2.Typing(chat_id=chat_id, user_id=user_id)
        payload = notifications_pb2.Notification(typing=body).SerializeToString()
        try:
            await self._bus.tell([(peer_id, payload)])
        except MessengerError as error:
            log.info("nobody was told of typing", cause=error.detail)

    async def look(
        self, user_id: str, people: Sequence[str], *, hidden: frozenset[str]
    ) -> list[types_pb2.Presence] | None:
        """How people are, in their order, and has the user told of their changes for the next minutes.

        Returns:
            None where the register does not answer. Who is hidden looks like somebody who was never there.
        """
        seen = [person for person in dict.fromkeys(people) if person not in hidden]
        try:
            found = {one.user_id: one for one in await self._register.get(seen)}
            await self._register.watch(user_id, seen)
        except MessengerError as error:
            log.info("an answer goes without presence", cause=error.detail)
            return None
        return [_to_proto(found.get(person) or Presence(user_id=person, online=False)) for person in people]

    async def forget(self, one: str, other: str) -> None:
        """Neither sees the other any more, nor is told of changes."""
        try:
            await self._register.unwatch(one, other)
            await self._register.unwatch(other, one)
            await self._bus.tell([(one, _unseen(other)), (other, _unseen(one))])
        except MessengerError as error:
            log.info("watching ends by itself in some minutes", cause=error.detail)


def _unseen(user_id: str) -> bytes:
    body = notifications_pb2.PresenceChanged(user_id=user_id, online=False)
    return notifications_pb2.Notification(presence=body).SerializeToString()


def _to_proto(presence: Presence) -> types_pb2.Presence:
    message = types_pb2.Presence(user_id=presence.user_id, online=presence.online)
    if presence.last_seen_ms:
        seen = Timestamp()
        seen.FromMilliseconds(presence.last_seen_ms)
        message.last_seen.CopyFrom(seen)
    return message
