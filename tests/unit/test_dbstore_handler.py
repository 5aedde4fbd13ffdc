"""What dbstore does with events, whatever fails beside them; on the memory store and a bus in hand."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from dbapi.events import entry_of, event_of
from dbstore.consumer import EventHandler
from dbstore.late import LateCheck
from mesh.amqp import DONE, LATE, Delivery, Later, Outcome, Park, Publisher, Received, Retry
from mesh.bus import Bus
from mesh.errors import MessengerError, Unavailable
from mesh.mailbox.fold import whole_ms
from mesh.mailbox.memory import MemoryMailbox
from mesh.mailbox.model import Appended, NewMessage, StoredMessage
from messenger.antispam.v1 import antispam_pb2
from messenger.events.v1 import notifications_pb2, queue_pb2


class HandBus:
    """A bus that keeps what it is told, and can be away."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.away_for: set[str] = set()

    async def publish(self, events: Sequence[tuple[str, bytes]]) -> list[MessengerError | None]:
        outcomes: list[MessengerError | None] = []
        for user_id, payload in events:
            if user_id in self.away_for:
                outcomes.append(Unavailable("away"))
                continue
            kind = notifications_pb2.Notification.FromString(payload).WhichOneof("body")
            self.told.append((user_id, str(kind)))
            outcomes.append(None)
        return outcomes


class HandPublisher:
    """A publisher that keeps what it is given, and can be away."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, queue_pb2.Event]] = []
        self.away = False

    async def publish(self, exchange: str, _key: str, events: Sequence[queue_pb2.Event]) -> None:
        if self.away:
            raise Unavailable("away")
        self.sent += [(exchange, event) for event in events]


class World:
    """A store, a bus, and the handler between."""

    def __init__(self, shards: int = 1) -> None:
        self.store = MemoryMailbox(shards)
        self.bus = HandBus()
        self.late = HandPublisher()
        self.build()

    def build(self) -> None:
        """Makes the handler, on the store as it is now."""
        late = LateCheck(self.store, cast(Publisher, self.late))
        self.handler = EventHandler(self.store, cast(Bus, self.bus), late)

    async def message(self, text: str, sender: str = "ann", receiver: str = "bob") -> queue_pb2.Event:
        chat = (await self.store.open_chat(sender, receiver)).chat
        new = NewMessage(owner=sender, chat_id=chat.chat_id, text=text, client_msg_id=text)
        [appended] = await self.store.append_own([new])
        assert isinstance(appended, Appended)
        return event_of(entry_of(appended.message))

    async def handle(self, *events: queue_pb2.Event) -> Sequence[Outcome | Later]:
        return await self.handler.handle([Received(event=event, delivery=Delivery()) for event in events])

    async def texts(self, owner: str, event: queue_pb2.Event) -> list[str]:
        chat_id = event.message_accepted.message.chat_id
        page = await self.store.history(owner, chat_id, limit=10)
        return [message.text for message in page.messages]

    async def brought(self, owner: str, since: datetime) -> list[str]:
        """What a device that missed what came since then is brought."""
        chats = (await self.store.changes(owner, since, "")).chats
        return [message.text for chat in chats for message in (*chat.messages, *chat.changed)]


async def a_little_later() -> datetime:
    """The time, after all that was stored before."""
    await asyncio.sleep(0.002)
    return whole_ms(datetime.now(UTC))


@pytest.fixture
def world() -> World:
    """A fresh one."""
    return World()


async def test_message_reaches_the_mailbox_and_both_streams(world: World) -> None:
    """A message is in the receiver's mailbox, and both sides' devices are told of it and of the chat."""
    event = await world.message("hello")
    assert await world.handle(event) == [DONE]
    assert await world.texts("bob", event) == ["hello"]
    assert sorted(world.bus.told) == [
        ("ann", "chat_updated"),
        ("ann", "message_new"),
        ("bob", "chat_updated"),
        ("bob", "message_new"),
    ]


async def test_redelivery_stores_once_and_tells_again(world: World) -> None:
    """The same event again changes no mailbox; devices are told again, for they may not have been."""
    event = await world.message("hello")
    await world.handle(event)
    told = len(world.bus.told)
    assert await world.handle(event) == [DONE]
    assert await world.texts("bob", event) == ["hello"]
    [chat] = await world.store.get_chats([("bob", event.message_accepted.message.chat_id)])
    assert not isinstance(chat, MessengerError)
    assert chat.unread == 1
    assert len(world.bus.told) == 2 * told


async def test_what_is_told_late_counts_as_changed(world: World) -> None:
    """A device that had later events and comes back is brought what was stored before and told after them."""
    event = await world.message("hello")
    message = event.message_accepted.message
    read = queue_pb2.ReadAdvanced(
        user_id="bob", peer_id="ann", chat_id=message.chat_id, up_to=message.message_id
    )
    receipt = queue_pb2.Event(accepted_at=event.accepted_at, read_advanced=read)
    await world.handle(event, receipt)
    for late, brought in ((False, []), (True, ["hello"])):
        for one in (event, receipt):
            one.accepted_at.seconds -= 60 * late
        since = await a_little_later()
        assert await world.handle(event) == [DONE]
        assert await world.brought("ann", since) == brought
        assert await world.brought("bob", since) == brought
        since = await a_little_later()
        assert await world.handle(receipt) == [DONE]
        assert len((await world.store.changes("ann", since, "")).chats) == late


async def test_chat_is_told_once_a_batch(world: World) -> None:
    """Several messages of one chat in one batch tell its state once each side."""
    events = [await world.message(text) for text in ("one", "two", "three")]
    assert await world.handle(*events) == [DONE] * 3
    assert world.bus.told.count(("bob", "message_new")) == 3
    assert world.bus.told.count(("bob", "chat_updated")) == 1


async def test_rejected_message_is_not_delivered(world: World) -> None:
    """What antispam rejected stays with its sender."""
    event = await world.message("buy now")
    event.message_accepted.verdict.decision = antispam_pb2.DECISION_REJECT
    assert await world.handle(event) == [DONE]
    assert await world.texts("bob", event) == []
    assert {user for user, _ in world.bus.told} == {"ann"}


async def test_dead_shard_hurts_only_its_users() -> None:
    """Events to users of a shard that is down are retried; the others of the batch are done."""
    world = World(shards=2)
    users = [f"user{n}" for n in range(20)]
    there = next(user for user in users if world.store.shard_of(user) == 0)
    away = next(user for user in users if world.store.shard_of(user) == 1)
    sender = next(user for user in users if world.store.shard_of(user) == 0 and user != there)
    good = await world.message("to good", sender, there)
    bad = await world.message("to bad", sender, away)
    world.store.down.add(1)
    first, second = await world.handle(good, bad)
    assert first == DONE
    assert isinstance(second, Retry)
    world.store.down.clear()
    assert await world.handle(bad) == [DONE]
    assert await world.texts(away, bad) == ["to bad"]


async def test_absent_bus_is_retried(world: World) -> None:
    """An event whose stream could not be told comes again, though its mailbox has it."""
    event = await world.message("hello")
    world.bus.away_for.add("bob")
    [outcome] = await world.handle(event)
    assert isinstance(outcome, Retry)
    assert await world.texts("bob", event) == ["hello"]


async def test_unknown_event_is_parked(world: World) -> None:
    """An event of no kind that this version knows is parked, not retried."""
    [outcome] = await world.handle(queue_pb2.Event())
    assert isinstance(outcome, Park)


async def test_read_pointer_reaches_the_peer(world: World) -> None:
    """A read pointer moves in the peer's chat, and the peer's devices get the receipt."""
    event = await world.message("hello")
    await world.handle(event)
    message = event.message_accepted.message
    read = queue_pb2.ReadAdvanced(
        user_id="bob", peer_id="ann", chat_id=message.chat_id, up_to=message.message_id
    )
    assert await world.handle(queue_pb2.Event(read_advanced=read)) == [DONE]
    [chat] = await world.store.get_chats([("ann", message.chat_id)])
    assert not isinstance(chat, MessengerError)
    assert chat.peer_read_up_to == message.message_id
    assert ("ann", "receipt_read") in world.bus.told
    assert ("bob", "chat_updated") in world.bus.told


def judged(event: queue_pb2.Event, decision: antispam_pb2.Decision.ValueType) -> queue_pb2.Event:
    """What antispam says late of a message."""
    accepted = event.message_accepted
    return queue_pb2.Event(
        message_judged=queue_pb2.MessageJudged(
            message_id=accepted.message.message_id,
            chat_id=accepted.message.chat_id,
            sender_id=accepted.message.sender_id,
            receiver_id=accepted.receiver_id,
            verdict=antispam_pb2.Verdict(decision=decision, checker="rules", reason="SPAM"),
        )
    )


async def copies(world: World, event: queue_pb2.Event) -> tuple[StoredMessage, StoredMessage]:
    """The sender's and the receiver's copy."""
    chat_id = event.message_accepted.message.chat_id
    pages = [await world.store.history(owner, chat_id, limit=1) for owner in ("ann", "bob")]
    return pages[0].messages[0], pages[1].messages[0]


async def unread(world: World, event: queue_pb2.Event) -> int:
    """How much the receiver has not read."""
    [chat] = await world.store.get_chats([("bob", event.message_accepted.message.chat_id)])
    assert not isinstance(chat, MessengerError)
    return chat.unread


async def test_unchecked_message_is_delivered_flagged_and_checked_late(world: World) -> None:
    """What comes without a verdict, or with a checker's missing, is delivered and sent to antispam again."""
    plain, unanswered = await world.message("one"), await world.message("two")
    unanswered.message_accepted.verdict.decision = antispam_pb2.DECISION_UNCHECKED
    passed = await world.message("three")
    passed.message_accepted.verdict.decision = antispam_pb2.DECISION_PASS
    assert await world.handle(plain, unanswered, passed) == [DONE] * 3
    assert world.late.sent == [(LATE, plain), (LATE, unanswered)]
    page = await world.store.history("bob", plain.message_accepted.message.chat_id, limit=3)
    assert [message.unchecked for message in page.messages] == [True, True, False]


async def test_nothing_stays_unchecked_because_the_queue_was_away(world: World) -> None:
    """Where the queue does not take an unchecked message, it comes again."""
    event = await world.message("hello")
    world.late.away = True
    [outcome] = await world.handle(event)
    assert isinstance(outcome, Retry)
    assert outcome.outage


async def test_late_spam_is_taken_back(world: World) -> None:
    """A late "spam" takes the copy and its unread count, tells its devices, and is noted on the sender's."""
    event = await world.message("buy now")
    await world.handle(event)
    assert await unread(world, event) == 1
    for _ in range(2):  # and a redelivery changes nothing
        world.bus.told.clear()
        assert await world.handle(judged(event, antispam_pb2.DECISION_REJECT)) == [DONE]
        assert world.bus.told == [("bob", "message_deleted"), ("bob", "chat_updated")]
        mine, theirs = await copies(world, event)
        assert (mine.rejected, mine.text, mine.deleted) == ("rules:SPAM", "buy now", False)
        assert (theirs.text, theirs.deleted, theirs.unchecked) == ("", True, False)
        assert await unread(world, event) == 0


async def test_late_pass_takes_the_flag(world: World) -> None:
    """A late "pass" leaves the message where it is, and nobody is told of its deletion."""
    event = await world.message("hello")
    await world.handle(event)
    assert await world.handle(judged(event, antispam_pb2.DECISION_PASS)) == [DONE]
    mine, theirs = await copies(world, event)
    assert (mine.rejected, theirs.text, theirs.unchecked) == ("", "hello", False)
    assert "message_deleted" not in {kind for _, kind in world.bus.told}


async def test_the_first_verdict_holds(world: World) -> None:
    """A message that passed is not taken back by another verdict on a redelivered copy, late or not."""
    event = await world.message("hello")
    event.message_accepted.verdict.decision = antispam_pb2.DECISION_PASS
    await world.handle(event)
    event.message_accepted.verdict.decision = antispam_pb2.DECISION_REJECT
    assert await world.handle(event, judged(event, antispam_pb2.DECISION_REJECT)) == [DONE] * 2
    mine, theirs = await copies(world, event)
    assert (mine.rejected, theirs.text) == ("", "hello")


async def test_a_verdict_in_time_takes_back_what_passed_unchecked(world: World) -> None:
    """Of two copies in the queue one passed unchecked and the other was rejected: it is taken back."""
    event = await world.message("buy now")
    await world.handle(event)
    event.message_accepted.verdict.decision = antispam_pb2.DECISION_REJECT
    world.bus.told.clear()
    assert await world.handle(event) == [DONE]
    mine, theirs = await copies(world, event)
    assert mine.rejected
    assert theirs.deleted
    assert [kind for user_id, kind in world.bus.told if user_id == "bob"] == [
        "message_deleted",
        "chat_updated",
    ]


async def test_change_of_a_rejected_message_is_done(world: World) -> None:
    """An edit or a deletion of what the receiver never got is not retried until it is parked."""
    event = await world.message("buy now")
    message = event.message_accepted.message
    edited = await world.store.edit("ann", message.chat_id, message.message_id, "buy then")
    removed = await world.store.delete("ann", message.chat_id, message.message_id, for_all=True)
    assert edited.entry
    assert removed.entry
    event.message_accepted.verdict.decision = antispam_pb2.DECISION_REJECT
    assert await world.handle(event) == [DONE]
    assert await world.handle(event_of(edited.entry), event_of(removed.entry)) == [DONE] * 2


async def test_a_change_waits_for_its_message(world: World) -> None:
    """A change that overtook its message comes again for as long as that takes, and is not parked."""
    event = await world.message("hello")
    message = event.message_accepted.message
    edited = await world.store.edit("ann", message.chat_id, message.message_id, "hello there")
    removed = await world.store.delete("ann", message.chat_id, message.message_id, for_all=True)
    assert edited.entry
    assert removed.entry
    changes = [event_of(edited.entry), event_of(removed.entry)]
    for outcome in await world.handle(*changes):
        assert isinstance(outcome, Retry)
        assert outcome.outage
    assert await world.handle(event) == [DONE]
    assert await world.handle(*changes) == [DONE] * 2
    _, theirs = await copies(world, event)
    assert theirs.deleted


async def test_a_change_of_what_never_was_is_given_up(world: World) -> None:
    """A change of a message that its own sender does not have is no outage: the ladder ends."""
    event = await world.message("hello")
    removed = queue_pb2.MessageRemoved(
        user_id="ann",
        peer_id="bob",
        chat_id=event.message_accepted.message.chat_id,
        message_id="no such",
        for_all=True,
        version=1,
    )
    [outcome] = await world.handle(queue_pb2.Event(message_removed=removed))
    assert isinstance(outcome, Retry)
    assert not outcome.outage


@pytest.mark.parametrize("way", ["published again", "not taken by antispam"])
async def test_the_first_verdict_holds_where_it_is_spam(world: World, way: str) -> None:
    """Of a message that was rejected no later copy comes through, whatever another verdict says on that."""
    event = await world.message("buy now")
    event.message_accepted.verdict.decision = antispam_pb2.DECISION_REJECT
    await world.handle(event)
    event.message_accepted.verdict.decision = antispam_pb2.DECISION_PASS
    event.message_accepted.again = way == "published again"
    delivery = Delivery(expired=way == "not taken by antispam")
    world.bus.told.clear()
    assert await world.handler.handle([Received(event=event, delivery=delivery)]) == [DONE]
    assert await world.texts("bob", event) == []
    assert {user_id for user_id, _ in world.bus.told} == {"ann"}


async def test_of_two_verdicts_at_once_the_rejection_holds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that another dbstore let in while this one noted the rejection is taken back."""
    event = await world.message("buy now")
    passed = queue_pb2.Event.FromString(event.SerializeToString())
    passed.message_accepted.verdict.decision = antispam_pb2.DECISION_PASS
    event.message_accepted.verdict.decision = antispam_pb2.DECISION_REJECT
    record = world.store.record_rejection

    async def overtaken(*args: Any) -> None:
        await world.handle(passed)
        await record(*args)

    monkeypatch.setattr(world.store, "record_rejection", overtaken)
    assert await world.handle(event) == [DONE]
    mine, theirs = await copies(world, event)
    assert mine.rejected
    assert theirs.deleted
    assert ("bob", "message_deleted") in world.bus.told


async def test_a_rejected_edit_is_noted(world: World) -> None:
    """An edit that antispam keeps from the receiver is shown to its sender alone, and an audit knows why."""
    event = await world.message("hello")
    event.message_accepted.verdict.decision = antispam_pb2.DECISION_PASS
    await world.handle(event)
    message = event.message_accepted.message
    changed = await world.store.edit("ann", message.chat_id, message.message_id, "buy now")
    assert changed.entry
    edit = event_of(changed.entry)
    edit.message_edited.verdict.decision = antispam_pb2.DECISION_REJECT
    world.bus.told.clear()
    assert await world.handle(edit) == [DONE]
    mine, theirs = await copies(world, event)
    assert (mine.text, mine.edit_rejected, mine.version) == ("buy now", 1, 1)
    assert theirs.text == "hello"
    assert {user_id for user_id, _ in world.bus.told} == {"ann"}


async def test_unchecked_edit_is_checked_late(world: World) -> None:
    """Spam that came in by an edit, past antispam, is taken back as well."""
    event = await world.message("hello")
    event.message_accepted.verdict.decision = antispam_pb2.DECISION_PASS
    await world.handle(event)
    message = event.message_accepted.message
    changed = await world.store.edit("ann", message.chat_id, message.message_id, "buy now")
    assert changed.entry
    edit = event_of(changed.entry)
    assert await world.handle(edit) == [DONE]
    assert world.late.sent == [(LATE, edit)]
    verdict = judged(event, antispam_pb2.DECISION_REJECT)
    verdict.message_judged.version = edit.message_edited.version
    assert await world.handle(verdict) == [DONE]
    _, theirs = await copies(world, event)
    assert theirs.deleted


async def test_a_late_pass_covers_no_edit(world: World) -> None:
    """Where a message and its edit passed unchecked, the pass of the one leaves the other to its verdict."""
    event = await world.message("hello")
    message = event.message_accepted.message
    changed = await world.store.edit("ann", message.chat_id, message.message_id, "buy now")
    assert changed.entry
    edit = event_of(changed.entry)
    await world.handle(event)
    await world.handle(edit)
    assert await world.handle(judged(event, antispam_pb2.DECISION_PASS)) == [DONE]
    _, theirs = await copies(world, event)
    assert (theirs.text, theirs.unchecked) == ("buy now", True)
    verdict = judged(event, antispam_pb2.DECISION_REJECT)
    verdict.message_judged.version = edit.message_edited.version
    assert await world.handle(verdict) == [DONE]
    mine, theirs = await copies(world, event)
    assert theirs.deleted
    assert mine.rejected


async def test_chat_that_cannot_be_read_is_told_later() -> None:
    """Devices are not left with an old count because a shard was away when the chat was to be told."""
    world = World(shards=2)
    users = [f"user{n}" for n in range(20)]
    here = next(user for user in users if world.store.shard_of(user) == 0)
    away = next(user for user in users if world.store.shard_of(user) == 1)
    event = await world.message("hello", away, here)
    world.store.down.add(1)
    [outcome] = await world.handle(event)
    assert isinstance(outcome, Retry)
    assert world.bus.told == [(here, "message_new"), (away, "message_new"), (here, "chat_updated")]
    world.store.down.clear()
    world.bus.told.clear()
    assert await world.handle(event) == [DONE]
    assert world.bus.told == [(away, "chat_updated")]


async def blocks_of(world: World) -> Sequence[queue_pb2.Event]:
    """What is to be told after bob has blocked ann."""
    return [event_of(entry) for entry in await world.store.set_blocked("bob", "ann", blocked=True)]


async def test_a_block_is_told_to_the_owner_s_devices(world: World) -> None:
    """Who blocks sees it on every device; the other side is told nothing, and a redelivery does no harm."""
    await world.store.open_chat("bob", "ann")
    for _ in range(2):
        assert await world.handle(*await blocks_of(world)) == [DONE]
    assert world.bus.told == [("bob", "chat_updated")] * 2


async def test_a_block_shows_no_chat_that_was_not_listed(world: World) -> None:
    """A chat that only the other side has opened stays out of sight."""
    await world.store.open_chat("ann", "bob")
    assert await world.handle(*await blocks_of(world)) == [DONE]
    assert world.bus.told == []
