"""The command `message`: the passport of one message, derived from what the servers hold anyway."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from mesh.amqp.topology import RETRY
from mesh.cli.parked import message_id_of
from mesh.cli.places import JSON, Places, make_table, operate, places, print_parts, progress_bar, show_json

if TYPE_CHECKING:
    from mesh.amqp.parking import ParkedBody
    from mesh.bus import Bus
    from mesh.mailbox.inspection import Copy


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """One stage of a message's way.

    Attributes:
        stage: accepted, stored, queued, verdict, delivered, published, pushed, acknowledged or read.
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
class Stream:
    """What the hot cache holds of a message in one user's stream.

    Attributes:
        told: when the user was told of it, and under which event id; None where it does not say.
        receipts: when the user was told that the peer has received and read it, by the names of the stages.
        listeners: edges that hear the user now.
    """

    told: tuple[datetime, str] | None = None
    receipts: Mapping[str, datetime] = field(default_factory=dict)
    listeners: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What the servers hold of one message.

    Attributes:
        copies: in the mailboxes, the sender's first.
        streams: what the hot cache holds of it, by user; without those whose node did not answer.
        parked: bodies of the parking queue that carry it.
        queues: bodies in each queue.
        troubles: servers that did not answer.
    """

    copies: "Sequence[Copy]"
    streams: Mapping[str, Stream]
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
            f"No mailbox of {user} or of those with whom {user} has chats holds {message_id}. Try it without"
            " --user: that looks everywhere."
            if user
            else f"No mailbox holds {message_id}: it was never accepted."
        )
    stamps, stuck = passport(traces), stuck_at(traces)
    if as_json:
        whole = {"message_id": message_id, "stamps": [asdict(one) for one in stamps], "stuck": stuck}
        show_json(whole | {"troubles": traces.troubles})
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
        *(
            stamp(traces.streams.get(user), user)
            for stamp in (_published, _pushed)
            for user in (receiver, known.sender_id)
        ),
        *_pointers(got, traces.streams.get(known.sender_id, Stream())),
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
    return Stamp(stage="queued", done=True, place="RabbitMQ", detail="confirmed by the queue")


def _verdict(sent: "Copy | None", got: "Copy | None") -> Stamp:
    if sent is not None and sent.message.rejected:
        return Stamp(stage="verdict", done=True, detail=f"rejected: {sent.message.rejected}")
    if got is not None and getattr(got.message, "unchecked", False):
        return Stamp(stage="verdict", done=False, detail="passed unchecked; the late check is to come")
    return Stamp(stage="verdict", done=True if got else None, detail="passed" if got else "")


def _delivered(got: "Copy | None") -> Stamp:
    return _in_mailbox("delivered", got) if got else Stamp(stage="delivered", done=False)


def _published(stream: Stream | None, user: str) -> Stamp:
    if stream is None or stream.told is None:
        detail = "not in the hot cache (no longer, or not yet)" if stream else ""
        return Stamp(stage="published", done=None, place=f"stream of {user}", detail=detail)
    at, event_id = stream.told
    return Stamp(stage="published", done=True, at=at, place=f"stream of {user}", detail=f"event {event_id}")


def _pushed(stream: Stream | None, user: str) -> Stamp:
    """A push goes out with the publishing, to whoever hears the user then; others catch up by the stream."""
    place = f"channel of {user}"
    if stream is None:
        return Stamp(stage="pushed", done=None, place=place)
    now = f"heard by {stream.listeners} edges now" if stream.listeners else "no device is there now"
    return Stamp(
        stage="pushed",
        done=True if stream.told else None,
        at=stream.told[0] if stream.told else None,
        place=place,
        detail=now,
    )


def _pointers(got: "Copy | None", of_sender: Stream) -> list[Stamp]:
    """How far the receiver has got; when, as far as the sender's stream still tells of the receipt."""
    chat = got.chat if got else None
    stamps = []
    for stage, pointer in (("acknowledged", "delivered_up_to"), ("read", "read_up_to")):
        up_to = getattr(chat, pointer) if chat else ""
        done = got is not None and up_to >= got.message.message_id
        stamps.append(
            Stamp(
                stage=stage,
                done=done,
                at=of_sender.receipts.get(stage) if done else None,
                place=f"shard {got.shard}, {got.message.owner}" if got and done else "",
                detail=f"up to {up_to}" if up_to else "",
            )
        )
    return stamps


def stuck_at(traces: Traces) -> str:
    """Where the message waits on its way to its receiver, and the cure; empty where it has arrived. Pure."""
    got = next((one.message for one in traces.copies if one.message.owner != one.message.sender_id), None)
    if got is not None:
        return _not_told(traces, got.owner)
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


def _not_told(traces: Traces, user: str) -> str:
    """Whether a message that is in the mailbox may still wait for its user's stream to be told."""
    stream = traces.streams.get(user)
    waiting = [name for name, count in traces.queues.items() if count and f"{RETRY}." in name]
    if stream is None or stream.told or not waiting:
        return ""
    return (
        f"delivered, and {user}'s devices may not have been told: {', '.join(waiting)} is not empty."
        " Is Redis running?"
    )


async def _trace(message_id: str, user: str) -> Traces:
    settings = places()
    copies = await _copies(settings, message_id, user)
    streams, troubles = await _streams(settings, message_id, copies)
    parked, queues, more = await _queues(settings, message_id)
    return Traces(copies=copies, streams=streams, parked=parked, queues=queues, troubles=[*troubles, *more])


async def _copies(settings: Places, message_id: str, user: str) -> "Sequence[Copy]":
    from mesh.mailbox.inspection import Inspector

    async with settings.shards(Inspector) as inspector:
        with progress_bar() as bar:
            task = bar.add_task("shards", total=inspector.shard_count, visible=not user)
            return await inspector.copies(message_id, user, lambda: bar.advance(task))


async def _streams(
    settings: Places, message_id: str, copies: "Sequence[Copy]"
) -> tuple[dict[str, Stream], list[str]]:
    from mesh.bus import Bus
    from mesh.errors import MessengerError

    found, troubles = dict[str, Stream](), []
    users = {user for copy in copies for user in (copy.message.owner, copy.message.peer_id)}
    bus = Bus(
        settings.redis_urls, retention=settings.bus_retention_seconds, length=settings.bus_stream_length
    )
    async with bus:
        for user in sorted(users):
            try:
                found[user] = await _stream(bus, user, copies[0].message.chat_id, message_id)
            except MessengerError as error:
                troubles.append(f"Redis: {error.detail}")
    return found, troubles


async def _stream(bus: "Bus", user: str, chat_id: str, message_id: str) -> Stream:
    from mesh.bus import EventId
    from messenger.events.v1.notifications_pb2 import Notification

    told: tuple[datetime, str] | None = None
    receipts: dict[str, datetime] = {}
    for entry in (await bus.read_after(user, EventId(0, 0, 0))).entries:
        note = Notification.FromString(entry.payload)
        at = datetime.fromtimestamp(entry.event_id.ms / 1000, UTC)
        if note.message_new.message.message_id == message_id:
            told = told or (at, str(entry.event_id))
        for stage, receipt in (("acknowledged", note.receipt_delivered), ("read", note.receipt_read)):
            if receipt.chat_id == chat_id and receipt.up_to >= message_id:
                receipts.setdefault(stage, at)
    return Stream(told=told, receipts=receipts, listeners=await bus.listeners(user))


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
    from rich.markup import escape

    marks = {True: "[green]yes[/]", False: "[yellow]no[/]", None: "?"}
    table = make_table("stage", "", "when (UTC)", "where", "")
    for one in stamps:
        when = f"{one.at:%Y-%m-%d %H:%M:%S}.{one.at.microsecond // 1000:03}" if one.at else ""
        table.add_row(one.stage, marks[one.done], when, one.place, escape(one.detail))
    print_parts(table, *(f"[yellow]not asked[/] {trouble}" for trouble in troubles))
    if stuck:
        print_parts(f"[red]stuck[/] {escape(stuck)}")


COMMANDS = (message,)
