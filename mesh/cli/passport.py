"""The command `message`: the passport of one message. Gathers what the servers hold; `stamps` reads it."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from mesh.cli.parked import message_id_of
from mesh.cli.places import JSON, Places, make_table, operate, places, print_parts, progress_bar, show_json
from mesh.cli.stamps import Stamp, Stream, Traces, passport, stuck_at

if TYPE_CHECKING:
    from mesh.amqp.parking import ParkedBody
    from mesh.bus import Bus
    from mesh.mailbox.inspection import Copy


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


async def _trace(message_id: str, user: str) -> Traces:
    settings = places()
    copies = await _copies(settings, message_id, user)
    streams, troubles = await _streams(settings, message_id, copies)
    parked, queues, more = await _queues(settings, message_id)
    return Traces(
        now=datetime.now(UTC),
        copies=copies,
        streams=streams,
        parked=parked,
        queues=queues,
        troubles=[*troubles, *more],
    )


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
    from mesh.streams import EventId
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
    return Stream(node=bus.node_of(user), told=told, receipts=receipts, listeners=await bus.listeners(user))


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
