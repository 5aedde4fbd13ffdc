"""What is around every HTTP request: its count under an address, headers for browsers, errors as answers."""

import contextlib
import math

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge import jsonrpc
from edge.doorkeeper import Doorkeeper
from edge.faults import describe
from mesh import call
from mesh.errors import InvalidArgument, MessengerError, ResourceExhausted, Unauthenticated

SECURITY_HEADERS = {
    b"content-security-policy": (
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: https:; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
}

PROBES = frozenset({"/healthz", "/readyz"})
"""Paths of those who look after us; they are not counted."""

SHED = frozenset({"SHED", "OVERLOADED"})
"""Reasons that are ours, not the client's."""


def refusal(error: ResourceExhausted) -> tuple[int, dict[str, str]]:
    """Status and headers that say why, and when to come back."""
    pause = str(math.ceil((error.retry_after_ms or 1000) / 1000))
    return (503 if error.reason in SHED else 429), {"retry-after": pause}


def error_response(error: MessengerError, trace_id: str = "") -> Response:
    """The error as a JSON-RPC body, under the HTTP status that fits; without a trace id it gets a new one."""
    trace_id = trace_id or call.trace_id(call.new_traceparent())
    text = jsonrpc.error(None, *describe(error, trace_id))
    headers: dict[str, str] = {}
    match error:
        case ResourceExhausted():
            status, headers = refusal(error)
        case Unauthenticated():
            status, headers = 401, {"www-authenticate": "Bearer"}
        case InvalidArgument():
            status = 400
        case _:
            status = 503 if error.retryable else 500
    return Response(text, status_code=status, headers=headers, media_type="application/json")


class Counted:
    """Counts each request under its client's address while it lasts; one too many is answered with 429."""

    def __init__(self, app: ASGIApp, doorkeeper: Doorkeeper) -> None:
        self._app = app
        self._doorkeeper = doorkeeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["path"] in PROBES:
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        peer, _ = scope["client"] or ("", 0)
        forwarded_for, real_ip = headers.getlist("x-forwarded-for"), headers.get("x-real-ip", "")
        address = self._doorkeeper.address(peer, forwarded_for, real_ip)
        with contextlib.ExitStack() as leave:
            try:
                leave.enter_context(self._doorkeeper.inside(address))
            except ResourceExhausted as error:
                return await error_response(error)(scope, receive, send)
            return await self._app({**scope, "client": (address, 0)}, receive, send)


class SecurityHeaders:
    """Adds the page's Content-Security-Policy and its like to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *SECURITY_HEADERS.items()]
            await send(message)

        await self._app(scope, receive, send_with_headers)
