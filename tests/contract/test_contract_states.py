"""What a client is told by a system that has too much to do, lacks a part, or goes away."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from mesh.stack import Stack
from tests.contract.conftest import Target
from tests.contract.device import (
    PATIENCE,
    TRANSPORTS,
    Device,
    HttpDevice,
    SocketDevice,
    open_device,
    open_socket,
)
from tests.contract.edges import Edge, edge_of
from tests.contract.hop import Hop
from tests.contract.shapes import ERROR, NATURAL, SOME_TEXT, Shape, assert_shape

Name = Callable[[str], str]
Join = Callable[..., Any]

AT_ONCE = 40
"""Calls that are more than the small edge carries at once."""

MORE_THAN_KERNELS_HOLD, ANSWERED = 16 << 20, 1 << 20
"""Bytes: what waits nowhere on the way to a client; at least so many are the answer to fifty calls."""

BUSY = {
    "CALLS_PER_EDGE": "1",
    "LIMIT_BURST": "1000000",
    "USER_SESSIONS": "2",
    "OUTBOUND_BYTES": "65536",
    "PING_SECONDS": "0.3",
}


def call(method: str, **params: Any) -> dict[str, Any]:
    """A request."""
    return {"jsonrpc": "2.0", "id": method, "method": method, "params": params}


@pytest_asyncio.fixture(scope="module")
async def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where an issuer's keys are going to be."""
    return tmp_path_factory.mktemp("keys") / "jwks.json"


@pytest_asyncio.fixture(scope="module")
async def small(
    own_stack: Stack, keys: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Edge]:
    """An edge with small limits that has not got the issuer's keys."""
    directory = tmp_path_factory.mktemp("small")
    async with edge_of(own_stack, directory, JWT_JWKS=str(keys), **BUSY) as edge:
        yield edge


@pytest.fixture
async def join(small: Edge, target: Target, devices: list[Device]) -> Join:
    """Opens devices on the small edge."""

    async def join(transport: str, user: str) -> Device:
        devices.append(await open_device(transport, small.url, user, await target.token(user)))
        return devices[-1]

    return join


async def test_shedding(join: Join, name: Name) -> None:
    """What a busy system sheds is 503 with Retry-After, in a batch -32008; what is critical goes on."""
    device = await join("http", name("alice"))
    listing, opening = call("chats.list"), call("chats.open", peer_id=name("bob"))
    shed: list[httpx.Response] = []
    batch: list[Any] = []
    asked = [*[listing] * AT_ONCE, opening, [listing]]
    async with asyncio.timeout(PATIENCE):
        while not (shed and batch):
            *answers, opened, many = await asyncio.gather(
                *(device.http.post("/rpc", json=one) for one in asked)
            )
            assert "result" in opened.json()
            assert {one.status_code for one in answers} <= {200, 503}
            shed += [one for one in answers if one.status_code == 503]
            assert many.status_code == 200
            batch += [one["error"] for one in many.json() if "error" in one]
    for error in [*(one.json()["error"] for one in shed), *batch]:
        assert_shape(error, ERROR, "error")
        assert (error["code"], error["data"]["reason"], error["data"]["retryable"]) == (-32008, "SHED", True)
        assert error["data"]["retry_after_ms"] > 0
    assert all(int(one.headers["Retry-After"]) >= 1 for one in shed)


async def test_too_many_sessions(join: Join, name: Name) -> None:
    """One session too many closes the user's oldest with 4503; the others go on."""
    oldest, *others = [await join("ws", name("alice")) for _ in range(3)]
    assert (await oldest.closed())[0] == 4503
    for device in others:
        await device.call("session.ping")


async def test_who_answers_no_ping(small: Edge) -> None:
    """A socket that sends nothing and answers no ping is closed with 4003."""
    uri = parse_uri(small.url.replace("http", "ws", 1) + "/ws")
    reader, writer = await asyncio.open_connection(uri.host, uri.port)
    protocol = ClientProtocol(uri)
    protocol.send_request(protocol.connect())
    writer.writelines(protocol.data_to_send())
    async with asyncio.timeout(PATIENCE):
        while protocol.close_rcvd is None:
            data = await reader.read(4096)
            assert data, "the connection ended without a close frame"
            protocol.receive_data(data)  # the answers that it has ready are not sent
    writer.close()
    assert protocol.close_rcvd.code == 4003


async def test_who_does_not_read(small: Edge, target: Target, devices: list[Device], name: Name) -> None:
    """A socket that does not take its answers is closed with 4001, behind what it was sent before."""
    user = name("alice")
    async with Hop(small.url) as hop:
        device = await open_device("ws", hop.url, user, await target.token(user))
        devices.append(device)
        assert isinstance(device, SocketDevice)
        hop.hears.clear()
        documents = json.dumps([call("rpc.discover")] * 50)
        for _ in range(MORE_THAN_KERNELS_HOLD // ANSWERED):
            await device.socket.send(documents)
        hop.hears.set()
        assert (await device.closed())[0] == 4001


async def test_a_part_that_hangs(
    own_stack: Stack, target: Target, devices: list[Device], name: Name, tmp_path: Path
) -> None:
    """Where a part takes a call and does not answer, the client hears -32004, and may ask again."""
    user, part = name("alice"), own_stack.env()["AGGREGATOR_ADDRESS"].removeprefix("ipv4:")
    async with Hop(f"http://{part}") as hop:
        around = hop.url.removeprefix("http://")
        async with edge_of(own_stack, tmp_path, AGGREGATOR_ADDRESS=around) as edge:
            token = await target.token(user)
            devices += [await open_device(kind, edge.url, user, token) for kind in TRANSPORTS]
            hop.hears.clear()
            for device in devices:
                error = await device.error("chats.open", peer_id=name("bob"))
                assert (error.code, error.data["retryable"]) == (-32004, True)
            hop.hears.set()
            for device in devices:
                assert "chat" in await device.call("chats.open", peer_id=name("bob"))


KINDS: dict[str, tuple[Callable[[], Any], Any]] = {
    "RS256": (partial(rsa.generate_private_key, 65537, 2048), RSAAlgorithm),
    "ES256": (partial(ec.generate_private_key, ec.SECP256R1()), ECAlgorithm),
    "EdDSA": (ed25519.Ed25519PrivateKey.generate, OKPAlgorithm),
}
KEYS = {algorithm: make() for algorithm, (make, _) in KINDS.items()}


def jwks() -> str:
    """The public keys, as their issuer publishes them (RFC 7517)."""
    public = {kid: KINDS[kid][1].to_jwk(key.public_key(), as_dict=True) for kid, key in KEYS.items()}
    return json.dumps({"keys": [{**key, "kid": kid} for kid, key in public.items()]})


def signed(user: str, algorithm: str, key: Any) -> str:
    """A token of an issuer with a JWKS."""
    claims = {"sub": user, "exp": int(time.time()) + 3600}
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": algorithm})


async def test_a_part_that_the_call_cannot_do_without(
    small: Edge, keys: Path, devices: list[Device], name: Name
) -> None:
    """Without the issuer's keys nobody of theirs is let in, nor sent away for good; with them they are in.

    4002 for an upgrade, -32014 for a call, 503 over HTTP: each says to come back. Then RS256, ES256 and EdDSA
    work, and no key works for another.
    """
    user = name("alice")
    token = signed(user, "RS256", KEYS["RS256"])
    headers = {"Authorization": f"Bearer {token}"}
    upgraded, device = await open_socket(small.url, user, headers=headers), await open_socket(small.url, user)
    devices += (upgraded, device)
    assert (await upgraded.closed())[0] == 4002
    error = await device.error("session.connect", token=token)
    assert (error.code, error.data["retryable"]) == (-32014, True)
    async with httpx.AsyncClient(base_url=small.url, headers=headers, trust_env=False) as http:
        for answer in (await http.post("/rpc", json=call("session.ping")), await http.get("/events?wait=0")):
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == -32014
    keys.with_suffix(".new").write_text(jwks())
    keys.with_suffix(".new").rename(keys)
    async with asyncio.timeout(PATIENCE):
        while "error" in await device.exchange(json.dumps(call("session.connect", token=token))):  # noqa: ASYNC110  # as a client that comes back
            await asyncio.sleep(0.2)
    for algorithm, (make, _) in KINDS.items():
        good, forged = (signed(user, algorithm, key) for key in (KEYS[algorithm], make()))
        assert "expires_at" in await device.call("session.refresh", token=good)
        assert (await device.error("session.refresh", token=forged)).code == -32016


async def test_an_edge_that_goes_away(
    own_stack: Stack, target: Target, devices: list[Device], name: Name, tmp_path: Path
) -> None:
    """Sockets are told when to come back and closed with 4000; streams of events end."""
    user = name("alice")
    async with edge_of(own_stack, tmp_path) as edge:
        token = await target.token(user)
        socket, http = [await open_device(kind, edge.url, user, token) for kind in ("ws", "http")]
        devices += (socket, http)
        assert isinstance(socket, SocketDevice)
        assert isinstance(http, HttpDevice)
        async with http.http.stream("GET", "/events/stream") as stream:
            lines = stream.aiter_lines()
            await anext(lines)  # it follows
            edge.leave()
            told = await socket.next("session.reconnect")
            assert [line async for line in lines if line.startswith("data")] == []
        assert_shape(told, Shape(must={"reason": SOME_TEXT}, may={"after_ms": NATURAL}), "session.reconnect")
        assert (await socket.closed())[0] == 4000
        assert await edge.process.wait() == 0
