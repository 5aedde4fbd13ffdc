"""When a part is left alone and when it is tried again, on a clock that the test holds."""

import asyncio
import math
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from mesh import call
from mesh.breaker import SPARED, STATE, Breaker, Part, State
from mesh.errors import DeadlineExceeded, Internal, MessengerError, NotFound, Unavailable

OUTCOMES = st.lists(st.tuples(st.floats(0, 20), st.sampled_from([True, False, None])), max_size=60)


def ask(breaker: Breaker, now: float, answered: bool | None) -> bool:
    """One call; whether it went to the part."""
    ticket = breaker.admit(now)
    breaker.settle(ticket, answered, now)
    return bool(ticket)


def state(breaker: Breaker) -> State:
    """Its state, looked at anew."""
    return breaker.state


def opened(now: float = 0.0, **numbers: float) -> Breaker:
    """A breaker that has just opened."""
    breaker = Breaker(tolerance=3, **numbers)
    assert [ask(breaker, now, False) for _ in range(4)] == [True, True, True, False]
    return breaker


def test_failures_in_a_row_open_it() -> None:
    """Three failures in a row open it; three with an answer in between do not."""
    breaker = Breaker(tolerance=3)
    for answered in (False, False, True, False, False, None):
        assert ask(breaker, 0, answered)
    assert state(breaker) is State.CLOSED
    ask(breaker, 0, False)
    assert state(breaker) is State.OPEN


def test_one_call_tries() -> None:
    """After the pause one call at a time goes to the part; the others go without until it has answered."""
    breaker = opened(pause=1)
    assert breaker.admit(0.9) == 0
    trying = breaker.admit(1.0)
    assert trying
    assert state(breaker) is State.HALF_OPEN
    assert breaker.admit(5.0) == 0
    breaker.settle(trying, True, 5.0)
    assert state(breaker) is State.CLOSED
    assert ask(breaker, 5.0, False)
    assert state(breaker) is State.CLOSED, "failures of before are forgotten"


def test_a_try_that_says_nothing_gives_its_place_back() -> None:
    """Where the trying call was given up by its caller, the next one tries at once."""
    breaker = opened(pause=1)
    assert ask(breaker, 1.0, None)
    assert ask(breaker, 1.0, True)
    assert state(breaker) is State.CLOSED


def test_pauses_double() -> None:
    """Each try that fails doubles the pause, up to the longest; an answer begins anew."""
    breaker, now, pauses = opened(pause=1, longest=8), 0.0, []
    for _ in range(6):
        pauses.append(breaker.pause)
        now += breaker.pause
        assert ask(breaker, now, False)
    assert pauses == [1, 2, 4, 8, 8, 8]
    assert ask(breaker, now + 8, True)
    assert [ask(breaker, now + 8, False) for _ in range(3)] == [True] * 3
    assert breaker.pause == 1


def test_calls_that_hang_together_open_it_once() -> None:
    """A hundred calls under way at once, all of which fail, make one pause and not a hundredfold one."""
    breaker = Breaker(tolerance=3, pause=1)
    tickets = [breaker.admit(0) for _ in range(100)]
    for ticket in tickets:
        breaker.settle(ticket, False, 0)
    assert breaker.pause == 1
    trying = breaker.admit(1)
    breaker.settle(trying, True, 1)
    late = breaker.admit(1)
    for ticket in tickets:
        breaker.settle(ticket, False, 1)
    assert state(breaker) is State.CLOSED, "what began before it opened says nothing of now"
    breaker.settle(late, True, 1)


@given(OUTCOMES)
def test_it_always_asks_in_the_end(steps: list[tuple[float, bool | None]]) -> None:
    """Whatever happened, the longest pause later a call goes to the part; one at a time while it is tried."""
    breaker, now = Breaker(tolerance=2, pause=1, longest=8), 0.0
    for seconds, answered in steps:
        now += seconds
        ask(breaker, now, answered)
        assert breaker.pause <= 8
    assert breaker.admit(now + 8)
    assert (breaker.admit(now + 8) == 0) == (state(breaker) is State.HALF_OPEN)


# ── Part ────────────────────────────────────────────────────────────────────────────────────────────────────


class Clock:
    """Seconds that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A held clock."""
    return Clock()


@pytest.fixture
def part(clock: Clock, request: pytest.FixtureRequest) -> Part:
    """A part of this test's own name."""
    breaker = Breaker(tolerance=2, pause=1)
    return Part(request.node.name, seconds=0.05, breaker=breaker, clock=clock)


@pytest.fixture
def logs() -> Iterator[list[structlog.typing.EventDict]]:
    """What is logged."""
    with structlog.testing.capture_logs() as logs:
        yield logs


async def fail(part: Part, error: Exception | None) -> type[MessengerError] | None:
    """Asks the part, which fails so; what the caller gets."""
    try:
        async with part.asked():
            if error:
                raise error
    except MessengerError as raised:
        return type(raised)
    return None


async def test_a_dead_part_is_left_alone_and_comes_back(
    part: Part, clock: Clock, logs: list[structlog.typing.EventDict]
) -> None:
    """Each change is one line and one number, however many calls there are in between."""
    state, spared = STATE.labels(part.name), SPARED.labels(part.name)
    for _ in range(10):
        assert await fail(part, Unavailable("gone")) is Unavailable
    assert (state.value, spared.value) == (State.OPEN, 8)
    clock.now += 1
    assert await fail(part, Unavailable("still gone")) is Unavailable
    assert (state.value, spared.value) == (State.OPEN, 8)
    clock.now += 2
    assert await fail(part, None) is None
    assert state.value == State.CLOSED
    assert [(line["event"], line["part"]) for line in logs] == [
        ("a part is left alone", part.name),
        ("a part is back", part.name),
    ]


async def test_a_hanging_part_costs_its_share(part: Part, clock: Clock) -> None:
    """A block that never ends is ended when its share is spent, and that counts as a failure."""

    async def hang() -> None:
        async with part.asked():
            assert call.time_left() <= 0.05
            clock.now += 0.05
            await asyncio.Event().wait()

    for _ in range(2):
        with pytest.raises(DeadlineExceeded):
            await hang()
    assert STATE.labels(part.name).value == State.OPEN


async def test_the_call_s_own_deadline_is_shorter(part: Part) -> None:
    """A call with less left than the share spends only that, and does not blame the part."""
    for _ in range(5):
        with call.budget(0.02), pytest.raises(DeadlineExceeded):
            async with part.asked():
                await asyncio.Event().wait()
    with call.budget(0.001), pytest.raises(DeadlineExceeded, match="no time left"):
        async with part.asked():
            raise AssertionError
    assert STATE.labels(part.name).value == State.CLOSED
    assert await fail(part, None) is None
    assert math.isinf(call.time_left())


async def test_what_is_answered_is_no_failure(part: Part) -> None:
    """An error that the part itself answers is an answer; one that says that it is broken is none."""
    for _ in range(5):
        assert await fail(part, NotFound("no such thing")) is NotFound
    assert STATE.labels(part.name).value == State.CLOSED
    for _ in range(2):
        assert await fail(part, Internal("broken")) is Internal
    assert STATE.labels(part.name).value == State.OPEN


async def test_a_caller_that_gives_up_says_nothing(part: Part) -> None:
    """Cancelled calls do not open it, and a cancelled try makes room for the next."""

    async def hang() -> None:
        async with part.asked():
            await asyncio.Event().wait()

    for _ in range(5):
        task = asyncio.create_task(hang())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert STATE.labels(part.name).value == State.CLOSED
