"""What NGINX, as the stack configures it, makes of clients' addresses and of slow requests."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from edge.listener import HttpServer
from mesh.stack import StackSettings, binaries, templates
from mesh.stack.ports import PortBlock, reserve_block
from tests.limits.support import PATIENCE, Rude, until

SPOOFED = {"X-Forwarded-For": "203.0.113.7", "X-Real-IP": "203.0.113.7"}
FRONT = Path("deploy/components/front/nginx.conf")


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """An edge that tells what it was told."""
    while (await receive()).get("more_body"):
        pass
    body = json.dumps([(name.decode(), value.decode()) for name, value in scope["headers"]]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[int]:
    """The port of a running NGINX before the echo."""
    block = reserve_block()
    with block.guard:
        server = HttpServer(echo, f"127.0.0.1:{block.base}", grace=1, patience=0.5)
        serving = asyncio.create_task(server.serve())
        nginx = await _started(tmp_path, block)
        await until(lambda: server.started)
        async with asyncio.timeout(PATIENCE):
            while not await _answers(block.base + 1):  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.05)
        yield block.base + 1
        nginx.terminate()
        await nginx.wait()
        await server.drain()
        await serving


async def _started(directory: Path, block: PortBlock) -> asyncio.subprocess.Process:
    text = templates.nginx(block.base + 1, [(block.base, block.base)], patience=1)
    (directory / "nginx.conf").write_text(text)
    program = binaries.find(StackSettings()).nginx
    return await asyncio.create_subprocess_exec(program, "-p", directory, "-c", "nginx.conf", "-e", "stderr")


async def _answers(port: int) -> bool:
    async with httpx.AsyncClient(trust_env=False) as http:
        try:
            return (await http.get(f"http://127.0.0.1:{port}/")).status_code == 200
        except httpx.HTTPError:
            return False


@pytest.mark.parametrize("path", ["/rpc", "/events/stream", "/ws"])
async def test_clients_cannot_name_themselves(front: int, path: str) -> None:
    """On every path the edge is told the address of the connection alone, whatever the client wrote."""
    transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
    async with httpx.AsyncClient(transport=transport) as http:
        answer = await http.get(f"http://127.0.0.1:{front}{path}", headers=SPOOFED)
    told: Any = answer.json()
    for header in ("x-forwarded-for", "x-real-ip"):
        assert [value for name, value in told if name == header] == ["127.0.0.2"]


def test_the_clusters_nginx_does_the_same() -> None:
    """The NGINX of deploy/ sets the address as the local stack's does, and gives clients as much time."""
    local, cluster = templates.nginx(8000, [(1, 2)]), FRONT.read_text()
    for beginning in ("proxy_set_header", "client_", "proxy_request_buffering"):
        settings = [_settings(text, beginning) for text in (local, cluster)]
        assert settings[0] == settings[1] != set()


def _settings(text: str, beginning: str) -> set[str]:
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return {line for line in lines if line.startswith(beginning) and "_temp_path" not in line}


@pytest.mark.parametrize("begins", [b"POST /rpc?", b"POST /rpc HTTP/1.1\r\nHost: x\r\nX-Padding: "])
async def test_a_dribbled_head(front: int, begins: bytes) -> None:
    """NGINX lets go who does not finish a request's head in time."""
    async with await Rude.meets(front) as rude:
        rude.writer.write(begins)
        dribbling = asyncio.create_task(rude.dribbles(b"x" * 1_000, 0.02))
        assert (await rude.ends())[:12] in {b"HTTP/1.1 408", b""}
        dribbling.cancel()


async def test_a_dribbled_body(front: int) -> None:
    """A body is passed on as it comes, so that the edge ends one that takes too long as a whole."""
    async with await Rude.meets(front) as rude:
        rude.writer.write(b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        dribbling = asyncio.create_task(rude.dribbles(b"x" * 1_000, 0.02))
        assert (await rude.ends()).startswith(b"HTTP/1.1 408")
        dribbling.cancel()
