"""CheckerService over the own rules: the reference for teams that serve it, and a way to try a text."""

import grpc

from antispam.codec import candidate_of_request, verdict_to_proto
from antispam.judge import Judge
from messenger.antispam.v1.antispam_pb2 import CheckRequest, CheckResponse
from messenger.antispam.v1.antispam_pb2_grpc import CheckerServiceServicer


class CheckerService(CheckerServiceServicer):
    """Serves the rules.

    Args:
        judge: over the own rules alone; other teams' checkers must not be asked in a circle.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    async def Check(self, request: CheckRequest, context: grpc.aio.ServicerContext) -> CheckResponse:
        """One verdict a candidate, in order. What is asked here counts for the senders like real messages."""
        verdicts = await self._judge.judge([candidate_of_request(one) for one in request.candidates])
        return CheckResponse(verdicts=map(verdict_to_proto, verdicts))
