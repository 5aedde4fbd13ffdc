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

# PyMongo leaves a socket to the garbage collector where closing the client cancels its connecting.
NEVER_CONNECTED = (
    r"ignore:Exception ignored in. <socket.socket fd=\d+, family=2, type=1, proto=6, laddr=[^<>]*\d\)>"
    ":pytest.PytestUnraisableExceptionWarning"
)

Twins = tuple[MailboxStore, MailboxStore]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Takes the driver's fault for none of ours."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings(NEVER_CONNECTED))


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
def shards(request: pytest.FixtureRequest) -> Iterator[Shards]:
    """A database on the shards that MONGO_SHARDS names, or on our own."""
    named = os.environ.get("MONGO_SHARDS", "").split()
    shards = Shards(named or [mongod.uri for mongod in request.getfixturevalue("mongods")])
    yield shards
    shards.drop()


@pytest_asyncio.fixture(scope="package")
async def schema(shards: Shards) -> None:
    """The database has its indexes."""
    store = MongoMailbox(shards.uris)
    await store.ensure_schema()
    await store.aclose()


@pytest.fixture(autouse=True)
def fresh(request: pytest.FixtureRequest) -> None:
    """No test finds what another one left behind: each look into the outbox would go through all of it."""
    callspec = getattr(request.node, "callspec", None)
    if callspec and not set(DRIVERS).isdisjoint(map(str, callspec.params.values())):
        request.getfixturevalue("schema")
        request.getfixturevalue("shards").empty()


@pytest_asyncio.fixture(scope="package", params=["memory", *DRIVERS])
async def twins(request: pytest.FixtureRequest) -> AsyncIterator[Twins]:
    """Two stores with the same mailboxes, as two processes have them; one and the same in memory."""
    if request.param == "memory":
        memory = MemoryMailbox(shards=SHARDS)
        yield memory, memory
        return
    shards = request.getfixturevalue("shards")
    stores = [MongoMailbox(shards.uris, driver=request.param) for _ in range(2)]
    yield stores[0], stores[1]
    for store in stores:
        await store.aclose()


@pytest.fixture
def store(twins: Twins) -> MailboxStore:
    """A store of one kind or the other."""
    return twins[0]


@pytest_asyncio.fixture(params=DRIVERS)
async def mongo(
    request: pytest.FixtureRequest, shards: Shards, schema: None
) -> AsyncIterator[Callable[..., MongoMailbox]]:
    """Makes stores on MongoDB, each as new as a process that has just started."""
    made: list[MongoMailbox] = []

    def make(uris: list[str] = shards.uris, **arguments: Any) -> MongoMailbox:
        made.append(MongoMailbox(uris, driver=request.param, **arguments))
        return made[-1]

    yield make
    for store in made:
        await store.aclose()
