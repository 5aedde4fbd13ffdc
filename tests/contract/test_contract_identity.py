"""Who may call: tokens that are good, over, forged or somebody else's, and what becomes of the connection."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.contract.conftest import Connect, Target
from tests.contract.device import HttpDevice, SocketDevice
from tests.contract.shapes import ERROR, TIME, Shape, assert_shape

Name = Callable[[str], str]
OpenSocket = Callable[..., Awaitable[SocketDevice]]

ATTACKERS_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def forgeries(user: str) -> dict[str, str]:
    """Tokens for a user that the server's key has not signed, by what is wrong."""
    claims = {"sub": user, "exp": int(time.time()) + 3600}
    public = ATTACKERS_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    own_key = {"jwk": json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(ATTACKERS_KEY.public_key()))}
    good = jwt.encode(claims, "x" * 32, algorithm="HS256")
    return {
        "garbage": "not-a-token",
        "three dots": "a.b.c",
        "beyond ASCII": "é.é.é",
        "no signature": jwt.encode(claims, "", algorithm="none"),
        "no signature, spelled otherwise": signed({"alg": "nOnE"}, claims, b"", sign=False),
        "another key": good,
        "another key of another kind": jwt.encode(claims, ATTACKERS_KEY, algorithm="RS256", headers=own_key),
        "a public key as the secret": signed({"alg": "HS256"}, claims, public),
        "an empty secret": signed({"alg": "HS256"}, claims, b""),
        "an algorithm that is a list": signed({"alg": ["HS256"]}, claims, b"x"),
        "no algorithm": signed({}, claims, b"x"),
        "cut": good[:-5],
    }


def signed(header: dict[str, Any], claims: dict[str, Any], key: bytes, *, sign: bool = True) -> str:
    """A token by hand, for what a library refuses to make."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    text = b".".join(parts)
    signature = hmac.new(key, text, hashlib.sha256).digest() if sign else b""
    return (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


async def test_a_call_without_a_session(socket: OpenSocket, target: Target, name: Name) -> None:
    """Before session.connect every call but the session's own is -32016; afterwards it works."""
    device = await socket()
    error = await device.error("chats.list")
    assert error.code == -32016
    assert_shape(error.error, ERROR, "error")
    user = name("alice")
    session = await device.call("session.connect", token=await target.token(user))
    assert session["user_id"] == user
    assert (await device.call("chats.list"))["chats"] == []


async def test_the_token_of_the_upgrade(socket: OpenSocket, target: Target, name: Name) -> None:
    """A token in the Authorization header of the upgrade makes session.connect unnecessary, and possible."""
    user = name("alice")
    device = await socket(user, headers={"Authorization": f"Bearer {await target.token(user)}"})
    assert (await device.call("chats.list"))["chats"] == []
    assert (await device.call("session.connect"))["user_id"] == user


async def test_forged_tokens_in_session_connect(socket: OpenSocket, target: Target, name: Name) -> None:
    """No forgery opens a session; each is -32016, the socket survives, and a good token then works."""
    user = name("alice")
    device = await socket()
    for kind, token in forgeries(user).items():
        error = await device.error("session.connect", token=token)
        assert error.code == -32016, kind
        assert not error.data["retryable"]
    assert (await device.error("session.connect", token=await target.token(user, -60))).code == -32016
    assert (await device.error("session.connect")).code == -32016
    assert (await device.error("chats.list")).code == -32016
    await device.call("session.connect", token=await target.token(user))


async def test_forged_tokens_in_the_upgrade(socket: OpenSocket, name: Name) -> None:
    """A forgery in the upgrade's header closes the socket with 4501."""
    for kind, token in forgeries(name("alice")).items():
        if token.isascii():
            device = await socket(headers={"Authorization": f"Bearer {token}"})
            assert (await device.closed())[0] == 4501, kind


async def test_an_expired_token_in_the_upgrade(socket: OpenSocket, target: Target, name: Name) -> None:
    """An expired token in the upgrade's header closes the socket with 4502."""
    token = await target.token(name("alice"), -60)
    device = await socket(headers={"Authorization": f"Bearer {token}"})
    assert (await device.closed())[0] == 4502


async def test_forged_tokens_over_http(by_http: HttpDevice, target: Target) -> None:
    """Without a valid token /rpc, /events and /events/stream are 401, with an error body."""
    expired = await target.token(by_http.user_id, -60)
    for kind, token in {**forgeries(by_http.user_id), "expired": expired}.items():
        headers = {b"Authorization": f"Bearer {token}".encode()}
        await refused(by_http, headers, kind)
    await refused(by_http, {b"Authorization": b"Basic YTpi"}, "another scheme")
    del by_http.http.headers["Authorization"]
    await refused(by_http, {}, "none")


async def refused(device: HttpDevice, headers: dict[bytes, bytes], kind: str) -> None:
    """The paths that need a token do not take this one."""
    ping = b'{"jsonrpc":"2.0","method":"session.ping","id":1}'
    for response in (
        await device.http.post("/rpc", content=ping, headers=headers),
        await device.http.get("/events?wait=0", headers=headers),
        await device.http.get("/events/stream", headers=headers),
    ):
        assert response.status_code == 401, (kind, response.url)
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        body = response.json()
        assert body["error"]["code"] == -32016
        assert_shape(body["error"], ERROR, "error")


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "x" * 65}, {"sub": ""}, {"sub": "a b"}, {"sub": "é"}, {"sub": 7}, {"sub": None},
        {"exp": None}, {"exp": "later"},
    ],
    ids=str,
)  # fmt: skip
async def test_a_token_without_a_user_or_an_end(
    socket: OpenSocket, target: Target, name: Name, claims: dict[str, Any]
) -> None:
    """A token that is signed well and has no user id of the contract's, or no `exp`, lets nobody in."""
    if not target.secret:
        pytest.skip("only who has the secret makes such tokens; --token-command was given")
    all_claims = {"sub": name("alice"), "exp": int(time.time()) + 3600, **claims}
    kept = {key: value for key, value in all_claims.items() if value is not None}
    token = signed({"alg": "HS256"}, kept, target.secret.encode())
    device = await socket()
    assert (await device.error("session.connect", token=token)).code == -32016
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=target.url, headers=headers, trust_env=False) as http:
        assert (await http.get("/events?wait=0")).status_code == 401


async def test_any_user_id_of_the_contract(connect: Connect, name: Name) -> None:
    """64 characters of every kind that may be in a user id are one."""
    user = name("Ab9_.-").ljust(64, "Z")
    device = await connect(user)
    assert (await device.call("session.connect"))["user_id"] == user


async def test_an_expiring_session(connect_by: Connect, target: Target, name: Name) -> None:
    """A session is told before its token ends: one that refreshes lives on, one that does not gets 4502."""
    fresh, stale = [await connect_by("ws", name(person), ttl=2) for person in ("alice", "bob")]
    assert isinstance(stale, SocketDevice)
    told = await fresh.next("session.expiring")
    assert_shape(told, Shape(must={"expires_at": TIME}), "session.expiring")
    answer = await fresh.call("session.refresh", token=await target.token(fresh.user_id))
    assert answer["expires_at"] > told["expires_at"]
    assert (await stale.closed())[0] == 4502
    await fresh.call("session.ping")


async def test_a_token_of_somebody_else(connect: Connect, target: Target, name: Name) -> None:
    """A session keeps its user: another user's token neither refreshes nor replaces it."""
    device = await connect(name("alice"))
    token = await target.token(name("bob"))
    assert (await device.error("session.refresh", token=token)).code == -32007
    assert (await device.error("session.connect", token=token)).code == -32007
    assert (await device.call("session.connect"))["user_id"] == device.user_id


@pytest.mark.parametrize("subprotocols", [None, ["jsonrpc-2.0"], ["other", "jsonrpc-2.0"], ["other"]])
async def test_the_subprotocol(socket: OpenSocket, subprotocols: list[str] | None) -> None:
    """jsonrpc-2.0 is accepted when offered; a client that offers none, or another, gets in without."""
    device = await socket(subprotocols=subprotocols)
    offered = subprotocols is not None and "jsonrpc-2.0" in subprotocols
    assert device.socket.subprotocol == ("jsonrpc-2.0" if offered else None)
    await device.call("session.ping")


async def test_a_binary_frame(socket: OpenSocket, connect_by: Connect, name: Name) -> None:
    """A binary frame closes the socket with 4500, with and without a session."""
    connected = await connect_by("ws", name("alice"))
    for device in (await socket(), connected):
        assert isinstance(device, SocketDevice)
        await device.socket.send(b'{"jsonrpc":"2.0","method":"session.ping","id":1}')
        assert (await device.closed())[0] == 4500


async def test_the_largest_frame(connect_by: Connect, name: Name) -> None:
    """A frame of 64 KiB is answered; one byte more closes the socket with 1009."""
    device = await connect_by("ws", name("alice"))
    assert isinstance(device, SocketDevice)
    ping = '{"jsonrpc":"2.0","method":"session.ping","id":1}'
    assert "result" in await device.exchange(ping.ljust(65536))
    await device.socket.send(ping.ljust(65537))
    assert (await device.closed())[0] == 1009


async def test_another_path_is_no_websocket(target: Target) -> None:
    """Only /ws upgrades."""
    with pytest.raises(InvalidStatus):
        async with connect(target.url.replace("http", "ws", 1) + "/other", proxy=None):
            pass
