"""Signing in by a name: there where a setting says so, and nowhere else."""

from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from starlette.applications import Starlette

from edge.auth import Authenticator
from edge.dev import PATH, token_route
from edge.settings import Settings

SECRET = "a secret of at least thirty-two bytes"
NEEDED: dict[str, Any] = {"aggregator_address": "a:1", "dbapi_address": "d:1", "redis_urls": "redis://r:1"}


def client(secret: str) -> httpx.AsyncClient:
    """A client of an application with this path alone."""
    transport = httpx.ASGITransport(app=Starlette(routes=[token_route(secret)]))
    return httpx.AsyncClient(transport=transport, base_url="http://edge")


async def test_off_it_is_not_there() -> None:
    """Without the secret, which the setting hands out, both methods answer 404."""
    async with client("") as http:
        answers = [await http.get(PATH), await http.post(PATH, json={"user_id": "alice"})]
    assert [answer.status_code for answer in answers] == [404, 404]


async def test_on_it_issues_the_token_of_whoever_is_named() -> None:
    """The token is one that an edge with the same secret accepts."""
    async with client(SECRET) as http:
        assert (await http.get(PATH)).status_code == 204
        answer = await http.post(PATH, json={"user_id": "alice"})
    identity = await Authenticator(secret=SECRET, keys=None).identify(answer.json()["token"])
    assert identity.user_id == "alice"


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"user_id": "no spaces"}', '{"user_id": 1}'])
async def test_what_is_no_name_is_refused(body: str) -> None:
    """A body without a user id of the contract is answered with 400."""
    async with client(SECRET) as http:
        assert (await http.post(PATH, content=body)).status_code == 400


def test_it_is_off_unless_it_is_switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edge's default is off, and on without a secret it does not start."""
    monkeypatch.delenv("DEV_SIGN_IN", raising=False)
    assert not Settings(jwt_secret=SECRET, **NEEDED).dev_sign_in
    with pytest.raises(ValidationError, match="DEV_SIGN_IN needs JWT_SECRET"):
        Settings(jwt_secret="", jwt_jwks="keys.json", dev_sign_in=True, **NEEDED)
