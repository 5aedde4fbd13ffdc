"""Checkers side by side under one budget, and those of other teams left alone while they fail."""

import asyncio
import time
from collections.abc import Sequence

from antispam.judge import Judge
from antispam.teams import TeamChecker
from antispam.verdict import PASS, Candidate, Decision, Verdict, reject, unchecked
from mesh.breaker import Breaker, Part
from mesh.errors import Unavailable
from messenger.antispam.v1.antispam_pb2 import CheckRequest, CheckResponse

MESSAGES = [Candidate(message_id=f"{n}", sender_id="a", receiver_id="b", text="Hi") for n in range(3)]


class Says:
    """A checker with a ready answer."""

    def __init__(self, name: str, *verdicts: Verdict) -> None:
        self.name = name
        self.verdicts = verdicts

    async def check(self, candidates: Sequence[Candidate]) -> Sequence[Verdict]:
        """See Checker."""
        return self.verdicts


class Never:
    """A checker that does not answer; tells when it was given up."""

    name = "never"

    def __init__(self) -> None:
        self.given_up = asyncio.Event()

    async def check(self, candidates: Sequence[Candidate]) -> Sequence[Verdict]:
        """See Checker."""
        try:
            await asyncio.Event().wait()
        finally:
            self.given_up.set()
        return []


async def test_late_checkers_leave_messages_unchecked() -> None:
    """When the budget is spent the late checker is given up, and the others' verdicts count."""
    never, spam = Never(), reject("fast", "SPAM")
    judge = Judge([never, Says("fast", PASS, spam, PASS)], budget=0.02)
    missing = unchecked("never", "OUT_OF_TIME")
    started = time.monotonic()
    assert await judge.judge(MESSAGES) == [missing, spam, missing]
    assert time.monotonic() - started < 1
    await asyncio.wait_for(never.given_up.wait(), 5)


async def test_a_checker_that_answers_nonsense_is_no_checker() -> None:
    """Too few verdicts cannot be matched to messages, so none of them counts."""
    verdicts = await Judge([Says("short", PASS)]).judge(MESSAGES)
    assert verdicts == [unchecked("short", "CHECKER_FAILED")] * 3


async def test_a_dead_team_is_left_alone() -> None:
    """After a few failures a team's checker is not asked any more, and messages go on unchecked at once."""
    asked = 0

    async def dead(request: CheckRequest) -> CheckResponse:
        nonlocal asked
        asked += 1
        raise Unavailable("gone")

    team = TeamChecker("team", dead, Part("team", seconds=1, breaker=Breaker(tolerance=3, pause=60)))
    for _ in range(10):
        assert await team.check(MESSAGES) == [unchecked("team", "CHECKER_DOWN")] * 3
    assert asked == 3


async def test_a_slow_team_is_left_alone() -> None:
    """Running out of the budget counts as a failure, too."""
    asked = 0

    async def slow(request: CheckRequest) -> CheckResponse:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()
        return CheckResponse()

    part = Part("team", seconds=0.03, breaker=Breaker(tolerance=2, pause=60))
    judge = Judge([TeamChecker("team", slow, part)], budget=0.03)
    reasons = [(await judge.judge(MESSAGES))[0].reason for _ in range(6)]
    assert (reasons[0], reasons[-1]) == ("OUT_OF_TIME", "CHECKER_DOWN")
    assert asked <= 3  # a call may begin before the one before it has noticed that it was given up


async def test_a_hurried_team_is_not_to_blame() -> None:
    """A team that was given hardly any time, because its messages had waited, goes on being asked."""
    asked = 0

    async def slow(request: CheckRequest) -> CheckResponse:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()
        return CheckResponse()

    part = Part("team", seconds=60, breaker=Breaker(tolerance=2, pause=60))
    judge = Judge([TeamChecker("team", slow, part)], budget=60)
    reasons = {(await judge.judge(MESSAGES, within=0.03))[0].reason for _ in range(6)}
    assert (reasons, asked) == ({"OUT_OF_TIME"}, 6)


async def test_large_batches_keep_the_contract() -> None:
    """More messages than a request may hold are asked in several, and the verdicts keep their order."""
    sizes = []

    async def team(request: CheckRequest) -> CheckResponse:
        sizes.append(len(request.candidates))
        response = CheckResponse()
        for candidate in request.candidates:
            response.verdicts.add(decision=2 if candidate.text == "spam" else 1, reason="SPAM")
        return response

    many = [
        Candidate(message_id=f"{n}", sender_id="a", receiver_id="b", text="spam" if n == 299 else "Hi")
        for n in range(300)
    ]
    verdicts = await TeamChecker("team", team, Part("team", seconds=1)).check(many)
    assert sizes == [256, 44]
    assert verdicts[298:] == [PASS, reject("team", "SPAM")]


async def test_an_unknown_decision_is_no_verdict() -> None:
    """What a team's checker says in a later version of the contract does not pass as a pass."""

    async def newer(request: CheckRequest) -> CheckResponse:
        response = CheckResponse()
        response.verdicts.add(decision=99)
        return response

    [verdict] = await TeamChecker("team", newer, Part("team", seconds=1)).check(MESSAGES[:1])
    assert verdict.decision is Decision.UNCHECKED
