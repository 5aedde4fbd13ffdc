"""Servers of the mesh with certificates of a CA of the test's own."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from mesh.assertion import Signer, Verifier
from mesh.channel import Channel
from mesh.server import Security, Server
from mesh.stack.ca import Authority, make_assertion_keys
from mesh.tls import Tls


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A CA."""
    return Authority(tmp_path / "tls")


@pytest.fixture
def tls(authority: Authority) -> Callable[[str], Tls]:
    """Certificates by service name: `tls("edge")`."""

    def make(service: str) -> Tls:
        authority.issue([service])
        return Tls(authority.certificate, authority.certificate_of(service), authority.key_of(service))

    return make


@pytest.fixture
def signing_key(tmp_path: Path) -> Path:
    """An edge's key; its JWKS lies beside it."""
    make_assertion_keys(tmp_path / "assertion.key", tmp_path / "assertions.json")
    return tmp_path / "assertion.key"


@pytest.fixture
def signer(signing_key: Path) -> Signer:
    """The edge's hand."""
    return Signer(signing_key)


@pytest.fixture
def verifier(signing_key: Path) -> Verifier:
    """Everybody else's eyes."""
    return Verifier(signing_key.with_name("assertions.json"))


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    """What is entered here is closed after the test."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def serve(opened: AsyncExitStack) -> Callable[..., Any]:
    """Starts servers: `await serve(add_to_server, servicer, tls=…)`."""  # noqa: D402  # that is no signature

    async def start(
        add_to_server: Any,
        servicer: object,
        *,
        listen: str = "127.0.0.1:0",
        plain_health: str = "",
        **security: Any,
    ) -> Server:
        server = Server(listen, security=Security(**security), plain_health=plain_health)
        server.add(add_to_server, servicer)
        await server.start()
        await server.set_serving(True)
        opened.push_async_callback(server.stop, 0)
        return server

    return start


@pytest.fixture
def dial(opened: AsyncExitStack) -> Callable[..., Any]:
    """Opens channels: `await dial(server, "dbapi", tls=…)`."""  # noqa: D402  # that is no signature

    async def connect(server: Server | str, service: str = "", **options: Any) -> Channel:
        address = server if isinstance(server, str) else server.address
        return await opened.enter_async_context(Channel(address, service=service, **options))

    return connect
