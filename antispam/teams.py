"""Checkers that other teams serve over gRPC. One that is dead or slow is left alone for a while."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog

from antispam.codec import candidate_to_proto, verdict_of
from antispam.verdict import Candidate, Verdict, unchecked
from mesh.errors import MessengerError
from messenger.antispam.v1.antispam_pb2 import CheckRequest, CheckResponse

log = structlog.get_logger()

MAX_CANDIDATES = 256
"""Candidates a request, by its proto."""


class Breaker:
    """Tells when not to ask: a pause after several failures in a row, doubled each time that it did not help.

    Args:
        tolerance: failures in a row that are borne.
        pause: seconds of the first pause.
        longest: seconds of the longest pause.
    """

    def __init__(self, *, tolerance: int = 3, pause: float = 1.0, longest: float = 30.0) -> None:
        self._tolerance = tolerance
        self._pause = pause
        self._longest = longest
        self._failures = 0
        self._until = 0.0

    def allows(self, now: float) -> bool:
        """Whether to ask at this time (seconds, monotonic)."""
        return now >= self._until

    def succeeded(self) -> None:
        """It answered."""
        self._failures = 0

    def failed(self, now: float) -> float:
        """It did not answer; the pause that begins now, 0 for none."""
        self._failures += 1
        beyond = self._failures - self._tolerance
        if beyond < 0:
            return 0.0
        pause = min(self._pause * 2.0 ** min(beyond, 16), self._longest)
        self._until = now + pause
        return pause


class TeamChecker:
    """Another team's CheckerService.

    Args:
        name: in verdicts and logs, where the team's own verdict names no checker.
        check: the stub's method.
        budget: seconds; the deadline of each call.
        breaker: says when to leave it alone.
    """

    def __init__(
        self,
        name: str,
        check: "Callable[..., Awaitable[CheckResponse]]",
        *,
        budget: float,
        breaker: Breaker | None = None,
    ) -> None:
        self.name = name
        self._check = check
        self._budget = budget
        self._breaker = breaker or Breaker()

    async def check(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """See Checker."""
        if not self._breaker.allows(time.monotonic()):
            return [unchecked(self.name, "CHECKER_DOWN")] * len(candidates)
        pieces = [candidates[n : n + MAX_CANDIDATES] for n in range(0, len(candidates), MAX_CANDIDATES)]
        try:
            answers = await asyncio.gather(*(self._ask(piece) for piece in pieces))
        except (MessengerError, asyncio.CancelledError) as error:
            self._failed(error)
            if isinstance(error, asyncio.CancelledError):  # the budget is spent
                raise
            return [unchecked(self.name, "CHECKER_DOWN")] * len(candidates)
        self._breaker.succeeded()
        return [verdict for answer in answers for verdict in answer]

    async def _ask(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        request = CheckRequest(
            candidates=map(candidate_to_proto, candidates), request_id=secrets.token_hex(16)
        )
        response = await self._check(request, timeout=self._budget)
        return [verdict_of(verdict, self.name) for verdict in response.verdicts]

    def _failed(self, error: BaseException) -> None:
        if pause := self._breaker.failed(time.monotonic()):
            log.warning("checker left alone", checker=self.name, seconds=pause, cause=type(error).__name__)
