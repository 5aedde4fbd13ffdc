"""A real Envoy before two replicas."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import httpx
import pytest

from messenger.items.v1 import items_pb2_grpc
from tests.envoy.support import REQUEST, Gateway, Replica, configured, eventually, running

LONG_S = 15.5
"""Longer than Envoy lets a call of a route take by default; the default itself is what is waited for."""


@asynccontextmanager
async def two_replicas() -> AsyncIterator[list[Replica]]:
    """Two replicas, running."""
    replicas = [await Replica().start() for _ in range(2)]
    yield replicas
    await asyncio.gather(*(replica.server.stop(0) for replica in replicas))


@asynccontextmanager
async def before(replicas: list[Replica], directory: Path) -> AsyncIterator[Gateway]:
    """An Envoy before the two, that knows both to be well."""
    with running(configured(replicas), directory) as where:

        async def started() -> bool:
            return where.exists() and bool(where.read_text())

        await eventually(started)
        admin = httpx.AsyncClient(base_url=f"http://{where.read_text()}", trust_env=False)
        listeners = (await admin.get("/listeners", params={"format": "json"})).json()
        [address] = [one["local_address"]["socket_address"] for one in listeners["listener_statuses"]]
        gateway = Gateway(address=f"{address['address']}:{address['port_value']}", admin=admin)
        await gateway.healthy(2)
        yield gateway
        await gateway.close()


@pytest.fixture
async def replicas() -> AsyncIterator[list[Replica]]:
    """Two replicas."""
    async with two_replicas() as replicas:
        yield replicas


@pytest.fixture
async def gateway(replicas: list[Replica], tmp_path: Path) -> AsyncIterator[Gateway]:
    """An Envoy of the test's own."""
    async with before(replicas, tmp_path) as gateway:
        yield gateway


@pytest.fixture(scope="module", autouse=True)
async def long_call(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator["asyncio.Task[None]"]:
    """A call without a deadline that takes long: begun before the first test, looked at in the last."""

    async def take_long() -> None:
        await asyncio.sleep(LONG_S)

    async with two_replicas() as replicas, before(replicas, tmp_path_factory.mktemp("long")) as gateway:
        for replica in replicas:
            replica.behave = take_long

        async def call() -> None:
            async with grpc.aio.insecure_channel(gateway.address) as channel:
                await items_pb2_grpc.ItemsServiceStub(channel).BatchGetItems(REQUEST)

        calling = asyncio.create_task(call())
        yield calling
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
