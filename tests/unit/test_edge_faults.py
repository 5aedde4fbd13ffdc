"""The table from the mesh's errors to JSON-RPC."""

from typing import Any

import pytest

from edge.faults import UNEXPECTED, describe
from mesh import errors
from mesh.errors import MessengerError

CONTRACT = {
    "InvalidArgument": -32602, "NotFound": -32005, "AlreadyExists": -32006, "PermissionDenied": -32007,
    "Unauthenticated": -32016, "FailedPrecondition": -32009, "Aborted": -32010,
    "IdempotencyConflict": -32010, "ResourceExhausted": -32008, "DeadlineExceeded": -32004,
    "Unavailable": -32014, "Unimplemented": -32601, "Internal": -32603, "MessengerError": -32603,
}  # fmt: skip


def kinds(kind: type[MessengerError] = MessengerError) -> list[type[MessengerError]]:
    """Every error of the mesh."""
    return [kind, *(found for below in kind.__subclasses__() for found in kinds(below))]


@pytest.mark.parametrize("kind", [one for one in kinds() if one.__module__ == errors.__name__])
def test_every_error_has_a_code_of_the_contract(kind: type[MessengerError]) -> None:
    """Each error maps to its code, with reason, retryable and trace id; -32603 says nothing else."""
    code, message, data = describe(kind("the detail", reason="WHY"), "abc")
    assert code == CONTRACT[kind.__name__]
    assert message == (UNEXPECTED if code == -32603 else "the detail")
    assert data == {"reason": "WHY", "retryable": kind.retryable, "trace_id": "abc"}


@pytest.mark.parametrize(
    ("pause", "shown"), [(None, {}), (0, {"retry_after_ms": 0}), (7, {"retry_after_ms": 7})]
)
def test_a_pause_is_shown_where_there_is_one(pause: int | None, shown: dict[str, Any]) -> None:
    """retry_after_ms stands in the data only where the error has one."""
    _, _, data = describe(errors.ResourceExhausted("later", retry_after_ms=pause), "")
    assert {key: value for key, value in data.items() if key == "retry_after_ms"} == shown


def test_only_what_may_succeed_later_is_retryable() -> None:
    """Throttling, time and absence are retryable; everything else is not."""
    retryable = {kind.__name__ for kind in kinds() if kind.retryable}
    assert retryable == {"ResourceExhausted", "DeadlineExceeded", "Unavailable"}
