"""The operator's commands on real servers, with queues and databases of each test's own."""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pymongo
import pytest
from click.testing import CliRunner, Result

from mesh.amqp import CHECKED, PARKED, RETRY, Publisher, Topology
from mesh.amqp.delivery import encode
from mesh.amqp.parking import lengths
from mesh.bus import Bus
from mesh.cli import main
from mesh.cli.places import places
from mesh.mailbox.model import Appended, IncomingMessage, NewMessage, StoredChat, StoredMessage
from mesh.mailbox.mongo import MongoMailbox
from mesh.stack import Stack
from messenger.antispam.v1 import antispam_pb2
from messenger.common.v1.types_pb2 import Message
from messenger.events.v1.notifications_pb2 import MessageNew, Notification, ReceiptRead
from messenger.events.v1.queue_pb2 import Event, MessageAccepted

ANN, BOB = "ann", "bob"
SOON = timedelta(0)
Thing = TypeVar("Thing")


class Place:
    """Servers as the commands are told of them, and the mailboxes beside them."""

    def __init__(self, servers: Stack) -> None:
        env = servers.env()
        self.database = f"test_{uuid.uuid4().hex[:12]}"
        self.shards = [uri.replace("/?", f"/{self.database}?") for uri in env["MONGO_SHARDS"].split()[:2]]
        self.topology = Topology(prefix=f"{uuid.uuid4().hex}.")
        self.amqp_url = env["AMQP_URL"]
        self.redis_urls = env["REDIS_URLS"].split()
        self.env = {
            "MONGO_SHARDS": " ".join(self.shards),
            "AMQP_URL": self.amqp_url,
            "REDIS_URLS": env["REDIS_URLS"],
            "QUEUE_PREFIX": self.topology.prefix,
        }

    def mesh(self, *arguments: str) -> Result:
        """Runs `python -m mesh` with these arguments."""
        return CliRunner().invoke(main, arguments, env=self.env)

    def json(self, *arguments: str) -> Any:
        """What a command says with --json."""
        result = self.mesh(*arguments, "--json")
        return json.loads(result.stdout)

    def with_store(self, work: Callable[[MongoMailbox], Awaitable[Thing]]) -> Thing:
        """Does something to the mailboxes."""

        async def run() -> Thing:
            store = MongoMailbox(self.shards, driver="pymongo")
            try:
                return await work(store)
            finally:
                await store.aclose()

        return asyncio.run(run())

    def raw(self, owner: str, collection: str, change: Callable[[Any], object]) -> None:
        """Does to the collection on the owner's shard what no service would do."""

        async def shard(store: MongoMailbox) -> int:
            return store.shard_of(owner)

        with pymongo.MongoClient[dict[str, Any]](self.shards[self.with_store(shard)]) as client:
            change(client[self.database][collection])

    def park(self, *bodies: bytes) -> None:
        """Puts bodies into the parking queue."""

        async def run() -> None:
            async with Publisher(self.amqp_url, self.topology) as publisher:
                await publisher.ready()
                for body in bodies:
                    headers: dict[str, str | int] = {"attempt": 10, "cause": "odd"}
                    await publisher.publish_body(PARKED, "", body, headers)

        asyncio.run(run())

    def waiting(self) -> dict[str, int]:
        """Bodies in each queue that has any."""
        found = asyncio.run(lengths(self.amqp_url, self.topology))
        return {name.removeprefix(self.topology.prefix): count for name, count in found.items() if count}

    def clear(self) -> None:
        """Leaves nothing behind."""
        for uri in self.shards:
            with pymongo.MongoClient[dict[str, Any]](uri) as client:
                client.drop_database(self.database)

        async def delete() -> None:
            import aio_pika

            async with await aio_pika.connect(self.amqp_url) as connection, connection.channel() as channel:
                for queue in self.topology.queues():
                    await channel.queue_delete(queue.name)
                for exchange in self.topology.exchanges():
                    await channel.exchange_delete(exchange)

        asyncio.run(delete())


@pytest.fixture
def place(servers: Stack) -> Iterator[Place]:
    """Migrated, and empty."""
    place = Place(servers)
    assert place.mesh("migrate").exit_code == 0
    yield place
    place.clear()


def body_of(message_id: str) -> bytes:
    """A body that tells of a message."""
    accepted = MessageAccepted(receiver_id=BOB)
    accepted.message.message_id = message_id
    return encode([Event(message_accepted=accepted)])


async def sent(store: MongoMailbox, *texts: str) -> list[StoredMessage]:
    """Messages of ann's to bob, in her mailbox alone."""
    chat_id = (await store.open_chat(ANN, BOB)).chat.chat_id
    await store.open_chat(BOB, ANN)
    new = [NewMessage(owner=ANN, chat_id=chat_id, text=text, client_msg_id=text) for text in texts]
    stored = []
    for one in await store.append_own(new):
        assert isinstance(one, Appended)
        stored.append(one.message)
    return stored


async def deliver(store: MongoMailbox, *messages: StoredMessage) -> None:
    """Confirms their events, and puts them into bob's mailbox."""
    for shard in range(store.shard_count):
        await store.confirm([entry.ref for entry in await store.due(shard, SOON, 100)])
    await store.append_incoming(
        [
            IncomingMessage(
                owner=BOB, chat_id=one.chat_id, message_id=one.message_id, sender_id=ANN, text=one.text,
                created_at=one.created_at,
            )
            for one in messages
        ]
    )  # fmt: skip


async def conversation(store: MongoMailbox) -> list[StoredMessage]:
    """Three messages that arrived."""
    messages = await sent(store, "one", "two", "three")
    await deliver(store, *messages)
    return messages


# ── parked ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_looking_changes_nothing(place: Place) -> None:
    """What is parked is listed with its cause, the oldest first, as often as one looks, and stays."""
    place.park(body_of("m1"), b"\xff no batch", body_of("m2"))
    for _ in range(3):
        first, odd, last = place.json("parked", "list")
        assert (first["message_ids"], first["attempts"], first["cause"]) == (["m1"], 10, "odd")
        assert (odd["events"], last["message_ids"]) == (0, ["m2"])
    shown = place.json("parked", "show", first["key"])
    assert shown["contents"][0]["message_accepted"]["receiver_id"] == BOB
    assert BOB in place.mesh("parked", "show", first["key"]).stdout
    assert "m1" not in place.mesh("parked", "show", odd["key"]).stdout
    assert place.waiting() == {PARKED: 3}


def test_replay_and_drop(place: Place) -> None:
    """What is replayed is on its way again, what is dropped is gone, and the rest stays parked."""
    place.park(body_of("m1"), body_of("m2"), body_of("m2"), body_of("m3"))
    first, second, _ = (one["key"] for one in place.json("parked", "list"))
    assert place.json("parked", "replay", first) == {"replayed": [first]}
    assert place.waiting() == {CHECKED: 1, PARKED: 3}
    assert place.mesh("parked", "drop", second, "--yes").exit_code == 0
    assert place.waiting() == {CHECKED: 1, PARKED: 1}
    assert place.mesh("parked", "replay", "--all").exit_code == 0
    assert place.waiting() == {CHECKED: 2}
    assert place.mesh("parked", "list").stdout == "Nothing is parked.\n"


def test_what_is_printed_is_whole(place: Place) -> None:
    """Tables cut nothing off, and take nothing of what users wrote for markup."""
    accepted = MessageAccepted(receiver_id=BOB)
    accepted.message.text = "[/red] [link] " + "long " * 60
    place.park(encode([Event(message_accepted=accepted)]))
    [one] = place.json("parked", "list")
    shown = place.mesh("parked", "show", one["key"])
    assert shown.exit_code == 0
    assert accepted.message.text.strip() in shown.stdout
    (message,) = place.with_store(lambda store: sent(store, "hello"))
    place.with_store(lambda store: deliver(store))
    told = place.mesh("audit", "--settled", "0").stdout
    assert message.message_id in told
    assert message.chat_id in told


def test_a_slip_of_the_finger_does_nothing(place: Place) -> None:
    """A key that is not there, no key at all, or no confirmation: nothing is replayed or dropped."""
    place.park(body_of("m1"))
    unknown = place.mesh("parked", "replay", "00000000")
    assert (unknown.exit_code, "Not parked: 00000000" in unknown.output) == (1, True)
    assert place.mesh("parked", "replay").exit_code == 2
    assert place.mesh("parked", "drop", "--all").exit_code == 1
    assert place.waiting() == {PARKED: 1}


# ── outbox ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_outbox_status_and_flush(place: Place) -> None:
    """What waits is counted by kind; a flush that nobody serves says so; an empty outbox is flushed."""
    place.with_store(lambda store: sent(store, "one", "two"))
    waiting = dict.fromkeys(("message", "opened", "read", "delivered"), 0)
    for row in place.json("outbox", "status"):
        waiting[row["kind"]] = waiting.get(row["kind"], 0) + row["count"]
    assert (waiting["message"], waiting["opened"], waiting["read"]) == (2, 2, 0)
    stuck = place.mesh("outbox", "flush", "--wait", "0")
    assert (stuck.exit_code, "4 still wait" in stuck.output) == (1, True)

    async def due_by_a_minute(store: MongoMailbox) -> int:
        return len([one for shard in range(2) for one in await store.due(shard, timedelta(seconds=59), 9)])

    assert place.with_store(due_by_a_minute) == 4  # a relay would take them at once
    place.with_store(lambda store: deliver(store))
    assert place.mesh("outbox", "flush").stdout == "Every outbox is empty.\n"


# ── message ────────────────────────────────────────────────────────────────────────────────────────────────


def test_passport_follows_a_message(place: Place) -> None:
    """Each stage shows as soon as it was reached; what waits says where and what helps."""
    (message,) = place.with_store(lambda store: sent(store, "hello"))
    for hint in ((), ("--user", ANN), ("--user", BOB)):
        passport = place.json("message", message.message_id, *hint)
        assert "in the outbox of shard" in passport["stuck"]
        assert done(passport) == {"accepted", "stored"}

    place.with_store(lambda store: deliver(store))
    place.park(body_of(message.message_id))
    assert "parked replay" in place.json("message", message.message_id)["stuck"]
    place.mesh("parked", "replay", "--all")
    assert "checked 1" in place.json("message", message.message_id)["stuck"]

    place.with_store(lambda store: deliver(store, message))
    told = Notification(message_new=MessageNew(message=Message(message_id=message.message_id)))
    for user in (BOB, ANN):
        asyncio.run(publish(place.redis_urls, user, told))
    receipt = ReceiptRead(chat_id=message.chat_id, user_id=BOB, up_to=message.message_id)
    asyncio.run(publish(place.redis_urls, ANN, Notification(receipt_read=receipt)))
    place.with_store(lambda store: store.mark_read(BOB, message.chat_id, message.message_id))
    for hint in ((), ("--user", BOB)):  # through all shards, and by the index
        passport = place.json("message", message.message_id, *hint)
        assert passport["stuck"] == ""
        assert {"delivered", "verdict", "published", "pushed", "read"} <= done(passport)
        assert "acknowledged" not in done(passport)
        assert {stage for stage, *_ in without(passport)} <= {"acknowledged", "verdict"}  # none was given
        pushed = next(stamp for stamp in passport["stamps"] if stamp["stage"] == "pushed")
        assert pushed["at"]
        assert pushed["detail"] == "no device is there now"
    assert place.mesh("message", message.message_id).exit_code == 0


async def publish(urls: list[str], user: str, told: Notification) -> None:
    """Tells a user's stream."""
    async with Bus(urls, retention=60, length=100) as bus:
        assert await bus.publish([(user, told.SerializeToString())]) == [None]


def done(passport: Any) -> set[str]:
    """Stages that were reached."""
    return {stamp["stage"] for stamp in passport["stamps"] if stamp["done"] and stamp["stage"] != "queued"}


def without(passport: Any) -> list[tuple[str, str, str]]:
    """Stages, with time and place, of which either is missing."""
    found = [(stamp["stage"], stamp["at"] or "", stamp["place"]) for stamp in passport["stamps"]]
    return [one for one in found if not all(one)]


def test_passport_of_an_old_message(place: Place) -> None:
    """Times outlast the hot cache: the mailboxes have those of the way, the chat those of its pointers."""
    (message,) = place.with_store(lambda store: sent(store, "hello"))
    place.with_store(lambda store: deliver(store, message))

    async def look(store: MongoMailbox) -> None:
        await store.mark_delivered(BOB, message.chat_id, message.message_id)
        await store.mark_read(BOB, message.chat_id, message.message_id)

    place.with_store(look)
    long_ago = {
        "$set": {"stored_at": datetime(2020, 1, 1, tzinfo=UTC), "judged_at": datetime(2020, 1, 1, tzinfo=UTC)}
    }
    place.raw(BOB, "messages", lambda messages: messages.update_one({"owner": BOB}, long_ago))
    passport = place.json("message", message.message_id)
    again = {"$set": {"outbox": {"at": message.stored_at}}}
    place.raw(ANN, "messages", lambda messages: messages.update_one({"owner": ANN}, again))
    place.with_store(lambda store: deliver(store))  # what is announced once more was queued at first
    assert place.json("message", message.message_id) == passport
    assert without(passport) == []
    assert {stamp["done"] for stamp in passport["stamps"]} == {True}


def test_passport_of_what_is_parked(place: Place) -> None:
    """It says when which verdict was given, and since when the message is parked, and where."""
    (message,) = place.with_store(lambda store: sent(store, "hello"))
    place.with_store(lambda store: deliver(store))
    accepted = MessageAccepted(receiver_id=BOB, message=Message(message_id=message.message_id))
    accepted.verdict.decision = antispam_pb2.DECISION_PASS
    accepted.verdict.judged_at.FromDatetime(datetime.now(UTC))

    async def park() -> None:
        async with Publisher(place.amqp_url, place.topology) as publisher:
            await publisher.ready()
            headers: dict[str, str | int] = {"attempt": 10, "cause": "odd"}
            await publisher.publish(PARKED, "", [Event(message_accepted=accepted)], headers)

    asyncio.run(park())
    passport = place.json("message", message.message_id)
    reached = [stamp for stamp in passport["stamps"] if stamp["stage"] in ("queued", "verdict", "delivered")]
    assert [stamp["done"] for stamp in reached] == [True, True, False]
    assert all(stamp["at"] and stamp["place"] for stamp in reached)
    assert reached[-1]["detail"] == "parked by attempt 10: odd"
    assert done(passport) == {"accepted", "stored", "verdict"}


def test_passport_of_what_was_not_told(place: Place) -> None:
    """A message that is in the mailbox and perhaps waits for its receiver's stream is not called arrived."""
    (message,) = place.with_store(lambda store: sent(store, "hello"))
    place.with_store(lambda store: deliver(store, message))
    assert place.json("message", message.message_id)["stuck"] == ""

    async def climb() -> None:
        async with Publisher(place.amqp_url, place.topology) as publisher:
            await publisher.ready()
            await publisher.publish_body(RETRY, "60s", body_of(message.message_id))

    asyncio.run(climb())
    assert "retry.60s is not empty" in place.json("message", message.message_id)["stuck"]


def test_rejected_messages_are_not_stuck(place: Place) -> None:
    """The passport of spam says why it went nowhere."""
    (message,) = place.with_store(lambda store: sent(store, "buy!"))
    place.with_store(
        lambda store: store.record_rejection(ANN, message.chat_id, message.message_id, "links:SPAM")
    )
    passport = place.json("message", message.message_id, "--user", ANN)
    assert passport["stuck"] == ""
    [verdict] = [stamp for stamp in passport["stamps"] if stamp["stage"] == "verdict"]
    assert (verdict["place"], verdict["detail"]) == ("antispam, links", "rejected: SPAM")
    assert verdict["at"]


def test_unknown_message(place: Place) -> None:
    """A message that nobody holds is said to be so, by exit status 1."""
    result = place.mesh("message", "01900000-0000-7000-8000-000000000000")
    assert (result.exit_code, "was never accepted" in result.output) == (1, True)


# ── audit ──────────────────────────────────────────────────────────────────────────────────────────────────


def faults(place: Place, *arguments: str) -> list[tuple[str, str, bool]]:
    """What an audit finds: fault, owner, whether it was repaired."""
    found = place.json("audit", "--settled", "0", *arguments)["findings"]
    return [(one["fault"], one["owner"], one["repaired"]) for one in found]


def test_audit_finds_nothing_where_nothing_is_wrong(place: Place) -> None:
    """A healthy place passes; what is still in the outbox, or young, is no finding."""
    place.with_store(conversation)
    place.with_store(lambda store: sent(store, "four"))
    assert faults(place) == []
    assert place.mesh("audit").exit_code == 0


def test_audit_sends_a_lost_message_again(place: Place) -> None:
    """A message that the receiver lacks is found, and --repair puts it back into the outbox."""
    *_, last = place.with_store(conversation)
    place.raw(
        BOB, "messages", lambda messages: messages.delete_one({"message_id": last.message_id, "owner": BOB})
    )
    assert ("the receiver has no copy", BOB, False) in faults(place)
    assert place.mesh("audit", "--settled", "0").exit_code == 1
    assert ("the receiver has no copy", BOB, True) in faults(place, "--repair")

    async def due(store: MongoMailbox) -> list[str]:
        entries = [one for shard in range(2) for one in await store.due(shard, SOON, 9)]
        return [entry.message.message_id for entry in entries if entry.message]

    assert place.with_store(due) == [last.message_id]


def test_audit_sends_a_lost_change_again(place: Place) -> None:
    """An edit and a deletion that the receiver lacks are found, and --repair has them sent again."""
    first, second, _ = place.with_store(conversation)

    async def change(store: MongoMailbox) -> None:
        await store.edit(ANN, first.chat_id, first.message_id, "eins")
        await store.delete(ANN, second.chat_id, second.message_id, for_all=True)
        await deliver(store)  # confirmed, and lost

    place.with_store(change)
    assert faults(place) == [("the receiver's copy lacks a change", BOB, False)] * 2
    assert faults(place, "--repair") == [("the receiver's copy lacks a change", BOB, True)] * 2

    async def due(store: MongoMailbox) -> set[tuple[str, str, bool]]:
        entries = [one for shard in range(2) for one in await store.due(shard, SOON, 9)]
        return {
            (one.message.message_id, one.message.text, one.for_all)
            for one in entries
            if one.message is not None
        }

    assert place.with_store(due) == {(first.message_id, "eins", False), (second.message_id, "", True)}
    assert faults(place) == []  # they are on their way


def test_audit_counts_a_chat_anew(place: Place) -> None:
    """An unread count that is not what the log says is found and mended, and the owner's devices are told."""
    messages = place.with_store(conversation)

    async def read(store: MongoMailbox) -> None:
        await store.mark_read(BOB, messages[0].chat_id, messages[1].message_id)
        await deliver(store)

    place.with_store(read)
    drifted = {"$set": {"read_incoming": 1, "gone": 1}}
    place.raw(BOB, "chats", lambda chats: chats.update_one({"owner": BOB}, drifted))
    assert faults(place) == [("the chat counts wrongly what is unread", BOB, False)]
    assert faults(place, "--repair") == [("the chat counts wrongly what is unread", BOB, True)]
    assert faults(place) == []

    async def unread(store: MongoMailbox) -> int:
        [chat] = await store.get_chats([(BOB, messages[0].chat_id)])
        assert isinstance(chat, StoredChat)
        return chat.unread

    assert place.with_store(unread) == 1
    assert {row["kind"]: row["count"] for row in place.json("outbox", "status") if row["count"]} == {
        "opened": 1
    }


def test_audit_folds_a_chat_again(place: Place) -> None:
    """A chat that lags behind its log is found and folded; the next audit passes."""
    place.with_store(conversation)
    behind = {"$set": {"seq": 1, "incoming": 1}, "$unset": {"last": ""}}
    place.raw(BOB, "chats", lambda chats: chats.update_one({"owner": BOB}, behind))
    assert faults(place) == [("the chat is not the fold of its log", BOB, False)]
    assert faults(place, "--repair") == [("the chat is not the fold of its log", BOB, True)]
    assert faults(place) == []


def test_audit_does_not_claim_what_it_did_not_mend(place: Place) -> None:
    """A chat that runs ahead of its log is not called repaired: folding moves forward only."""
    place.with_store(conversation)
    ahead = {"$set": {"seq": 9, "incoming": 9}}
    place.raw(BOB, "chats", lambda chats: chats.update_one({"owner": BOB}, ahead))
    assert faults(place, "--repair") == [("the chat is not the fold of its log", BOB, False)]


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ({"text": "forged"}, "the two copies differ"),
        ({"incoming": 7}, "a message tells a wrong count or greatest id"),
        ({"message_id": "01900000-0000-7000-8000-000000000000"}, "the sender has no such message"),
        ({"seq": 9}, "seq has a hole or repeats"),
    ],
)
def test_audit_tells_what_it_cannot_repair(place: Place, damage: dict[str, Any], fault: str) -> None:
    """Damage that no ordinary way heals is told, --repair or not."""
    messages = place.with_store(conversation)
    second = {"owner": BOB, "message_id": messages[1].message_id}
    place.raw(BOB, "messages", lambda collection: collection.update_one(second, {"$set": damage}))
    assert (fault, BOB, False) in faults(place, "--repair")


def test_audit_since(place: Place) -> None:
    """Chats that did not change since then are not looked at."""
    place.with_store(conversation)
    place.raw(BOB, "messages", lambda messages: messages.delete_many({"owner": BOB}))
    assert faults(place, "--since", "2100-01-01") == []
    assert faults(place, "--since", "2020-01-01") != []
    assert faults(place, "--since", "0m") == []
    assert faults(place, "--since", "2h") != []


# ── places ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_local_stack_is_looked_at_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without addresses in the environment the commands go to the local stack's; with some, to those."""
    for name in ("MONGO_SHARDS", "REDIS_URLS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STACK_DIR", str(tmp_path))
    monkeypatch.setenv("STACK_PORT_BASE", "30000")
    monkeypatch.setenv("STACK_SHARDS", "2")
    monkeypatch.setenv("AMQP_URL", "amqp://elsewhere/")
    found = places()
    assert ["127.0.0.1:30000/" in uri for uri in found.mongo_shards] == [True, False]
    assert ["127.0.0.1:30030" in url for url in found.redis_urls] == [True, False]
    assert found.amqp_url == "amqp://elsewhere/"


def test_absent_servers_are_named(place: Place) -> None:
    """A command that reaches nobody says in one line what to look at."""
    place.env |= {"AMQP_URL": "amqp://guest:guest@127.0.0.1:1/"}
    result = place.mesh("parked", "list")
    assert result.exit_code == 1
    assert "AMQP_URL" in result.output
    assert "Traceback" not in result.output
