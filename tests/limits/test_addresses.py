"""What one address may do before anybody has signed in, behind a proxy that names addresses."""

from contextlib import AsyncExitStack

import pytest
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from tests.limits.support import Edge, ask, forged, running_edge, token, until

HERE, THERE = "203.0.113.7", "198.51.100.1"


async def refused(edge: Edge, address: str) -> Response:
    """The answer to a handshake that must fail."""
    with pytest.raises(InvalidStatus) as caught:
        async with edge.socket(address):
            pass
    return caught.value.response


async def test_handshakes() -> None:
    """Who opens sockets too fast is answered with 429 and Retry-After before the upgrade; others are not."""
    async with running_edge(address_handshakes=0.2) as edge:
        for _ in range(2):
            async with edge.socket(HERE):
                pass
        response = await refused(edge, HERE)
        assert response.status_code == 429
        assert 1 <= int(response.headers["Retry-After"]) <= 5
        async with edge.socket(THERE), edge.socket():
            pass


async def test_connections_at_once() -> None:
    """Sockets and requests of an address share its places; probes need none, and who leaves makes room."""
    async with running_edge(address_connections=2) as edge, AsyncExitStack() as leave:
        first, second = [await leave.enter_async_context(edge.socket(HERE)) for _ in range(2)]
        assert (await refused(edge, HERE)).status_code == 429
        http = await leave.enter_async_context(edge.client(HERE, token("ann")))
        answer = await http.get("/openrpc.json")
        assert answer.status_code == 429
        assert answer.headers["Retry-After"] == "10"
        assert answer.json()["error"]["data"]["reason"] == "TOO_MANY_CONNECTIONS"
        assert (await http.get("/readyz")).status_code == 200
        assert "result" in await ask(second, "session.connect", token=token("ann"))
        await first.close()
        await until(lambda: len(edge.gateway) == 1)
        assert (await http.get("/openrpc.json")).status_code == 200
        async with edge.socket(HERE):
            pass


async def test_requests_that_wait_count() -> None:
    """A stream of events takes a place for as long as it lasts, and gives it back."""
    async with running_edge(address_connections=1) as edge, edge.client(HERE, token("ann")) as http:
        async with http.stream("GET", "/events/stream") as stream:
            assert stream.status_code == 200
            assert (await http.get("/openrpc.json")).status_code == 429
        async with edge.client(HERE) as again:
            for _ in range(1_000):
                if (await again.get("/openrpc.json")).status_code == 200:
                    break
            else:
                raise AssertionError("the place was not given back")


async def test_forged_tokens() -> None:
    """An address that guesses is not looked at for a while, on every transport; another address is."""
    async with running_edge(address_failures=0.2) as edge, edge.socket(HERE) as socket:
        async with edge.client(HERE, forged("ann")) as guesser:
            assert [(await guesser.post("/rpc")).status_code for _ in range(4)] == [401, 401, 429, 429]
        async with edge.client(HERE, token("ann")) as http:
            answer = await http.get("/events", params={"wait": 0})
            assert answer.status_code == 429
            assert 1 <= int(answer.headers["Retry-After"]) <= 5
        assert (await refused(edge, HERE)).status_code == 429
        error = (await ask(socket, "session.connect", token=token("ann")))["error"]
        assert error["code"] == -32008
        assert error["data"]["reason"] == "TOO_MANY_FAILURES"
        assert 0 < error["data"]["retry_after_ms"] <= 5_001
        async with edge.client(THERE, token("ann")) as http, edge.socket(THERE) as other:
            assert (await http.get("/events", params={"wait": 0})).status_code == 200
            assert "result" in await ask(other, "session.connect", token=token("ann"))


async def test_guesses_on_one_socket() -> None:
    """Forged tokens on a socket count as much as those of requests."""
    async with running_edge(address_failures=0.2) as edge, edge.socket(HERE) as socket:
        codes = [(await ask(socket, "session.connect", token=forged("ann")))["error"]["code"] for _ in "1234"]
        assert codes == [-32016, -32016, -32008, -32008]


async def test_old_tokens_and_none_do_not_count() -> None:
    """Clients that slept for long, and those that forgot their token, shut nobody out."""
    async with running_edge(address_failures=0.1) as edge:
        async with edge.client(HERE, token("ann", -5)) as late, edge.client(HERE) as nobody:
            for _ in range(5):
                assert (await late.post("/rpc")).status_code == 401
                assert (await nobody.post("/rpc")).status_code == 401
        async with edge.client(HERE, token("ann")) as http:
            assert (await http.get("/events", params={"wait": 0})).status_code == 200


async def test_who_is_no_proxy_names_nobody() -> None:
    """X-Forwarded-For of a peer that is no proxy of ours is a client's invention."""
    async with running_edge(address_handshakes=0.2, trusted_proxies=("10.0.0.0/8",)) as edge:
        for number in range(2):
            async with edge.socket(f"203.0.113.{number}"):
                pass
        assert (await refused(edge, "203.0.113.99")).status_code == 429


async def test_who_hides_behind_a_proxy_is_not_counted() -> None:
    """Where every hop is a proxy of ours nobody is limited: the address would be that of all clients."""
    async with running_edge(address_handshakes=0.1, trusted_proxies=("127.0.0.0/8", "10.0.0.0/8")) as edge:
        for _ in range(5):
            async with edge.socket("10.1.2.3"):
                pass
