"""A message's path on the session's servers."""

from collections.abc import AsyncIterator

import pytest_asyncio

from mesh.stack import Stack
from tests.mailbox.support import Shards
from tests.roundtrips.path import Path, counted_redis


@pytest_asyncio.fixture(scope="module")
async def path(servers: Stack) -> AsyncIterator[Path]:
    """The path, with a database that nobody else knows."""
    env = servers.env()
    shards = Shards(env["MONGO_SHARDS"].split()[:1])
    async with Path(shards.uris[0], env["REDIS_URLS"].split()) as path:
        await path.sending.ensure_schema()
        with counted_redis(path.trips):
            yield path
    shards.drop()
