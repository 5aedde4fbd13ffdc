"""The one module that opens MongoDB clients, bounds what they do and translates their errors.

Motor or PyMongo's own asyncio client, whichever is picked: only calls that both share are used, and typed as
PyMongo's. What each message and each page needs goes past it: see `direct`.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from inspect import isawaitable
from typing import Any, Literal, TypeVar

import pymongo
from opentelemetry.trace import SpanKind
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError, ConnectionFailure, DuplicateKeyError, PyMongoError
from pymongo.monitoring import CommandListener, ConnectionPoolListener
from pymongo.write_concern import WriteConcern

from mesh import metrics, tracing
from mesh.breaker import Part
from mesh.errors import DeadlineExceeded, Internal, MessengerError, Unavailable
from mesh.mailbox.direct import Direct
from mesh.mailbox.documents import BLOCKS, CHATS, MESSAGES, Document

Driver = Literal["motor", "pymongo"]
Listener = CommandListener | ConnectionPoolListener
Result = TypeVar("Result")

DATABASE = "messenger"  # where the URI names none
LONGEST_S = 2.0
Lane = Literal["calls", "appends", "scans"]
PLACES: dict[Lane, int] = {"calls": 16, "appends": 4, "scans": 2}
"""Operations in flight on one shard, by lane. Calls carry many messages each, so that is plenty; it keeps a
shard that hangs from taking all of Motor's threads, of which there are enough for eight shards. What appends
waits behind nobody who reads, and what reads through whole mailboxes takes nobody's place who is quick."""
MOTOR_THREADS = 8 * sum(PLACES.values())
MAJORITY = WriteConcern(w="majority")
PRIMARY = WriteConcern(w=1)
"""Written on the primary alone; a later majority write there makes it last."""
AFTER = "afterClusterTime"
"""Part of a read concern. Servers take it from clients that tell them the time, as the library does."""

AGAIN = metrics.counter(
    "messenger_mailbox_repeats", "Commands that did not get through and were sent again, once."
).labels()


class Shard:
    """One MongoDB replica set: its collections, and the bounds within which they are used.

    Args:
        uri: MongoDB URI, taken as it is; its path may name the database.
        driver: which client library.
        time_left: seconds that the caller has left.
        listeners: hear every command, or what becomes of connections; for tests and metrics.
        part: when to leave the shard alone; None for never.
    """

    def __init__(
        self,
        uri: str,
        driver: Driver,
        time_left: Callable[[], float],
        listeners: tuple[Listener, ...] = (),
        part: Part | None = None,
    ) -> None:
        self._client = _open_client(uri, driver, listeners)
        self._time_left = time_left
        self._part = part
        self._places = {lane: asyncio.Semaphore(count) for lane, count in PLACES.items()}
        self._met = False
        database = self._client.get_default_database(DATABASE)
        self.messages: AsyncCollection[Document] = database.get_collection(MESSAGES, write_concern=MAJORITY)
        self.chats: AsyncCollection[Document] = database.get_collection(CHATS, write_concern=MAJORITY)
        self.blocks: AsyncCollection[Document] = database.get_collection(BLOCKS, write_concern=MAJORITY)
        commands = [one for one in listeners if isinstance(one, CommandListener)]
        self._direct = Direct(self._client, database.name, database.codec_options, commands)

    async def run(
        self,
        operation: Callable[[], Awaitable[Result]],
        longest_s: float = LONGEST_S,
        *,
        lane: Lane = "calls",
    ) -> Result:
        """The operation's result, within `longest_s` seconds and the caller's time.

        Cancelling the caller does not cancel the operation: that would cost its connection and leave it
        undecided; it ends by its own timeout. Duplicate keys come through as PyMongo's DuplicateKeyError or
        BulkWriteError; everything else is translated. A shard that was up and has gone is refused at once;
        the client's monitor finds it again by itself. So is one that is left alone.
        """
        if self._part is None or longest_s > LONGEST_S:
            return await self._run(operation, longest_s, lane)
        async with self._part.asked():
            try:
                return await self._run(operation, longest_s, lane)
            except (BulkWriteError, DuplicateKeyError) as error:
                answer = error
        raise answer

    async def _run(self, operation: Callable[[], Awaitable[Result]], longest_s: float, lane: Lane) -> Result:
        if self._met and not self._client.nodes:
            raise _unavailable()
        left = min(longest_s, self._time_left())
        if left <= 0:
            raise _out_of_time()
        with tracing.span("mongodb", SpanKind.CLIENT), self._translated(), pymongo.timeout(left):
            places = self._places[lane]
            if places.locked():
                async with asyncio.timeout(left):
                    await places.acquire()
            else:
                await places.acquire()  # at once
            task = asyncio.ensure_future(operation())
            task.add_done_callback(partial(_release, places))
            result = await asyncio.shield(task)
            self._met = True
            return result

    async def write(self, command: Document, *, lane: Lane = "appends") -> Document:
        """The reply to `insert` or `update`, with its `writeErrors`: cheaper than the client's bulk writes.

        Where the primary goes meanwhile the command is sent again, once: it must be one that can be repeated.

        Args:
            command: as the server takes it, with its write concern.
            lane: whose places it takes.
        """
        reply = await self.run(lambda: self._command(command, LONGEST_S), lane=lane)
        if "writeConcernError" in reply:
            raise _unavailable()
        return reply

    async def find(
        self,
        collection: str,
        query: Document,
        *,
        limit: int,
        fields: Document | None = None,
        order: Document | None = None,
        committed: bool = False,
        seen: object = None,
        longest_s: float = LONGEST_S,
        lane: Lane = "calls",
    ) -> list[Document]:
        """What a query finds, by one command and in one reply: a cursor of the client's costs as much again.

        Args:
            collection: its name.
            query: as the server takes it.
            limit: documents, at most. The reply has room for 16 MB.
            fields: the projection; whole documents without.
            order: the sort; the index's without.
            committed: only what survives any failover, since a majority has it.
            seen: `operationTime` of an earlier reply; waits until a majority has everything up to then.
            longest_s: see `run`.
            lane: whose places it takes.

        Raises:
            Internal: the documents are too large for one reply.
        """
        command: Document = {"find": collection, "filter": query, "limit": limit, "batchSize": limit + 1}
        if fields:
            command["projection"] = fields
        if order:
            command["sort"] = order
        if committed:
            command["readConcern"] = {"level": "majority"} | ({AFTER: seen} if seen else {})
        cursor = (await self.run(lambda: self._command(command, longest_s), longest_s, lane=lane))["cursor"]
        if cursor["id"]:
            raise Internal("The mailbox holds more than fits into one reply.")
        batch: list[Document] = cursor["firstBatch"]
        return batch

    async def find_one(
        self, collection: str, query: Document, fields: Document | None = None
    ) -> Document | None:
        """The first that a query finds; see `find`."""
        return next(iter(await self.find(collection, query, limit=1, fields=fields)), None)

    async def _command(self, command: Document, longest_s: float) -> Document:
        """Its reply, by the short way; sent again, once and by the client, where it does not lead there."""
        database = self.messages.database
        with suppress(ConnectionFailure):
            if self._direct.is_open and AFTER not in command.get("readConcern", ()):
                reply = await self._direct.command(command, min(longest_s, self._time_left()))
            else:
                reply = await database.command(command)
            if "writeConcernError" not in reply:
                return reply
        AGAIN.add()
        again: Document = await database.command(command)
        return again

    async def ping(self) -> bool:
        """Whether the shard has a primary that answers."""
        try:
            await self.run(lambda: self._client.admin.command("ping"), longest_s=1.0)
        except MessengerError:
            return False
        return True

    async def aclose(self) -> None:
        """Closes the connections."""
        self._direct.close()
        closing = self._client.close()
        if isawaitable(closing):  # Motor's closes at once
            await closing

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (BulkWriteError, DuplicateKeyError):
            raise
        except TimeoutError as error:
            raise self._timeout() from error
        except PyMongoError as error:
            raise self.translate(error) from error

    def translate(self, error: PyMongoError) -> MessengerError:
        """The most specific error of ours."""
        if error.timeout:
            return self._timeout()
        return _unavailable() if isinstance(error, ConnectionFailure) else Internal("The mailbox failed.")

    def _timeout(self) -> MessengerError:
        return _unavailable() if self._time_left() > 0 else _out_of_time()


def _release(places: asyncio.Semaphore, task: "asyncio.Future[Any]") -> None:
    places.release()
    if not task.cancelled():
        task.exception()  # nobody else may be left to look at it


def _open_client(uri: str, driver: Driver, listeners: tuple[Listener, ...]) -> Any:
    """A client that connects by itself, and soon notices a server that comes or goes.

    It reads times without their zone: see `documents.in_utc`.
    """
    options: dict[str, Any] = {
        "appname": "messenger",
        "connectTimeoutMS": 2000,
        "heartbeatFrequencyMS": 1000,
        # Streaming asks twice as often, once for what it hears and once for how long it takes.
        "serverMonitoringMode": "poll",
        "event_listeners": listeners,
    }
    if driver == "motor":
        os.environ.setdefault("MOTOR_MAX_WORKERS", str(MOTOR_THREADS))  # read once, at import
        from motor.motor_asyncio import AsyncIOMotorClient

        return AsyncIOMotorClient(uri, **options)
    return pymongo.AsyncMongoClient[Document](uri, **options)


def _unavailable() -> Unavailable:
    return Unavailable("The mailbox does not answer; try again.")


def _out_of_time() -> DeadlineExceeded:
    return DeadlineExceeded("The call ran out of time at the mailbox.")
