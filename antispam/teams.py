"""Checkers that other teams serve over gRPC. One that is dead or slow is left alone for a while."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence

from antispam.codec import candidate_to_proto, verdict_of
from antispam.verdict import Candidate, Verdict, unchecked
from mesh.breaker import Part
from mesh.errors import DeadlineExceeded, MessengerError
from messenger.antispam.v1.antispam_pb2 import CheckRequest, CheckResponse

MAX_CANDIDATES = 256
"""Candidates a request, by its proto."""


class TeamChecker:
    """Another team's CheckerService.

    Args:
        name: in verdicts, where the team's own verdict names no checker.
        check: the stub's method.
        part: its share of the time, and when it is left alone.
    """

    def __init__(self, name: str, check: "Callable[..., Awaitable[CheckResponse]]", part: Part) -> None:
        self.name = name
        self._check = check
        self._part = part

    async def check(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """See Checker."""
        pieces = [candidates[n : n + MAX_CANDIDATES] for n in range(0, len(candidates), MAX_CANDIDATES)]
        try:
            async with self._part.asked():
                answers = await asyncio.gather(*(self._ask(piece) for piece in pieces))
        except DeadlineExceeded:
            return [unchecked(self.name, "OUT_OF_TIME")] * len(candidates)
        except MessengerError:
            return [unchecked(self.name, "CHECKER_DOWN")] * len(candidates)
        return [verdict for answer in answers for verdict in answer]

    async def _ask(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        request = CheckRequest(
            candidates=map(candidate_to_proto, candidates), request_id=secrets.token_hex(16)
        )
        response = await self._check(request)
        return [verdict_of(verdict, self.name) for verdict in response.verdicts]
