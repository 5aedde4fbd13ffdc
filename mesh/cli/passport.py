"""The command `message`: the passport of one message, derived from what the servers hold anyway."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from mesh.cli.parked import message_id_of
from mesh.cli.places import JSON, Places, operate, places

if TYPE_CHECKING:
    from mesh.amqp.parking import ParkedBody
    from mesh.mailbox.inspection import Copy


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """One stage of a message's way.

    Attributes:
        stage: accepted, stored, queued, verdict, delivered, published, acknowledged or read.
        done: True, False, or None where nothing tells.
        at: when, as far as anything tells.
        place: where.
        detail: for a person.
    """

    stage: str
    done: bool | None
    at: datetime | None = None
    place: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What the servers hold of one message.

    Attributes:
        copies: in the mailboxes, the sender's first.
        published: when each user's stream was told, and under which event id.
        parked: bodies of the parking queue that carry it.
        queues: bodies in each queue.
        troubles: servers that did not answer.
    """

    copies: "Sequence[Copy]"
    published: Mapping[str, tuple[datetime, str]]
    parked: "Sequence[ParkedBody]"
    queues: Mapping[str, int]
    troubles: Sequence[str]


@click.command()
@click.argument("message_id")
@click.option(
    "--user", default="", help="Its sender or receiver. Without it, every message is looked at: slow."
)
@JSON
def message(message_id: str, user: str, as_json: bool) -> None:
    """Print the passport of MESSAGE_ID: every stage of its way, and where it is stuck.

    Exit status 1 where no mailbox holds it, 2 where it is stuck.
    """
    traces = operate(_trace(message_id, user))
    if not traces.copies:
        raise click.ClickException(
            f"No mailbox holds {message_id}: it was never accepted, or is another user's than {user}."
            if user
            else f"No mailbox holds {message_id}: it was never accepted."
        )
    stamps, stuck = passport(traces), stuck_at(traces)
    if as_json:
        whole = {"message_id": message_id, "stamps": [asdict(one) for one in stamps], "stuck": stuck}
        click.echo(json.dumps(whole | {"troubles": traces.troubles}, default=str, indent=2))
    else:
        _print(stamps, stuck, traces.troubles)
    raise SystemExit(2 if stuck else 0)


def passport(traces: Traces) -> list[Stamp]:
    """Every stage, in order. Pure."""
    sent = next((one for one in traces.copies if one.message.owner == one.message.sender_id), None)
    got = next((one for one in traces.copies if one.message.owner != one.message.sender_id), None)
    known = (sent or traces.copies[0]).message
    receiver = known.peer_id if sent else known.owner
    return [
        Stamp(stage="accepted", done=True, at=known.created_at, detail=f"{known.sender_id} → {receiver}"),
        _stored(sent),
        _queued(sent, got),
        _verdict(sent, got),
        _delivered(got),
        *(_published(traces, user) for user in (receiver, known.sender_id)),
        *_pointers(got),
    ]


def _stored(sent: "Copy | None") -> Stamp:
    if sent is None:
        return Stamp(stage="stored", done=False, detail="the sender's mailbox does not hold it")
    return _in_mailbox("stored", sent)


def _in_mailbox(stage: str, copy: "Copy") -> Stamp:
    one = copy.message
    edits = f", version {one.version}" if one.version else ""
    return Stamp(
        stage=stage,
        done=True,
        at=one.stored_at,
        place=f"shard {copy.shard}, {one.owner}",
        detail=f"seq {one.seq}{edits}{', deleted' if one.deleted else ''}",
    )


def _queued(sent: "Copy | None", got: "Copy | None") -> Stamp:
    if sent is not None and sent.outbox_since is not None:
        detail = "announced again" if got else "in the outbox; the queue has not confirmed it"
        return Stamp(
            stage="queued", done=bool(got), at=sent.outbox_since, place=f"shard {sent.shard}", detail=detail
        )
    return Stamp(stage="queued", done=True, detail="confirmed by the queue")


def _verdict(sent: "Copy | None", got: "Copy | None") -> Stamp:
    if sent is not None and sent.message.rejected:
        return Stamp(stage="verdict", done=True, detail=f"rejected: {sent.message.rejected}")
    if got is not None and getattr(got.message, "unchecked", False):
        return Stamp(stage="verdict", done=False, detail="passed unchecked; the late check is to come")
    return Stamp(stage="verdict", done=True if got else None, detail="passed" if got else "")


def _delivered(got: "Copy | None") -> Stamp:
    return _in_mailbox("delivered", got) if got else Stamp(stage="delivered", done=False)


def _published(traces: Traces, user: str) -> Stamp:
    found = traces.published.get(user)
    if found is None:
        detail = "not in the hot cache (no longer, or not yet)"
        return Stamp(stage="published", done=None, place=f"stream of {user}", detail=detail)
    at, event_id = found
    detail = f"event {event_id}, pushed to the devices that were there"
    return Stamp(stage="published", done=True, at=at, place=f"stream of {user}", detail=detail)


def _pointers(got: "Copy | None") -> list[Stamp]:
    chat = got.chat if got else None
    stamps = []
    for stage, pointer in (("acknowledged", "delivered_up_to"), ("read", "read_up_to")):
        up_to = getattr(chat, pointer) if chat else ""
        done = bool(got) and up_to >= got.message.message_id if got else False
        place = f"shard {got.shard}, {got.message.owner}" if got and done else ""
        stamps.append(Stamp(stage=stage, done=done, place=place, detail=f"up to {up_to}" if up_to else ""))
    return stamps


def stuck_at(traces: Traces) -> str:
    """Where the message waits on its way to its receiver, and the cure; empty where it has arrived. Pure."""
    if any(one.message.owner != one.message.sender_id for one in traces.copies):
        return ""
    (sent, *_) = traces.copies
    if sent.message.rejected:
        return ""
    if sent.outbox_since is not None:
        return f"in the outbox of shard {sent.shard}: is dbapi running, and RabbitMQ? Then: outbox flush"
    if traces.parked:
        one = traces.parked[0]
        return f"parked ({one.delivery.cause}): once the cause is gone, parked replay {one.key}"
    waiting = [f"{name} {count}" for name, count in traces.queues.items() if count]
    if waiting:
        return f"in a queue ({', '.join(waiting)}): is dbstore running, and the receiver's shard?"
    return (
        "nowhere that can be seen: in a consumer's hands, or lost; in a minute, audit --repair sends it again"
    )


async def _trace(message_id: str, user: str) -> Traces:
    settings = places()
    copies = await _copies(settings, message_id, user)
    published, troubles = await _streams(settings, message_id, copies)
    parked, queues, more = await _queues(settings, message_id)
    return Traces(
        copies=copies, published=published, parked=parked, queues=queues, troubles=[*troubles, *more]
    )


async def _copies(settings: Places, message_id: str, user: str) -> "Sequence[Copy]":
    from mesh.mailbox.inspection import Inspector

    async with settings.shards(Inspector) as inspector:
        return await inspector.copies(message_id, user)


async def _streams(
    settings: Places, message_id: str, copies: "Sequence[Copy]"
) -> tuple[dict[str, tuple[datetime, str]], list[str]]:
    from mesh.bus import Bus, EventId
    from mesh.errors import MessengerError
    from messenger.events.v1.notifications_pb2 import Notification

    found, troubles = dict[str, tuple[datetime, str]](), []
    users = {user for copy in copies for user in (copy.message.owner, copy.message.peer_id)}
    bus = Bus(
        settings.redis_urls, retention=settings.bus_retention_seconds, length=settings.bus_stream_length
    )
    async with bus:
        for user in sorted(users):
            try:
                page = await bus.read_after(user, EventId(0, 0, 0))
            except MessengerError as error:
                troubles.append(f"Redis: {error.detail}")
                continue
            for entry in page.entries:
                told = Notification.FromString(entry.payload)
                if told.message_new.message.message_id == message_id:
                    at = datetime.fromtimestamp(entry.event_id.ms / 1000, UTC)
                    found.setdefault(user, (at, str(entry.event_id)))
    return found, troubles


async def _queues(settings: Places, message_id: str) -> "tuple[list[ParkedBody], dict[str, int], list[str]]":
    from mesh.amqp.parking import lengths, open_parking_lot
    from mesh.errors import MessengerError

    try:
        async with open_parking_lot(settings.amqp_url, settings.topology()) as lot:
            parked = [one async for one in lot.look() if message_id in map(message_id_of, one.events)]
        return parked, await lengths(settings.amqp_url, settings.topology()), []
    except MessengerError as error:
        return [], {}, [f"RabbitMQ: {error.detail}"]


def _print(stamps: Sequence[Stamp], stuck: str, troubles: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    marks = {True: "[green]yes[/]", False: "[yellow]no[/]", None: "?"}
    table = Table("stage", "", "when (UTC)", "where", "", box=None)
    for one in stamps:
        when = f"{one.at:%Y-%m-%d %H:%M:%S}.{one.at.microsecond // 1000:03}" if one.at else ""
        table.add_row(one.stage, marks[one.done], when, one.place, one.detail)
    console = Console()
    console.print(table)
    for trouble in troubles:
        console.print(f"[yellow]not asked[/] {trouble}")
    if stuck:
        console.print(f"[red]stuck[/] {stuck}")


COMMANDS = (message,)
