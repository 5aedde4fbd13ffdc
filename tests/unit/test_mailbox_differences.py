"""What an audit tells: nothing of a chat that came about in the ordinary way, and every fault put into it."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from mesh.mailbox.differences import Fault, Side, differences
from mesh.mailbox.fold import LogEntry
from mesh.mailbox.memory import MemoryMailbox
from mesh.mailbox.model import Appended, IncomingMessage, NewMessage, StoredMessage

ANN, BOB = "ann", "bob"
Sides = tuple[Side, Side]


class World:
    """Two people's mailboxes, and all that may happen between them."""

    def __init__(self) -> None:
        self.store = MemoryMailbox()
        self.keys = 0
        self.chat_id = ""

    async def open(self) -> None:
        for owner, peer in ((ANN, BOB), (BOB, ANN)):
            self.chat_id = (await self.store.open_chat(owner, peer)).chat.chat_id

    async def send(self, sender: str, text: str) -> StoredMessage:
        self.keys += 1
        new = NewMessage(owner=sender, chat_id=self.chat_id, text=text, client_msg_id=str(self.keys))
        [appended] = await self.store.append_own([new])
        assert isinstance(appended, Appended)
        return appended.message

    async def deliver(self, message: StoredMessage) -> None:
        await self.store.append_incoming(
            [
                IncomingMessage(
                    owner=message.peer_id,
                    chat_id=self.chat_id,
                    message_id=message.message_id,
                    sender_id=message.owner,
                    text=message.text,
                    created_at=message.created_at,
                )
            ]
        )

    async def edit(self, message: StoredMessage, text: str) -> None:
        after = (await self.store.edit(message.owner, self.chat_id, message.message_id, text)).message
        assert after.edited_at
        await self.store.apply_edit(
            message.peer_id,
            self.chat_id,
            message.message_id,
            text=text,
            edited_at=after.edited_at,
            version=after.version,
        )

    async def delete(self, message: StoredMessage) -> None:
        after = (
            await self.store.delete(message.owner, self.chat_id, message.message_id, for_all=True)
        ).message
        await self.store.apply_removal(
            message.peer_id, self.chat_id, message.message_id, version=after.version
        )

    def sides(self) -> Sides:
        """Both, as they now stand."""
        one, other = (
            Side(
                owner=owner,
                log=tuple(self.store._logs[owner, self.chat_id]),
                chat=self.store._chats[owner, self.chat_id],
            )
            for owner in (ANN, BOB)
        )
        return one, other


def now() -> datetime:
    """After all that has happened."""
    return datetime.now(UTC) + timedelta(seconds=1)


def found(sides: Sides, settled: datetime | None = None) -> set[tuple[Fault, str]]:
    """What is wrong, and where."""
    one, other = sides
    wrong = differences(one, other, one.log[0].message.chat_id, settled or now())
    return {(finding.fault, finding.owner) for finding in wrong}


async def conversation() -> World:
    """Three messages of ann's, of which bob has read the first; the second was edited."""
    world = World()
    await world.open()
    first, second, third = [await world.send(ANN, text) for text in ("one", "two", "three")]
    for message in (first, second, third):
        await world.deliver(message)
    await world.edit(second, "zwei")
    await world.store.mark_read(BOB, world.chat_id, first.message_id)
    return world


@pytest.mark.parametrize("seed", range(20))
async def test_what_came_about_in_the_ordinary_way_is_right(seed: int) -> None:
    """Whatever people do, and however late it is delivered, there is nothing to find at the end."""
    chance, world = random.Random(seed), World()  # noqa: S311  # chance that can be repeated
    await world.open()
    sent: list[StoredMessage] = []
    waiting: list[StoredMessage] = []
    for step in range(60):
        match chance.choice(("send", "send", "deliver", "edit", "delete", "hide", "read")):
            case "send":
                waiting.append(await world.send(chance.choice((ANN, BOB)), f"text {step}"))
            case "deliver" if waiting:
                message = waiting.pop(chance.randrange(len(waiting)))
                await world.deliver(message)
                sent.append(message)
            case "edit" if live := [one for one in sent if not await is_gone(world, one)]:
                await world.edit(chance.choice(live), f"text {step}")
            case "delete" if sent:
                await world.delete(chance.choice(sent))
            case "hide" if sent:
                message = chance.choice(sent)
                await world.store.delete(BOB, world.chat_id, message.message_id, for_all=False)
            case "read" if sent:
                message = chance.choice(sent)
                await world.store.mark_read(message.peer_id, world.chat_id, message.message_id)
    for message in waiting:
        await world.deliver(message)
    if sent or waiting:
        assert found(world.sides()) == set()


async def is_gone(world: World, message: StoredMessage) -> bool:
    """Whether its sender's copy is deleted."""
    log = world.store._logs[message.owner, world.chat_id]
    return log[message.seq - 1].message.deleted


def of_log(side: Side, place: int, **changed: Any) -> Side:
    """The side with something else in its log."""
    log = list(side.log)
    log[place] = structs.replace(log[place], message=structs.replace(log[place].message, **changed))
    return replace(side, log=tuple(log))


def of_chat(side: Side, **changed: Any) -> Side:
    """The side with something else in its chat."""
    assert side.chat
    return replace(side, chat=structs.replace(side.chat, **changed))


def of_head(side: Side, place: int, **changed: Any) -> Side:
    """The side with a message that tells another head."""
    log = list(side.log)
    log[place] = LogEntry(message=log[place].message, head=structs.replace(log[place].head, **changed))
    return replace(side, log=tuple(log))


def shorter(side: Side, end: int) -> Side:
    """The side without its last messages, and its chat as it was before them."""
    head = side.log[end - 1].head
    cut = replace(side, log=side.log[:end])
    last = side.log[end - 1].message
    return of_chat(cut, seq=head.seq, incoming=head.incoming, top=head.top, last=last)


GONE = {"deleted": True, "deleted_for_all": True, "text": "", "version": 1}

WRONG: list[tuple[Callable[[Side, Side], Sides], Fault, str]] = [
    (lambda ann, bob: (ann, shorter(bob, 2)), Fault.NO_COPY, BOB),
    (lambda ann, bob: (shorter(ann, 2), bob), Fault.NO_ORIGINAL, BOB),
    (lambda ann, bob: (ann, of_log(bob, 1, text="two", version=0)), Fault.NO_CHANGE, BOB),
    (lambda ann, bob: (of_log(ann, 0, **GONE), bob), Fault.NO_CHANGE, BOB),
    (lambda ann, bob: (ann, of_log(bob, 0, text="forged")), Fault.CONTENT, BOB),
    (lambda ann, bob: (ann, of_log(bob, 1, seq=9)), Fault.HOLE, BOB),
    (lambda ann, bob: (ann, of_head(bob, 1, incoming=9)), Fault.HEAD, BOB),
    (lambda ann, bob: (ann, of_chat(bob, seq=2, incoming=2)), Fault.FOLD, BOB),
    (lambda ann, bob: (ann, of_chat(bob, last=None)), Fault.FOLD, BOB),
    (lambda ann, bob: (ann, replace(bob, chat=None)), Fault.FOLD, BOB),
    (lambda ann, bob: (ann, of_chat(bob, read_incoming=2)), Fault.UNREAD, BOB),
    (lambda ann, bob: (ann, of_chat(bob, gone=1)), Fault.UNREAD, BOB),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "fault", "owner"), WRONG)
async def test_each_fault_is_told(damage: Callable[[Side, Side], Sides], fault: Fault, owner: str) -> None:
    """Each fault that is put into a conversation is told, where it is."""
    sides = (await conversation()).sides()
    assert found(sides) == set()
    assert (fault, owner) in found(damage(*sides))


async def test_what_is_on_its_way_is_no_fault() -> None:
    """What is young, marked, rejected or its owner's own business is told by nobody."""
    ann, bob = (await conversation()).sides()
    before = min(entry.message.stored_at for entry in ann.log) - timedelta(seconds=1)
    second = ann.log[1].message
    lacking = of_log(bob, 1, text="two", version=0)
    assert found((ann, shorter(bob, 2)), before) == set()
    assert found((ann, lacking), before) == set()
    assert found((replace(ann, marked=frozenset({second.message_id})), lacking)) == set()
    assert found((of_log(ann, 1, edit_rejected=1), lacking)) == set()
    assert found((of_log(ann, 2, rejected="rules:SPAM"), shorter(bob, 2))) == set()
    assert found((of_log(ann, 1, deleted=True, text="", version=2), bob)) == set()


async def test_a_log_that_goes_on_beside_the_audit_is_no_fault() -> None:
    """A chat that was read just before its log grew stands for the log as it was then."""
    ann, bob = (await conversation()).sides()
    before = min(entry.message.stored_at for entry in ann.log) - timedelta(seconds=1)
    early = shorter(bob, 2)
    assert found((ann, replace(bob, chat=early.chat)), before) == set()
    assert found((ann, of_chat(replace(bob, chat=early.chat), top="")), before) != set()
