"""Asks all checkers side by side under one budget. What they do not answer in time stays unchecked."""

import asyncio
import math
from collections.abc import Sequence
from typing import Protocol

import structlog

from antispam.verdict import Candidate, Verdict, merge, unchecked
from mesh import call

log = structlog.get_logger()


class Checker(Protocol):
    """Judges messages, here or elsewhere.

    Attributes:
        name: in verdicts and logs.
    """

    name: str

    async def check(self, candidates: Sequence[Candidate]) -> Sequence[Verdict]:
        """One verdict a candidate, in order.

        The budget is the current call's deadline; it is cancelled when that has passed.
        """


class Judge:
    """All checkers as one.

    Args:
        checkers: asked side by side.
        budget: seconds for all that is judged in one call, at most.

    Attributes:
        budget: the same.
    """

    def __init__(self, checkers: Sequence[Checker], *, budget: float = 0.15) -> None:
        self._checkers = checkers
        self.budget = budget

    async def judge(self, candidates: Sequence[Candidate], within: float = math.inf) -> list[Verdict]:
        """One verdict a candidate, in order, within the budget; never raises.

        Args:
            candidates: all that is to be judged.
            within: seconds that there are left for them, where that is less than the budget.
        """
        if not candidates:
            return []
        budget = min(self.budget, within)
        with call.budget(budget):
            tasks = [asyncio.create_task(self._ask(checker, candidates)) for checker in self._checkers]
        try:
            _, late = await asyncio.wait(tasks, timeout=budget)
        finally:
            for task in tasks:
                task.cancel()
        answers = [
            [unchecked(checker.name, "OUT_OF_TIME")] * len(candidates) if task in late else task.result()
            for checker, task in zip(self._checkers, tasks, strict=True)
        ]
        return [merge(verdicts) for verdicts in zip(*answers, strict=True)]

    async def _ask(self, checker: Checker, candidates: Sequence[Candidate]) -> Sequence[Verdict]:
        try:
            verdicts = await checker.check(candidates)
            if len(verdicts) == len(candidates):
                return verdicts
            log.error("checker gave another number of verdicts", checker=checker.name)
        except Exception:  # a broken checker must not stop the mail
            log.exception("checker failed", checker=checker.name)
        return [unchecked(checker.name, "CHECKER_FAILED")] * len(candidates)
