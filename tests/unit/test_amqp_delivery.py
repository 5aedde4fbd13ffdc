"""The way up the ladder and what headers mean, without a broker."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.amqp import DONE, PARKED, RETRY, Delivery, Outcome, Park, Retry, Topology
from mesh.amqp.delivery import UnreadableError, age_of, decode, describe, encode, plan
from messenger.events.v1.queue_pb2 import Event, ReadAdvanced

TOPOLOGY = Topology()
outcomes = st.lists(
    st.one_of(st.just(DONE), st.builds(Retry, st.sampled_from("ab")), st.builds(Park, st.sampled_from("ab")))
)


def events(count: int) -> list[Event]:
    """Events told apart by their number."""
    return [Event(read_advanced=ReadAdvanced(chat_id=f"{n}")) for n in range(count)]


def test_rungs() -> None:
    """1 s, 10 s, 60 s, and 60 s again until the attempts are used up."""
    assert [TOPOLOGY.rung(attempt) for attempt in range(1, 12)] == ["1s", "10s", *["60s"] * 7, "", ""]


def test_an_outage_is_nobodys_fault() -> None:
    """However long a part is away, its events stay on the top rung, and keep their attempts for later."""
    attempt, pauses = 1, []
    for _ in range(100):
        (step,) = plan(Delivery(attempt=attempt), events(1), [Retry("down", outage=True)], TOPOLOGY)
        assert step.exchange == RETRY
        pauses.append(step.routing_key)
        attempt = int(step.headers["attempt"])
    assert pauses == ["1s", "10s", *["60s"] * 98]
    (step,) = plan(Delivery(attempt=attempt), events(1), [Retry("odd")], TOPOLOGY)
    assert (step.exchange, step.headers["attempt"]) == (RETRY, 4)


def test_an_outage_at_the_last_attempt_does_not_park() -> None:
    """An event that was odd nine times and now meets an outage waits for its last attempt."""
    (step,) = plan(Delivery(attempt=10), events(1), [Retry("down", outage=True)], TOPOLOGY)
    assert (step.exchange, step.routing_key, step.headers["attempt"]) == (RETRY, "60s", 10)


@given(outcomes, st.integers(1, 12))
def test_every_event_goes_exactly_one_way(given_outcomes: list[Outcome], attempt: int) -> None:
    """Each event but a done one is published once: up the ladder while attempts are left, else parked."""
    batch = events(len(given_outcomes))
    steps = plan(Delivery(attempt=attempt, traceparent="t"), batch, given_outcomes, TOPOLOGY)
    gone = sorted(event.read_advanced.chat_id for step in steps for event in step.events)
    assert gone == sorted(f"{n}" for n, outcome in enumerate(given_outcomes) if outcome != DONE)
    for step in steps:
        assert step.headers["traceparent"] == "t"
        assert step.headers["cause"] in ("a", "b")
        if step.exchange == RETRY:
            assert (step.headers["attempt"], step.routing_key) == (attempt + 1, TOPOLOGY.rung(attempt))
        else:
            assert (step.exchange, step.headers["attempt"]) == (PARKED, attempt)
        for event in step.events:
            outcome = given_outcomes[int(event.read_advanced.chat_id)]
            assert (step.exchange == PARKED) == (
                isinstance(outcome, Park) or attempt >= TOPOLOGY.max_attempts
            )


@given(st.binary(max_size=50))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    """No bytes at all can raise anything but the one error that parks them."""
    try:
        decode(body)
    except UnreadableError as error:
        assert "EventBatch" in str(error)  # noqa: PT017  # some bodies are fine


def test_round_trip() -> None:
    """What is encoded is read back; another version is not."""
    assert decode(encode(events(3))) == events(3)
    with pytest.raises(UnreadableError, match="version 2"):
        decode(b"\x08\x02")


def test_headers() -> None:
    """Attempt, cause and trace are read; odd ones count as a first attempt; other deaths are no expiry."""
    death = {"queue": "messages", "reason": "expired", "count": 1}
    assert describe(
        {"attempt": 3, "cause": "c", "traceparent": "t", "x-death": [death]}, TOPOLOGY
    ) == Delivery(attempt=3, cause="c", traceparent="t", expired=True)
    assert describe({"published": 1_700_000_000_000}, TOPOLOGY) == Delivery(published_ms=1_700_000_000_000)
    assert describe({"attempt": "many", "x-death": "none", "published": "now"}, TOPOLOGY) == Delivery()
    assert describe({"attempt": -1, "x-death": [{**death, "queue": "retry.1s"}]}, TOPOLOGY) == Delivery()
    assert describe({"x-death": [{**death, "reason": "delivery_limit"}]}, TOPOLOGY) == Delivery()


@pytest.mark.parametrize(
    ("published_ms", "seconds"),
    [(9_500, 0.5), (10_000, 0.0), (6_000, 4.0), (5_999, 0.0), (10_001, 0.0), (3_600_000, 0.0), (0, 0.0)],
    ids=["waited", "just now", "longest", "absurd", "ahead", "far ahead", "unsaid"],
)
def test_age(published_ms: int, seconds: float) -> None:
    """How long a body waited; a time that cannot be, by two hosts' clocks, counts as now."""
    assert age_of(Delivery(published_ms=published_ms), 10_000, longest=4.0) == seconds
