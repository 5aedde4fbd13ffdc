"""The HTTP listener's graceful stop."""

import asyncio

import httpx
from starlette.types import Receive, Scope, Send

from edge.listener import HttpServer
from mesh.stack.ports import reserve_block


async def test_running_requests_are_answered_before_the_stop() -> None:
    """`drain` takes no new connection, and returns only when what was under way has its answer."""
    arrived, gate = asyncio.Event(), asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        arrived.set()
        await gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    block = reserve_block()
    with block.guard:
        address = f"127.0.0.1:{block.base}"
        server = HttpServer(app, address, grace=5, patience=5)
        serving = asyncio.create_task(server.serve())
        async with asyncio.timeout(10), httpx.AsyncClient(base_url=f"http://{address}") as client:
            while not server.started:  # noqa: ASYNC110  # uvicorn offers nothing to wait for
                await asyncio.sleep(0.01)
            answer = asyncio.create_task(client.get("/"))
            await arrived.wait()
            draining = asyncio.create_task(server.drain())
            await asyncio.sleep(0.3)  # longer than its main loop takes to notice
            assert not draining.done()
            gate.set()
            await draining
            assert (await answer).text == "done"
            await serving
