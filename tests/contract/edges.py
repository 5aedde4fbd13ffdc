"""Edges of the suite's own, each behind an NGINX of its own and with the session's stack behind it.

For what nobody may bring about on a system that others use: an edge with small limits, or one that goes away.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from mesh.stack import Stack, binaries, templates
from mesh.stack.ports import reserve_block
from mesh.stack.ready import HttpOk
from tests.contract.device import PATIENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A running edge.

    Attributes:
        url: the address of its NGINX.
        process: the edge itself.
    """

    url: str
    process: asyncio.subprocess.Process

    def leave(self) -> None:
        """Tells it to go away, as an upgrade does."""
        self.process.send_signal(signal.SIGTERM)


@asynccontextmanager
async def edge_of(stack: Stack, directory: Path, **told: str) -> AsyncIterator[Edge]:
    """Starts an edge.

    Args:
        stack: whose services and servers it uses.
        directory: empty; for NGINX and the logs.
        told: settings that differ from those of the stack's edges, in capitals.
    """
    [program] = [one for one in stack.plan.programs if one.name == "edge-1"]
    block = reserve_block()
    with block.guard:
        places = ("LISTEN", "WS_LISTEN", "HTTP_LISTEN", "METRICS_LISTEN")
        listeners = {name: f"127.0.0.1:{block.base + n}" for n, name in enumerate(places)}
        front = block.base + len(places)
        (directory / "nginx.conf").write_text(templates.nginx(front, [(block.base + 1, block.base + 2)]))
        nginx = (
            binaries.find(stack.settings).nginx,
            "-p",
            str(directory),
            "-c",
            "nginx.conf",
            "-e",
            "stderr",
        )
        env = {**os.environ, **stack.plan.env, **program.env, **listeners, **told}
        edge = await _start(directory / "edge.log", *program.command, env=env)
        proxy = await _start(directory / "nginx.log", *nginx)
        try:
            async with asyncio.timeout(PATIENCE):
                while await asyncio.to_thread(HttpOk(port=front, path="/readyz").probe):
                    assert edge.returncode is None, (directory / "edge.log").read_text()
                    await asyncio.sleep(0.05)
            yield Edge(url=f"http://127.0.0.1:{front}", process=edge)
        finally:
            for process in (proxy, edge):
                if process.returncode is None:
                    process.terminate()
                await process.wait()


async def _start(log: Path, *command: str, env: dict[str, str] | None = None) -> asyncio.subprocess.Process:
    """A process that ends with this one, also where that is killed."""
    with log.open("wb") as file:
        tied = ("setpriv", "--pdeathsig", "TERM", *command)
        return await asyncio.create_subprocess_exec(*tied, env=env, stdout=file, stderr=file)
