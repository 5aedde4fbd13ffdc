"""A real Envoy before two replicas."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.envoy.support import Gateway, Replica, configured, eventually, running


@pytest.fixture
async def replicas() -> AsyncIterator[list[Replica]]:
    """Two replicas."""
    replicas = [await Replica().start() for _ in range(2)]
    yield replicas
    await asyncio.gather(*(replica.server.stop(0) for replica in replicas))


@pytest.fixture
async def gateway(replicas: list[Replica], tmp_path: Path) -> AsyncIterator[Gateway]:
    """An Envoy before the two, that knows both to be well."""
    with running(configured(replicas), tmp_path) as where:

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
