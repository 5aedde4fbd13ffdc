"""Mailbox stores of every kind: in memory, and on real mongod shards with either driver."""

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mesh.mailbox.memory import MemoryMailbox
from mesh.mailbox.mongo import MongoMailbox
from mesh.mailbox.store import MailboxStore
from tests.mailbox.support import Mongod, Shards

SHARDS = 2
DRIVERS = ("motor", "pymongo")

Twins = tuple[MailboxStore, MailboxStore]


@pytest.fixture(scope="session")
def mongods() -> Iterator[list[Mongod]]:
    """Two shards of our own; gone at the end."""
    started: list[Mongod] = []
    with tempfile.TemporaryDirectory(prefix="mailbox-") as directory:
        try:
            for index in range(SHARDS):
                path = Path(directory) / str(index)
                path.mkdir()
                started.append(Mongod(path))
            yield started
        finally:
            for mongod in started:
                mongod.stop()


@pytest.fixture(scope="session")
def shards(request: pytest.FixtureRequest) -> Iterator[Shards]:
    """A database on the shards that MONGO_SHARDS names, or on our own."""
    named = os.environ.get("MONGO_SHARDS", "").split()
    shards = Shards(named or [mongod.uri for mongod in request.getfixturevalue("mongods")])
    yield shards
    shards.drop()


@pytest_asyncio.fixture(scope="session", params=["memory", *DRIVERS])
async def twins(request: pytest.FixtureRequest) -> AsyncIterator[Twins]:
    """Two stores with the same mailboxes, as two processes have them; one and the same in memory."""
    if request.param == "memory":
        memory = MemoryMailbox(shards=SHARDS)
        yield memory, memory
        return
    shards = request.getfixturevalue("shards")
    stores = [MongoMailbox(shards.uris, driver=request.param) for _ in range(2)]
    await stores[0].ensure_schema()
    yield stores[0], stores[1]
    for store in stores:
        await store.aclose()


@pytest.fixture
def store(twins: Twins) -> MailboxStore:
    """A store of one kind or the other."""
    return twins[0]


@pytest_asyncio.fixture(params=DRIVERS)
async def mongo(request: pytest.FixtureRequest, shards: Shards) -> AsyncIterator[Callable[..., MongoMailbox]]:
    """Makes stores on MongoDB, each as new as a process that has just started."""
    made: list[MongoMailbox] = []

    def make(uris: list[str] = shards.uris, **arguments: Any) -> MongoMailbox:
        made.append(MongoMailbox(uris, driver=request.param, **arguments))
        return made[-1]

    await make().ensure_schema()
    yield make
    for store in made:
        await store.aclose()
