"""Shards and people for the mailbox tests."""

import asyncio
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.collection import Collection
from pymongo.errors import PyMongoError
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
    ConnectionCheckedOutEvent,
    ConnectionClosedEvent,
    ConnectionPoolListener,
)
from pymongo.write_concern import WriteConcern

from mesh.errors import MessengerError
from mesh.mailbox import documents
from mesh.mailbox.model import Appended, IncomingMessage, NewMessage, OutboxEntry, StoredChat, StoredMessage
from mesh.mailbox.schema import META
from mesh.mailbox.store import MailboxStore

START_S = 30
WITHIN_S = 3.0  # the store's own bound of 2 s, and some for a busy machine
Document = dict[str, Any]


def find_mongod() -> str:
    """The mongod on PATH, else the one inside the package of the `local` extra."""
    packaged = Path(sysconfig.get_path("purelib")) / "fiftyone/db/bin/mongod"
    found = shutil.which("mongod") or (str(packaged) if packaged.exists() else None)
    if not found:
        pytest.fail(
            "no mongod: put one on PATH, `pip install .[local]`, or name running shards in MONGO_SHARDS"
        )
    return found


class Mongod:
    """One mongod, a replica set of one member, that a test may stop, freeze and bring back."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"mongodb://127.0.0.1:{self.port}/?directConnection=true"
        self._directory = directory
        self.start()
        with pymongo.MongoClient[Document](self.uri) as client:
            member = {"_id": 0, "host": f"127.0.0.1:{self.port}"}
            client.admin.command("replSetInitiate", {"_id": "shard", "members": [member]})
        self.wait_for_primary()

    def start(self) -> None:
        """Starts the process on its port and data."""
        command = [
            # However this process ends, that one ends with it.
            "setpriv", "--pdeathsig=KILL", "--",
            find_mongod(), "--replSet=shard", "--bind_ip=127.0.0.1", f"--port={self.port}",
            f"--dbpath={self._directory}", f"--logpath={self._directory}/log", "--wiredTigerCacheSizeGB=0.25",
            "--oplogSize=50", "--setParameter=diagnosticDataCollectionEnabled=false", "--nounixsocket",
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - a list of our own

    def wait_for_primary(self) -> None:
        """Returns when writes are taken."""
        deadline = time.monotonic() + START_S
        with pymongo.MongoClient[Document](self.uri) as client:
            while time.monotonic() < deadline:
                try:
                    if client.admin.command("hello")["isWritablePrimary"]:
                        return
                except PyMongoError:
                    pass
                time.sleep(0.05)
        pytest.fail(f"mongod on port {self.port} did not become primary; see {self._directory}/log")

    def stop(self) -> None:
        """Ends the process."""
        self.process.terminate()
        self.process.wait(timeout=START_S)

    def freeze(self) -> None:
        """The process hangs: connections stay open, nothing answers."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """The process goes on."""
        self.process.send_signal(signal.SIGCONT)


class Commands(CommandListener):
    """Hears which commands a driver sends, and of how many each write waits to have it."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.waits: list[tuple[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        """Notes the command."""
        self.names.append(event.command_name)
        if "writeConcern" in event.command:
            self.waits.append((event.command_name, event.command["writeConcern"]["w"]))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing to note."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing to note."""


class Connections(ConnectionPoolListener):
    """Hears how many connections a driver has used and closed."""

    def __init__(self) -> None:
        self.closed = 0
        self.used = 0

    def connection_checked_out(self, event: ConnectionCheckedOutEvent) -> None:
        """Counts."""
        self.used += 1

    def connection_closed(self, event: ConnectionClosedEvent) -> None:
        """Counts."""
        self.closed += 1

    def _ignore(self, event: object) -> None:
        """Nothing to note."""

    pool_created = pool_ready = pool_cleared = pool_closed = _ignore
    connection_created = connection_ready = _ignore
    connection_check_out_started = connection_check_out_failed = _ignore
    connection_checked_in = _ignore


class Shards:
    """URIs of real shards, with a database on them that only this session knows."""

    def __init__(self, servers: list[str]) -> None:
        self.database = f"test_{uuid.uuid4().hex[:12]}"
        self.uris = [_with_path(uri, self.database) for uri in servers]
        self._clients = [pymongo.MongoClient[Document](uri, tz_aware=True) for uri in self.uris]

    def raw(self, shard: int, collection: str) -> Collection[Document]:
        """A collection, beside the store: for looking at it, and for what a crash leaves behind."""
        return self._clients[shard][self.database][collection]

    def empty(self) -> None:
        """Takes all mailboxes away; schema and indexes stay."""
        for client in self._clients:
            database = client.get_database(self.database, write_concern=WriteConcern(w=1))
            for name in set(database.list_collection_names()) - {META}:
                database[name].delete_many({})

    def drop(self) -> None:
        """Takes the database away and closes the connections."""
        for client in self._clients:
            client.drop_database(self.database)
            client.close()


def _with_path(uri: str, database: str) -> str:
    """The URI with the database as its path."""
    base, _, query = uri.partition("?")
    scheme, _, rest = base.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/{database}" + (f"?{query}" if query else "")


def unique(name: str) -> str:
    """A user id that no other test has."""
    return f"{name}.{uuid.uuid4().hex[:10]}"


def user_on(store: MailboxStore, shard: int, name: str = "user") -> str:
    """A new user of that shard."""
    return next(user for user in iter(lambda: unique(name), "") if store.shard_of(user) == shard)


def text_message(owner: str, chat: str, text: str = "hello", key: str = "") -> NewMessage:
    """A message with an idempotency key of its own, unless one is given."""
    return NewMessage(owner=owner, chat_id=chat, text=text, client_msg_id=key or uuid.uuid4().hex)


def copy_for_peer(message: StoredMessage) -> IncomingMessage:
    """What the queue brings to the receiver of the message."""
    return IncomingMessage(
        owner=message.peer_id,
        chat_id=message.chat_id,
        message_id=message.message_id,
        sender_id=message.sender_id,
        text=message.text,
        created_at=message.created_at,
        item_id=message.item_id,
    )


def appended(result: Appended | MessengerError) -> Appended:
    """The result, which must be a success."""
    assert isinstance(result, Appended), result
    return result


def failed(result: object) -> MessengerError:
    """The result, which must be an error."""
    assert isinstance(result, MessengerError), result
    return result


async def unread_of(store: MailboxStore, owner: str, chat: str) -> int:
    """How many messages the chat shows as unread."""
    return (await chat_of(store, owner, chat)).unread


async def chat_of(store: MailboxStore, owner: str, chat: str) -> StoredChat:
    """The chat, which must be there."""
    (found,) = await store.get_chats([(owner, chat)])
    assert isinstance(found, StoredChat), found
    return found


async def send(store: MailboxStore, owner: str, chat: str, *texts: str) -> list[StoredMessage]:
    """Appends to the sender's mailbox only."""
    results = await store.append_own([text_message(owner, chat, text) for text in texts])
    return [appended(result).message for result in results]


async def deliver(store: MailboxStore, *messages: StoredMessage) -> list[StoredMessage]:
    """Appends to the receivers' mailboxes."""
    results = await store.append_incoming([copy_for_peer(message) for message in messages])
    return [appended(result).message for result in results]


async def whole_log(store: MailboxStore, owner: str, chat: str) -> list[StoredMessage]:
    """Every message of the chat, in the order of their seq."""
    page = await store.history(owner, chat, limit=1000)
    assert not page.has_more
    return sorted(page.messages, key=lambda message: message.seq)


async def opened(store: MailboxStore, item_id: str = "") -> tuple[str, str, str]:
    """Two new people and the chat that the first has opened."""
    owner, peer = unique("ann"), unique("bob")
    return owner, peer, (await store.open_chat(owner, peer, item_id)).chat.chat_id


async def next_millisecond() -> None:
    """Waits until the clock, as far as stored times tell, has moved on."""
    await asyncio.sleep(0.0015)


async def marks_of(store: MailboxStore, owner: str) -> list[OutboxEntry]:
    """What waits in the outbox for this owner."""
    entries = await store.due(store.shard_of(owner), timedelta(0), 10_000)
    return [entry for entry in entries if entry.ref.owner == owner]


async def opened_on(store: MailboxStore, shard: int, peer_shard: int | None = None) -> tuple[str, str, str]:
    """Two people of these shards and the chat that the first has opened."""
    owner = user_on(store, shard)
    peer = user_on(store, shard if peer_shard is None else peer_shard)
    return owner, peer, (await store.open_chat(owner, peer)).chat.chat_id


@contextmanager
def crash_before_fold(shards: Shards, shard: int, owner: str, chat_id: str) -> Iterator[None]:
    """What is appended within stays in the log, and the chat as it was: the process died between the two."""
    chats, query = shards.raw(shard, "chats"), {"_id": documents.chat_key(owner, chat_id)}
    before = chats.find_one(query)
    yield
    chats.delete_one(query)
    if before:
        chats.insert_one(before)
