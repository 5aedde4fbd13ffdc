"""What takes long has begun before the first test; here it is looked at, last of all."""

import asyncio

from tests.contract.conftest import Waiting
from tests.contract.shapes import BOOL, TIME, USER_ID, Shape, assert_shape

Waits = dict[str, "asyncio.Task[Waiting]"]


async def test_a_socket_that_does_not_authenticate(waiting: Waits) -> None:
    """A socket without a session is closed with 4501, after ten seconds."""
    silent = await waiting["idle"]
    assert silent.answer == 4501
    assert 10 <= silent.seconds < 25


async def test_events_wait_by_default(waiting: Waits) -> None:
    """Without `wait`, /events answers after ten seconds, with an empty list."""
    poll = await waiting["poll"]
    assert (poll.answer["events"], poll.answer["recovered"]) == ([], True)
    assert 10 <= poll.seconds < 25


async def test_who_has_left(waiting: Waits) -> None:
    """Who looks at somebody is told when that person leaves, and since when the person is away."""
    left = await waiting["leave"]
    for presence in left.answer:
        must = {"user_id": USER_ID, "online": BOOL, "last_seen": TIME}
        assert_shape(presence, Shape(must=must), "presence")
        assert presence["online"] is False
