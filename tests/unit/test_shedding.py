"""What is dropped under load, by measurements and a clock that the test holds."""

import pytest

from edge.shedding import (
    AT_EASE,
    LAST_STEP_AFTER,
    STEP_DOWN_AFTER,
    STEP_UP_AFTER,
    TOO_BUSY,
    FleetShedder,
    WorkerShedder,
)

SHEDDABLE, SHEDDABLE_PLUS, CRITICAL, CRITICAL_PLUS = 1, 2, 3, 4


def overloaded(seconds: float) -> WorkerShedder:
    """A worker that was too busy for so long."""
    shedder, now = WorkerShedder(), 100.0
    shedder.observe(0.0, now)
    while now < 100.0 + seconds:
        now += 0.1
        shedder.observe(1.0, now)
    return shedder


def test_an_idle_worker_drops_nothing() -> None:
    """Nothing is dropped, whatever its criticality, while the worker is at ease."""
    shedder = WorkerShedder()
    shedder.observe(0.3, 1.0)
    assert not any(shedder.sheds(criticality) for criticality in range(5))


def test_the_least_critical_goes_first() -> None:
    """Typing goes before history, and history long before sending; the session never goes."""
    assert [overloaded(STEP_UP_AFTER).sheds(one) for one in (SHEDDABLE, SHEDDABLE_PLUS)] == [True, False]
    some_time = overloaded(2 * STEP_UP_AFTER + 1)
    assert some_time.sheds(SHEDDABLE_PLUS)
    assert not some_time.sheds(CRITICAL)
    at_last = overloaded(2 * STEP_UP_AFTER + LAST_STEP_AFTER + 1)
    assert at_last.sheds(CRITICAL)
    assert not at_last.sheds(CRITICAL_PLUS)


def test_it_comes_back_slowly_and_does_not_flap() -> None:
    """A moment at ease restores nothing; each step back takes its time; between the marks nothing changes."""
    shedder = WorkerShedder(level=2, _changed_at=0.0)
    shedder.observe((TOO_BUSY + AT_EASE) / 2, 50.0)
    assert shedder.level == 2
    shedder.observe(0.1, 50.0)
    assert shedder.level == 1
    shedder.observe(0.1, 50.0 + STEP_DOWN_AFTER / 2)
    assert shedder.level == 1
    shedder.observe(0.1, 50.0 + STEP_DOWN_AFTER)
    assert shedder.level == 0


@pytest.mark.parametrize(("uncritical", "edges", "shed"), [(159, 2, False), (160, 2, True), (160, 3, False)])
def test_the_fleet_keeps_room_for_the_critical(uncritical: int, edges: int, shed: bool) -> None:
    """Uncritical calls fill at most their share of all edges together; critical ones always pass."""
    fleet = FleetShedder(calls_per_edge=100)
    fleet.observe(uncritical, edges)
    assert fleet.sheds(SHEDDABLE) == fleet.sheds(SHEDDABLE_PLUS) == shed
    assert not fleet.sheds(CRITICAL)
