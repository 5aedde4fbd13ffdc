"""Signing in by a name alone: a path of the local stack, and of nothing else. Off, it is not there (404)."""

from datetime import UTC, datetime, timedelta

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from mesh import tokens

PATH = "/dev/token"
TTL = timedelta(days=1)


class _Ask(msgspec.Struct, forbid_unknown_fields=True):
    user_id: str


def token_route(secret: str) -> Route:
    """`GET` says that one can sign in so (204); `POST {"user_id"}` answers `{"token"}`.

    Args:
        secret: the HS256 secret; empty where nobody may sign in by a name.
    """

    async def token(request: Request) -> Response:
        if not secret:
            return PlainTextResponse("Not Found", status_code=404)
        if request.method != "POST":
            return Response(status_code=204)
        try:
            ask = msgspec.json.decode(await request.body(), type=_Ask)
            issued = tokens.issue(ask.user_id, secret=secret, now=datetime.now(UTC), ttl=TTL)
        except ValueError as error:  # msgspec's errors are ValueErrors, too
            return JSONResponse({"error": str(error)}, status_code=400)
        return JSONResponse({"token": issued}, headers={"cache-control": "no-store"})

    return Route(PATH, token, methods=["GET", "POST"])
