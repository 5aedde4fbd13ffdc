"""Every store, service and team hangs in turn: no call outlives its deadline, and nothing is left over."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from edge.table import OWN, methods
from mesh.channel import Channel
from mesh.stack import Stack, plan
from messenger.aggregator.v1 import aggregator_pb2, aggregator_pb2_grpc
from tests.observability.support import eventually
from tests.outages.conftest import SERVICES, Hang, Join, Look
from tests.outages.scene import Scene
from tests.outages.support import Census, Heartbeat, Outcome, Person, failed, missing, read_metric

ALLOWED = 0.05
"""Seconds that an answer may come after its deadline."""

SLACK = 8
"""Tasks or connections that a pool may have more than before; each round asks for four times as many."""

GONE = {-32004, -32014}
"""Out of time, or a part is down: what a client may hear of an outage."""

MAILBOX = set(methods(OWN)) - {"session.connect", "session.refresh", "session.ping", "rpc.discover"}
"""What cannot be done without mailboxes."""

OPTIONAL = {"redis": "presence", "profiles": "profiles", "items": "items"}
"""Parts that answers do without, and what `degraded` says then."""

VITAL = ("mongo", "dbapi", "aggregator")
QUIET = ("rabbitmq", "antispam", "dbstore", "checker")
"""What nobody who calls should notice."""


def late(outcomes: Sequence[Outcome], heartbeat: Heartbeat) -> dict[str, float]:
    """The answers that came too late, with the seconds."""
    return {one.method: over for one in outcomes if (over := one.over(heartbeat)) > ALLOWED}


@pytest.mark.parametrize("part", [*VITAL, *OPTIONAL, *QUIET])
async def test_a_hanging_part(
    part: str,
    scene: Scene,
    hang: Hang,
    knock: Join,
    heartbeat: Heartbeat,
    census: Callable[[], Awaitable[Census]],
    record_property: Callable[[str, object], None],
) -> None:
    """Calls end by their deadlines, only those fail that need the part, and afterwards all is as before.

    Sessions begin all the same, whatever hangs.
    """
    await scene.ask_everything(times=2)
    if part in VITAL:  # where calls pile up pools grow once
        async with hang(part):
            await scene.ask_everything()
        await eventually(scene.is_whole)
    before = await census()  # pools are as full now as they will be
    phones = [await knock(person.user_id) for person in (scene.alice, scene.bob)]
    async with hang(part):
        (alice, bob), *began = await asyncio.gather(
            scene.ask_everything(),
            begin(phones[0], scene.alice.cursor),
            begin(phones[1], scene.bob.cursor),
        )
        outcomes = [*alice, *bob, *began[0], *began[1]]
        await heartbeat.beat()
        if part == "aggregator":
            await eventually(scene.reads_go_around)
    for phone in phones:
        await phone.close()
    latest = max(outcomes, key=lambda one: one.answered - one.due)
    record_property("latest", (latest.method, latest.answered - latest.due, latest.over(heartbeat)))
    assert late(outcomes, heartbeat) == {}
    assert failed(bob if part == "mongo" else [] if part in VITAL else outcomes) == {}
    gone = failed(outcomes)
    assert set(gone) <= MAILBOX
    assert set().union(*gone.values()) <= GONE
    if part in OPTIONAL:
        assert OPTIONAL[part] in missing(outcomes)
    await eventually(scene.is_whole)
    await settles(census, before)


async def begin(phone: Person, cursor: str) -> list[Outcome]:
    """A device comes back after some events, and then gets a younger token."""
    return [await phone.sign_in(cursor), await phone.ask("session.refresh", token=phone.token)]


async def settles(census: Callable[[], Awaitable[Census]], before: Census) -> None:
    """Waits until there are no more tasks and connections than before."""

    async def beyond() -> dict[str, tuple[float, float]]:
        return (await census()).beyond(before, SLACK)

    await eventually(beyond, lambda found: not found)


async def test_too_little_time_costs_nothing_further_down(services: Stack, look: Look, scene: Scene) -> None:
    """A call that arrives with hardly any time left is refused there, and goes no further."""

    async def count(service: str, **labels: str) -> float:
        return read_metric(await look(service), "messenger_rpc_server_duration_seconds_count", **labels)

    async def refused() -> float:
        method = "messenger.aggregator.v1.MessengerService/ListChats"
        return await count("aggregator", method=method, code="DEADLINE_EXCEEDED")

    async def asked() -> float:
        return await count("dbapi", method="messenger.dbapi.v1.MailboxService/ListChats")

    before, further = await refused(), await asked()
    tls = plan.authority(services.settings).tls_of("edge")
    address = services.env()["AGGREGATOR_ADDRESS"]
    async with Channel(address, service="aggregator", tls=tls, assertion=scene.vouch) as channel:
        stub = aggregator_pb2_grpc.MessengerServiceStub(channel)
        await stub.ListChats(aggregator_pb2.ListChatsRequest())

        async def some_arrived() -> bool:
            hasty = [stub.ListChats(aggregator_pb2.ListChatsRequest(), timeout=0.008) for _ in range(5)]
            outcomes = await asyncio.gather(*hasty, return_exceptions=True)
            assert {type(outcome).__name__ for outcome in outcomes} == {"DeadlineExceeded"}
            return await refused() > before

        await eventually(some_arrived)
    assert await asked() == further + 1


@pytest.mark.parametrize("part", ["profiles", "items"])
async def test_a_hanging_part_is_left_alone(part: str, scene: Scene, hang: Hang, look: Look) -> None:
    """It costs three answers their share of its time, and no others; when it is back it is asked again."""
    async with hang(part):
        before = scene.teams.asked[part]
        outcomes = [await scene.alice.ask("chats.get", chat_id=scene.chat_id) for _ in range(10)]
        assert failed(outcomes) == {}
        assert all(part in missing([one]) for one in outcomes)
        # Three that wait, and on a slow machine one that tries whether it is back.
        assert scene.teams.asked[part] - before <= 4
        assert min(one.seconds for one in outcomes[:3]) < 0.5
        assert min(one.seconds for one in outcomes[3:]) < 0.1
        assert read_metric(await look("aggregator"), "messenger_breaker_state", part=part) == 2
    await eventually(scene.is_whole)
    assert read_metric(await look("aggregator"), "messenger_breaker_state", part=part) == 0


async def test_a_hanging_node_of_redis_is_left_alone(scene: Scene, hang: Hang, look: Look) -> None:
    """Typing and presence cost three calls their share, and then nothing."""
    async with hang("redis"):
        for _ in range(4):
            outcomes = [
                await scene.alice.ask("chats.typing", chat_id=scene.chat_id),
                await scene.alice.ask("presence.get", user_ids=[scene.bob.user_id]),
            ]
            assert failed(outcomes) == {}
        assert missing(outcomes) == {"presence"}
        assert min(one.seconds for one in outcomes) < 0.1
        assert read_metric(await look("aggregator"), "messenger_breaker_state", part="presence") >= 2
        await scene.say_something()  # which the mailbox tells
    await eventually(scene.is_whole)


async def test_a_hanging_checker_is_left_alone(scene: Scene, hang: Hang, look: Look) -> None:
    """After some messages that pass unchecked the team is not asked any more, until it answers again."""

    async def state() -> float:
        return read_metric(await look("antispam"), "messenger_breaker_state", part="checker ")

    async with hang("checker"):
        while await state() != 2:
            await scene.say_something()
    await eventually(scene.is_whole)

    async def is_asked_again() -> bool:
        await scene.say_something()
        return await state() == 0

    await eventually(is_asked_again)


def test_every_part_hangs() -> None:
    """No service is forgotten here."""
    assert {*VITAL, *OPTIONAL, *QUIET} == {
        "mongo",
        "redis",
        "rabbitmq",
        *SERVICES,
        "profiles",
        "items",
        "checker",
    }
