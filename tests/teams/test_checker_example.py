"""How a team tests its checker: without a server by grpcio-testing, and once as antispam calls it."""

from pathlib import Path

import grpc
import grpc_testing
import pytest

from antispam.teams import TeamChecker
from antispam.verdict import PASS, Candidate, reject
from mesh.breaker import Part
from mesh.channel import Channel
from messenger.antispam.v1 import antispam_pb2
from messenger.antispam.v1.antispam_pb2_grpc import CheckerServiceStub
from tests.teams.checker import PrepaymentChecker, serve

SERVICE = antispam_pb2.DESCRIPTOR.services_by_name["CheckerService"]
CHECK = SERVICE.methods_by_name["Check"]


@pytest.fixture
def server() -> grpc_testing.Server:
    """The servicer behind grpcio-testing's server: no socket, and time that the test owns."""
    return grpc_testing.server_from_dictionary(
        {SERVICE: PrepaymentChecker()}, grpc_testing.strict_fake_time(0.0)
    )


def request(*texts: str) -> antispam_pb2.CheckRequest:
    """A question about some texts."""
    return antispam_pb2.CheckRequest(candidates=[antispam_pb2.Candidate(text=text) for text in texts])


def test_one_verdict_a_candidate(server: grpc_testing.Server) -> None:
    """The answer holds a verdict for each candidate, in order."""
    call = server.invoke_unary_unary(CHECK, (), request("Hello", "Pay in advance, please"), 0.15)
    response, _, code, _ = call.termination()
    assert code is grpc.StatusCode.OK
    assert [verdict.decision for verdict in response.verdicts] == [
        antispam_pb2.DECISION_PASS,
        antispam_pb2.DECISION_REJECT,
    ]
    assert response.verdicts[1].reason == "PREPAYMENT"


def test_bad_questions_are_refused(server: grpc_testing.Server) -> None:
    """A request that breaks the contract ends with the status that says so."""
    _, _, code, details = server.invoke_unary_unary(CHECK, (), request(), 0.15).termination()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "candidates" in details


async def test_antispam_understands_it(tmp_path: Path) -> None:
    """Antispam, given nothing but the address, gets the team's verdicts."""
    address = f"unix:{tmp_path}/checker.sock"
    server = serve(address)
    try:
        async with Channel(address) as channel:
            team = TeamChecker("prepayment", CheckerServiceStub(channel).Check, Part("team", seconds=5))
            verdicts = await team.check(
                [
                    Candidate(message_id="1", sender_id="a", receiver_id="b", text="Hello"),
                    Candidate(message_id="2", sender_id="a", receiver_id="b", text="prepayment only!"),
                ]
            )
    finally:
        server.stop(None).wait()
    assert verdicts == [PASS, reject("prepayment", "PREPAYMENT")]
