"""What the contract's errors, close codes and tokens mean to a client. Pure; the twin of web/rpc.js."""

import base64
from dataclasses import dataclass
from typing import Any

import msgspec

REFUSED, INTERNAL = -32600, -32603
DEADLINE, THROTTLED, UNAVAILABLE, UNAUTHENTICATED = -32004, -32008, -32014, -32016

LOST = 1006
BAD_PROTOCOL, NOT_AUTHENTICATED, TOKEN_EXPIRED = 4500, 4501, 4502


class RpcError(Exception):
    """An error answer. A throttled call may always be repeated.

    Attributes:
        code: JSON-RPC's; `reason`, `retryable`, `retry_after_ms` and `trace_id` are the error's data, and
            reasons CLIENT_* are made here.
    """

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        data = error.get("data") or {}
        self.code: int = error["code"]
        self.reason: str = data.get("reason", "")
        self.retryable: bool = data.get("retryable", False) or self.code == THROTTLED
        self.retry_after_ms: int = data.get("retry_after_ms", 0)
        self.trace_id: str = data.get("trace_id", "")

    @property
    def may_pass(self) -> bool:
        """Whether the same call may yet go well: a repetition may help, or it was only time that ran out."""
        return self.retryable or self.code == DEADLINE


def failure(code: int, reason: str, message: str, **data: Any) -> RpcError:
    """An error that was made here, not by the server."""
    return RpcError({"code": code, "message": message, "data": {"reason": reason, **data}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a session ended.

    Attributes:
        code: the WebSocket close code, or what comes nearest to it.
        reason: for people.
        pause: seconds that the server asked for; None for those of the backoff.
    """

    code: int
    reason: str = ""
    pause: float | None = None


def comes_back(close_code: int) -> bool:
    """Whether a client comes back by itself after this WebSocket close code."""
    return not 4500 <= close_code <= 4999


def refused(error: RpcError) -> Ended:
    """How a session ends that session.connect refused to begin: what may pass is tried again."""
    if error.retryable or error.code == INTERNAL:
        return Ended(code=LOST, reason=str(error), pause=error.retry_after_ms / 1000 or None)
    code = NOT_AUTHENTICATED if error.code == UNAUTHENTICATED else BAD_PROTOCOL
    return Ended(code=code, reason=str(error))


def subject(token: str) -> str:
    """The user id that a JWT speaks for, unchecked: the server checks. Empty for what is no JWT."""
    try:
        payload = token.split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(claims.get("sub", ""))
    except (IndexError, ValueError, AttributeError):
        return ""
