"""The errors of the whole mesh, each typed once. Tables map them to gRPC here and to JSON-RPC at the edge.

    MessengerError
    ├── InvalidArgument         bad input; the text names the field and the rule
    ├── NotFound                no such thing in the caller's mailbox
    ├── AlreadyExists
    ├── PermissionDenied
    ├── Unauthenticated
    ├── FailedPrecondition      blocked by the state
    ├── Aborted
    │   └── IdempotencyConflict the same key with other content
    ├── ResourceExhausted       throttled or shed; come back after `retry_after_ms`
    ├── DeadlineExceeded
    ├── Unavailable             a part is down; the same call may succeed later
    ├── Unimplemented
    └── Internal                anything unexpected; says nothing of the inside

Drivers' errors are translated into these where they enter. On the wire an error is a gRPC status with a
`google.rpc.Status` in its details: ErrorInfo carries the reason, RetryInfo the pause (AIP-193).
"""

from typing import ClassVar

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "messenger"
STATUS_DETAILS_KEY = "grpc-status-details-bin"


class MessengerError(Exception):
    """An error that a caller may see.

    Args:
        detail: one sentence for a person; must hold nothing of the inside.
        reason: UPPER_SNAKE, stable, for programs; the class's own by default.
        retry_after_ms: when the same call may succeed, where that is known.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN
    default_reason: ClassVar[str] = "UNKNOWN"
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, *, reason: str = "", retry_after_ms: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason = reason or self.default_reason
        self.retry_after_ms = retry_after_ms


class InvalidArgument(MessengerError):
    """Bad input; the text names the field and the rule."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    default_reason = "INVALID_ARGUMENT"


class NotFound(MessengerError):
    """No such thing where the caller may look."""

    code = grpc.StatusCode.NOT_FOUND
    default_reason = "NOT_FOUND"


class AlreadyExists(MessengerError):
    """It is there already."""

    code = grpc.StatusCode.ALREADY_EXISTS
    default_reason = "ALREADY_EXISTS"


class PermissionDenied(MessengerError):
    """The caller may not."""

    code = grpc.StatusCode.PERMISSION_DENIED
    default_reason = "PERMISSION_DENIED"


class Unauthenticated(MessengerError):
    """Nobody knows who calls."""

    code = grpc.StatusCode.UNAUTHENTICATED
    default_reason = "UNAUTHENTICATED"


class FailedPrecondition(MessengerError):
    """Blocked by the state; a retry changes nothing."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    default_reason = "FAILED_PRECONDITION"


class Aborted(MessengerError):
    """Lost against another call."""

    code = grpc.StatusCode.ABORTED
    default_reason = "ABORTED"


class IdempotencyConflict(Aborted):
    """The same idempotency key came with other content."""

    default_reason = "IDEMPOTENCY_CONFLICT"


class ResourceExhausted(MessengerError):
    """Throttled or shed."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    default_reason = "THROTTLED"
    retryable = True


class DeadlineExceeded(MessengerError):
    """Out of time."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    default_reason = "DEADLINE_EXCEEDED"
    retryable = True


class Unavailable(MessengerError):
    """A part that the call cannot do without is down."""

    code = grpc.StatusCode.UNAVAILABLE
    default_reason = "UNAVAILABLE"
    retryable = True


class Unimplemented(MessengerError):
    """The service does not offer this."""

    code = grpc.StatusCode.UNIMPLEMENTED
    default_reason = "UNIMPLEMENTED"


class Internal(MessengerError):
    """Anything unexpected."""

    code = grpc.StatusCode.INTERNAL
    default_reason = "INTERNAL"


BY_CODE: dict[grpc.StatusCode, type[MessengerError]] = {
    error.code: error
    for error in (
        InvalidArgument, NotFound, AlreadyExists, PermissionDenied, Unauthenticated, FailedPrecondition,
        Aborted, ResourceExhausted, DeadlineExceeded, Unavailable, Unimplemented, Internal,
    )
}  # fmt: skip


def from_code(
    code: int, detail: str, *, reason: str = "", retry_after_ms: int | None = None
) -> MessengerError:
    """The error for a google.rpc.Code number; unknown numbers become Internal."""
    found = next((kind for status, kind in BY_CODE.items() if status.value[0] == code), Internal)
    if found is Aborted and reason == IdempotencyConflict.default_reason:
        found = IdempotencyConflict
    return found(detail, reason=reason, retry_after_ms=retry_after_ms)


def to_trailer(error: MessengerError) -> tuple[tuple[str, bytes], ...]:
    """Trailing metadata that carries the error's reason and pause."""
    status = status_pb2.Status(code=error.code.value[0], message=error.detail)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN))
    if error.retry_after_ms is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(error.retry_after_ms)
        status.details.add().Pack(retry)
    return ((STATUS_DETAILS_KEY, status.SerializeToString()),)


def from_rpc(error: grpc.aio.AioRpcError) -> MessengerError:
    """The error that a gRPC call failed with, as the other side raised it."""
    code = error.code().value[0]
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_DETAILS_KEY and isinstance(value, bytes):
            status = status_pb2.Status.FromString(value)
            reason, pause = _read_details(status.details)
            return from_code(code, status.message, reason=reason, retry_after_ms=pause)
    return from_code(code, _PLAIN.get(error.code(), "The call failed."))


# gRPC's own texts name addresses and sockets; these are what a caller gets to read instead.
_PLAIN = {
    grpc.StatusCode.DEADLINE_EXCEEDED: "The call ran out of time.",
    grpc.StatusCode.UNAVAILABLE: "A part of the service is down; try again.",
    grpc.StatusCode.UNIMPLEMENTED: "The service does not offer this call.",
}


def _read_details(details: "list[any_pb2.Any]") -> tuple[str, int | None]:
    reason, pause = "", None
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for packed in details:
        if packed.Unpack(info):
            reason = info.reason
        elif packed.Unpack(retry):
            pause = retry.retry_delay.ToMilliseconds()
    return reason, pause
