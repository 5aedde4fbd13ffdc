"""Example: a team's own antispam checker, as an ordinary synchronous gRPC service.

It needs the generated stubs alone. Antispam asks it beside its own rules, once ANTISPAM_CHECKERS names it.
"""

from concurrent.futures import ThreadPoolExecutor

import grpc

from messenger.antispam.v1.antispam_pb2 import (
    DECISION_PASS,
    DECISION_REJECT,
    Candidate,
    CheckRequest,
    CheckResponse,
    Verdict,
)
from messenger.antispam.v1.antispam_pb2_grpc import (
    CheckerServiceServicer,
    add_CheckerServiceServicer_to_server,
)
from tests.teams import identity


class PrepaymentChecker(CheckerServiceServicer):
    """Rejects messages that ask for money in advance.

    Args:
        phrases: what such messages say, in lower case.
    """

    def __init__(self, phrases: frozenset[str] = frozenset({"pay in advance", "prepayment only"})) -> None:
        self._phrases = phrases

    def Check(self, request: CheckRequest, context: grpc.ServicerContext) -> CheckResponse:  # noqa: N802
        """One verdict a candidate, in their order; the call's deadline is the budget for all of them."""
        if not request.candidates:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "candidates: at least one")
        return CheckResponse(verdicts=map(self._judge, request.candidates))

    def _judge(self, candidate: Candidate) -> Verdict:
        text = candidate.text.lower()
        if any(phrase in text for phrase in self._phrases):
            return Verdict(decision=DECISION_REJECT, checker="prepayment", reason="PREPAYMENT")
        return Verdict(decision=DECISION_PASS)


def serve(address: str, credentials: grpc.ServerCredentials | None = None) -> grpc.Server:
    """A server of the checker, started; without credentials it is open to everybody who reaches it."""
    server = grpc.server(ThreadPoolExecutor(8))
    add_CheckerServiceServicer_to_server(PrepaymentChecker(), server)
    identity.listen(server, address, credentials)
    server.start()
    return server


if __name__ == "__main__":
    serve("127.0.0.1:7001", identity.server_credentials()).wait_for_termination()
