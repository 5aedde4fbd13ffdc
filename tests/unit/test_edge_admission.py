"""The limiters together, before a call, on a clock and a chance that the test holds; Redis is away."""

from collections.abc import AsyncIterator

import pytest

from edge import table
from edge.admission import TICK, Admission
from edge.buckets import SharedBuckets
from edge.shedding import FEW
from edge.table import Method
from mesh.errors import ResourceExhausted

METHODS = table.methods(table.OWN)
TYPING, HISTORY, SEND = METHODS["chats.typing"], METHODS["messages.history"], METHODS["messages.send"]
PING = METHODS["session.ping"]
NOWHERE = "redis://127.0.0.1:1"
CONCURRENT, CALLS = 3, 10


class Hand:
    """A clock and a chance."""

    def __init__(self) -> None:
        self.now, self.chance = 0.0, 0.5


@pytest.fixture
def hand() -> Hand:
    """Begins at 0."""
    return Hand()


@pytest.fixture
async def admission(hand: Hand) -> AsyncIterator[Admission]:
    """Three calls of one user at once, ten of all."""
    async with (
        SharedBuckets([NOWHERE], rate=1, burst=5, clock=lambda: hand.now) as buckets,
        Admission(
            buckets,
            redis_url=NOWHERE,
            place="here",
            concurrent=CONCURRENT,
            calls_per_edge=CALLS,
            clock=lambda: hand.now,
            chance=lambda: hand.chance,
        ) as admission,
    ):
        yield admission


def work(admission: Admission, hand: Hand, seconds: float, share: float) -> None:
    """Lets the worker use such a share of its time for so long."""
    for _ in range(round(seconds / TICK)):
        hand.now += TICK
        admission.look(TICK, share * TICK)


def shed(admission: Admission) -> list[str]:
    """The methods that are turned away."""
    return [method.name for method in (TYPING, HISTORY, SEND, PING) if admission.shed(method)]


def test_calls_at_once(admission: Admission) -> None:
    """A user has so many calls under way, whatever they are; another user's are not touched."""
    for method in (SEND, HISTORY, TYPING):
        admission.begin("ann", method)
    with pytest.raises(ResourceExhausted, match="3 calls at once") as refused:
        admission.begin("ann", SEND)
    assert refused.value.reason == "TOO_MANY_CALLS"
    admission.begin("bob", SEND)
    admission.end("ann", HISTORY)
    admission.begin("ann", SEND)


def test_nothing_is_kept_of_calls_that_ended(admission: Admission) -> None:
    """Whoever has no call under way takes no memory, and no room of the others."""
    for number in range(1_000):
        admission.begin(f"user-{number}", HISTORY)
        admission.end(f"user-{number}", HISTORY)
    assert not admission._of_user
    assert shed(admission) == []


async def test_tokens(admission: Admission, hand: Hand) -> None:
    """Each method has a bucket; a call pays what its proto says, and is told when it can."""
    for _ in range(5):
        await admission.pay("ann", SEND.name, SEND.cost)
    with pytest.raises(ResourceExhausted) as refused:
        await admission.pay("ann", SEND.name, SEND.cost)
    assert (refused.value.reason, refused.value.retry_after_ms) == ("THROTTLED", 1001)
    for _ in range(2):
        await admission.pay("ann", HISTORY.name, HISTORY.cost)
    with pytest.raises(ResourceExhausted):
        await admission.pay("ann", HISTORY.name, HISTORY.cost)
    await admission.pay("bob", SEND.name, SEND.cost)
    hand.now += 1.0
    await admission.pay("ann", SEND.name, SEND.cost)


def test_a_busy_worker(admission: Admission, hand: Hand) -> None:
    """A worker without time drops the least critical first, and takes them again when it has time."""
    work(admission, hand, 5.0, 0.8)
    assert shed(admission) == []
    work(admission, hand, 0.5, 1.0)
    assert shed(admission) == ["chats.typing"]
    work(admission, hand, 1.0, 1.0)
    assert shed(admission) == ["chats.typing", "messages.history"]
    work(admission, hand, 15.0, 0.1)
    assert shed(admission) == []


def test_a_part_of_a_kind(admission: Admission, hand: Hand) -> None:
    """Of a kind that is dropped in part the chance says which call goes."""
    work(admission, hand, 2.0, 1.0)
    work(admission, hand, 7.0, 0.1)
    assert 0 < admission._worker.level < 1
    hand.chance = 0.0
    assert shed(admission) == ["chats.typing"]
    hand.chance = 0.99
    assert shed(admission) == []


def test_slow_calls_behind_it(admission: Admission, hand: Hand) -> None:
    """Where most of many calls take too long the least critical are dropped, however idle the worker is."""
    for number in range(FEW + 1):
        admission.begin(f"user-{number}", SEND)
    for _ in range(20):
        for _ in range(5):
            admission.answered(1.0)
        work(admission, hand, TICK, 0.1)
    assert "chats.typing" in shed(admission)


async def test_the_fleet_alone(admission: Admission) -> None:
    """An edge that hears of no other is a fleet of one: the uncritical may fill eight tenths of it."""
    await admission._report()
    for number in range(8):
        assert shed(admission) == []
        admission.begin(f"user-{number}", HISTORY)
    assert shed(admission) == ["chats.typing", "messages.history"]
    admission.end("user-0", HISTORY)
    assert shed(admission) == []
    for number in range(20):
        admission.begin(f"sender-{number}", SEND)
    assert shed(admission) == [], "critical calls take no room of the others"


def test_what_the_protos_say() -> None:
    """Typing and presence go first, reads next, sending last; the session itself never."""

    def of(criticality: int) -> set[str]:
        return {method.name for method in METHODS.values() if method.criticality == criticality}

    assert of(1) == {"chats.typing", "presence.get"}
    assert {"chats.list", "chats.get", "messages.history", "messages.search"} <= of(2)
    assert {"messages.send", "chats.open", "chats.mark_read"} <= of(3)
    assert of(4) == {"session.connect", "session.refresh", "session.ping"}


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_every_method_has_a_price(method: Method) -> None:
    """No method but the ping is free: a client could else ask for nothing but that."""
    assert (method.cost > 0) is (method is not PING)
