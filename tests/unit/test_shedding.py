"""What is dropped under load, by measurements, a clock and a chance that the test holds."""

import pytest

from edge.shedding import (
    AT_EASE,
    DOWN_AFTER,
    FEW,
    LAG,
    LAG_OF_NO_HOPE,
    LAST_STEP_AFTER,
    LAST_UP_AFTER,
    SLOW,
    SLOW_OF_NO_HOPE,
    TOO_BUSY,
    UP_AFTER,
    FleetShedder,
    Strain,
    WorkerShedder,
)

SHEDDABLE, SHEDDABLE_PLUS, CRITICAL, CRITICAL_PLUS = ALL = 1, 2, 3, 4
TICK = 0.1
NEVER, ALWAYS = 0.999, 0.0
"""Chances: of a call that is dropped only with all of its kind, and of one that is dropped with the first."""


def after(
    seconds: float, busy: float, hopeless: float = 0.0, shedder: WorkerShedder | None = None
) -> WorkerShedder:
    """A worker that has had it so hard for so long."""
    shedder = shedder or WorkerShedder()
    begins = shedder._seen_at or 100.0
    for tick in range(round(seconds / TICK) + 1):
        shedder.observe(Strain(busy=busy, hopeless=hopeless), begins + tick * TICK)
    return shedder


def dropped(shedder: WorkerShedder, chance: float) -> list[int]:
    """The criticalities that are dropped."""
    return [criticality for criticality in ALL if shedder.sheds(criticality, chance)]


def test_a_worker_that_has_time_drops_nothing() -> None:
    """Nothing is dropped, whatever its criticality and chance, up to the mark."""
    for busy in (0.0, AT_EASE, TOO_BUSY):
        assert dropped(after(60, busy), ALWAYS) == []


def test_the_least_critical_goes_first() -> None:
    """Typing goes before history; sending does not, however long there is too much to do."""
    assert dropped(after(UP_AFTER + TICK, 1.0), 0.5) == [SHEDDABLE]
    assert dropped(after(2 * UP_AFTER + TICK, 1.0), NEVER) == [SHEDDABLE, SHEDDABLE_PLUS]
    assert dropped(after(600, 1.0), ALWAYS) == [SHEDDABLE, SHEDDABLE_PLUS]


def test_sending_is_the_last_resort() -> None:
    """Only where nothing is served in time though all others were dropped for a while; the session never."""
    shedder = after(LAST_STEP_AFTER - 1, 1.5, 1.5)
    assert dropped(shedder, ALWAYS) == [SHEDDABLE, SHEDDABLE_PLUS]
    after(LAST_UP_AFTER / 2 + 2, 1.5, 1.5, shedder)
    assert dropped(shedder, 0.2) == [SHEDDABLE, SHEDDABLE_PLUS, CRITICAL], "in part first"
    assert dropped(shedder, 0.8) == [SHEDDABLE, SHEDDABLE_PLUS]
    after(LAST_UP_AFTER, 1.5, 1.5, shedder)
    assert dropped(shedder, NEVER) == [SHEDDABLE, SHEDDABLE_PLUS, CRITICAL]
    after(DOWN_AFTER, 1.5, 0.5, shedder)
    assert dropped(shedder, ALWAYS) == [SHEDDABLE, SHEDDABLE_PLUS], "as soon as there is hope"


def test_the_wait_begins_anew_with_every_hope() -> None:
    """A moment of hope, or of less than all others dropped, and sending is safe for as long again."""
    shedder = after(LAST_STEP_AFTER - 1, 1.5, 1.5)
    after(TICK, 1.5, 0.5, shedder)
    assert after(LAST_STEP_AFTER - 1, 1.5, 1.5, shedder).level == 2
    after(1, 0.1, 0.5, shedder)
    assert after(LAST_STEP_AFTER - 1, 1.5, 1.5, shedder).level == 2


def test_no_more_than_is_needed() -> None:
    """On the way to dropping a kind as a whole it is dropped in part: by chance, from little to much."""
    shedder = WorkerShedder(level=1.4)
    shares = [shedder.sheds(SHEDDABLE_PLUS, tenth / 10) for tenth in range(10)]
    assert shares == [True] * 4 + [False] * 6
    assert dropped(shedder, NEVER) == [SHEDDABLE]


def test_it_comes_back_slowly_and_rests_where_it_is_enough() -> None:
    """At ease it gives back step by step; between the marks nothing changes."""
    between = (TOO_BUSY + AT_EASE) / 2
    shedder = after(1, 1.0)
    assert after(60, between, shedder=shedder).level == 2
    after(DOWN_AFTER / 2, 0.1, shedder=shedder)
    assert shedder.level == pytest.approx(1.5)
    assert after(60, between, shedder=shedder).level == pytest.approx(1.5)
    assert after(DOWN_AFTER * 2, 0.1, shedder=shedder).level == 0


# ── how hard the worker has it ──────────────────────────────────────────────────────────────────────────────


def looks(strain: Strain, count: int, *, used: float = 0.0, late: float = 0.0) -> Strain:
    """The same after so many equal looks."""
    for _ in range(count):
        strain.look(elapsed=TICK, used=used, late=late)
    return strain


@pytest.mark.parametrize(
    ("sign", "hopeless"),
    [({"used": TICK}, False), ({"late": LAG}, False), ({"late": LAG_OF_NO_HOPE}, True)],
)
def test_each_sign_alone_is_enough(sign: dict[str, float], hopeless: bool) -> None:
    """A worker without processor time left, or whose loop lags, is busy within a second, and then no more."""
    strain = looks(Strain(), 10, **sign)
    assert strain.busy > TOO_BUSY
    assert (strain.hopeless > TOO_BUSY) is hopeless
    assert looks(strain, 10).busy < AT_EASE


def test_one_pause_is_no_overload() -> None:
    """A single long pause of the process (a garbage collection, a neighbour) changes nothing."""
    strain = looks(Strain(), 10, used=0.3 * TICK)
    assert looks(strain, 1, late=5.0).busy < TOO_BUSY
    assert looks(strain, 3, used=0.3 * TICK).busy < AT_EASE


@pytest.mark.parametrize(("seconds", "hopeless"), [(2 * SLOW, False), (2 * SLOW_OF_NO_HOPE, True)])
def test_slow_calls_are_a_sign(seconds: float, hopeless: bool) -> None:
    """Where most calls are slow what lies behind is overloaded, however idle the worker is."""
    strain = Strain()
    for _ in range(10):
        for _ in range(10):
            strain.answered(seconds, FEW + 1)
        looks(strain, 1)
    assert strain.busy > TOO_BUSY
    assert (strain.hopeless > TOO_BUSY) is hopeless
    assert looks(strain, 60).busy < AT_EASE, "what is not heard of again is forgotten"
    assert strain.hopeless < AT_EASE


def test_few_very_slow_calls_are_none() -> None:
    """One shard of four that hangs makes a quarter of the calls very slow, and is not shed for."""
    strain = Strain()
    for number in range(400):
        strain.answered(5.0 if number % 4 == 0 else 0.01, FEW + 1)
        if number % 10 == 0:
            assert looks(strain, 1).busy < TOO_BUSY


def test_slow_calls_without_a_queue_are_none() -> None:
    """Where few calls are under way shedding would help none: a cold or slow machine drops nothing."""
    strain = Strain()
    for _ in range(20):
        for _ in range(10):
            strain.answered(5.0, FEW)
        assert looks(strain, 1).busy < AT_EASE


# ── the fleet ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("here", "elsewhere", "edges", "shed"),
    [(0, 159, 2, False), (1, 159, 2, True), (160, 0, 2, True), (1, 159, 3, False), (80, 0, 1, True)],
)
def test_the_fleet_keeps_room_for_the_critical(here: int, elsewhere: int, edges: int, shed: bool) -> None:
    """Uncritical calls fill at most their share of all edges together; critical ones always pass."""
    fleet = FleetShedder(calls_per_edge=100)
    fleet.observe(elsewhere, edges)
    assert fleet.sheds(SHEDDABLE, here) == fleet.sheds(SHEDDABLE_PLUS, here) == shed
    assert not fleet.sheds(CRITICAL, 10_000)
