"""What the aggregator's answers show of profiles and items, and what they ask for it."""

from typing import Any, cast

import pytest

from aggregator.parts import Parts
from mesh.errors import Unavailable
from messenger.common.v1 import types_pb2
from messenger.profiles.v1 import profiles_pb2


class Clock:
    """Seconds that the test tells."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Profiles:
    """A profiles service that knows who is in `names`, and notes what it is asked."""

    def __init__(self, **names: str) -> None:
        self.names = names
        self.asked: list[list[str]] = []
        self.down = False

    async def BatchGetProfiles(  # noqa: N802
        self, request: profiles_pb2.BatchGetProfilesRequest
    ) -> profiles_pb2.BatchGetProfilesResponse:
        """The profiles of those who are known."""
        self.asked.append(list(request.user_ids))
        if self.down:
            raise Unavailable("no profiles now")
        known = [one for one in request.user_ids if one in self.names]
        return profiles_pb2.BatchGetProfilesResponse(
            profiles=[profiles_pb2.Profile(user_id=one, name=self.names[one]) for one in known]
        )


@pytest.fixture
def profiles() -> Profiles:
    """Knows two of three."""
    return Profiles(ann="Ann", bob="Bob")


@pytest.fixture
def clock() -> Clock:
    """Stands still."""
    return Clock()


@pytest.fixture
def parts(profiles: Profiles, clock: Clock) -> Parts:
    """Takes what it was told for current for ten seconds."""
    return Parts(cast(Any, profiles), cast(Any, None), seconds=5, remembered_s=10, clock=clock)


async def names(parts: Parts, *peers: str) -> tuple[dict[str, str], list[str]]:
    """What chats with these people show, and which parts did not answer."""
    chats = [types_pb2.Chat(peer=types_pb2.Peer(user_id=peer)) for peer in peers]
    degraded = await parts.enrich(chats)
    return {chat.peer.user_id: chat.peer.name for chat in chats}, degraded


async def test_only_who_is_not_known_is_asked_for(parts: Parts, profiles: Profiles) -> None:
    """A profile, or that there is none, is remembered; an answer asks for the others alone."""
    assert await names(parts, "ann", "carl") == ({"ann": "Ann", "carl": ""}, [])
    assert await names(parts, "ann", "bob", "carl") == ({"ann": "Ann", "bob": "Bob", "carl": ""}, [])
    assert await names(parts, "bob", "ann") == ({"bob": "Bob", "ann": "Ann"}, [])
    assert profiles.asked == [["ann", "carl"], ["bob"]]


async def test_a_change_shows_when_its_time_is_over(parts: Parts, profiles: Profiles, clock: Clock) -> None:
    """A new name, and one that was taken away, are seen after as many seconds as was said, and not before."""
    await names(parts, "ann", "bob")
    profiles.names = {"ann": "Anna"}
    clock.now += 9.9
    assert (await names(parts, "ann", "bob"))[0] == {"ann": "Ann", "bob": "Bob"}
    clock.now += 0.1
    assert (await names(parts, "ann", "bob"))[0] == {"ann": "Anna", "bob": ""}


async def test_what_is_down_shows_what_it_said_last(parts: Parts, profiles: Profiles, clock: Clock) -> None:
    """While a part is down its last word is shown, and said to be of before; what is current is not."""
    await names(parts, "ann")
    profiles.down = True
    assert await names(parts, "ann") == ({"ann": "Ann"}, [])
    assert await names(parts, "ann", "bob") == ({"ann": "Ann", "bob": ""}, ["profiles"])
    clock.now += 60
    assert await names(parts, "ann") == ({"ann": "Ann"}, ["profiles"])
    profiles.down = False
    assert await names(parts, "bob") == ({"bob": "Bob"}, [])
