"""The commands `parked …`: what the retry ladder gave up on, and what becomes of it."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from mesh.cli.places import JSON, make_table, operate, places, print_parts, progress_bar, show_json

if TYPE_CHECKING:
    from mesh.amqp.parking import ParkedBody, ParkingLot
    from messenger.events.v1.queue_pb2 import Event


@click.group()
def parked() -> None:
    """Messages that no retry could help: list, show, replay, drop.

    While one of these commands looks, it holds the parking queue; what it leaves goes back in its order.
    """


KEYS = click.argument("keys", nargs=-1)
EVERYTHING = click.option("--all", "everything", is_flag=True, help="All that is parked.")


@parked.command("list")
@JSON
def list_(as_json: bool) -> None:
    """List what is parked, the oldest first, with the cause of the last attempt."""
    found = operate(_look())
    if as_json:
        show_json([_summary(one) for one in found])
        return
    if not found:
        click.echo("Nothing is parked.")
        return
    from rich.markup import escape

    table = make_table("key", "events", "kinds", "age", "attempts", "cause")
    for one in found:
        row = _summary(one)
        age = timedelta(seconds=row["age_s"]) if row["age_s"] is not None else ""
        table.add_row(
            row["key"],
            str(row["events"]),
            " ".join(row["kinds"]),
            str(age),
            str(row["attempts"]),
            escape(row["cause"]),
        )
    print_parts(table)
    click.echo("\nSee one: parked show KEY. Once the cause is gone: parked replay KEY … or --all")


@parked.command()
@click.argument("key")
@JSON
def show(key: str, as_json: bool) -> None:
    """Print what is known of the parked body KEY, event by event; with --json all of it."""
    from google.protobuf.json_format import MessageToDict

    for one in _chosen(operate(_look()), (key,), everything=False):
        events = [MessageToDict(event, preserving_proto_field_name=True) for event in one.events]
        if as_json:
            more = {"traceparent": one.delivery.traceparent, "body": one.body.hex(), "contents": events}
            show_json(_summary(one) | more)
        else:
            _print(one, events)


def _print(one: "ParkedBody", events: Sequence[dict[str, Any]]) -> None:
    from rich.markup import escape

    summary = _summary(one)
    click.echo(f"{one.key}: {len(one.body)} bytes, attempts {summary['attempts']}, cause: {summary['cause']}")
    for number, event in enumerate(events, start=1):
        table = make_table(f"event {number}", "")
        for name, value in _flat(event):
            table.add_row(name, escape(value))
        print_parts(table)


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of a JSON object, each with the path to it."""
    if not isinstance(value, dict):
        yield prefix, str(value)
        return
    for name, inner in value.items():
        yield from _flat(inner, f"{prefix}.{name}" if prefix else name)


@parked.command()
@KEYS
@EVERYTHING
@JSON
def replay(keys: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Send parked bodies on their way again, as a first attempt. Consumers do nothing twice."""
    _apply(keys, everything, as_json, word="replayed", action=lambda lot: lot.replay)


@parked.command()
@KEYS
@EVERYTHING
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
def drop(keys: tuple[str, ...], everything: bool, yes: bool, as_json: bool) -> None:
    """Throw parked bodies away. A message among them arrives only if `audit --repair` sends it again."""
    if not yes:
        click.confirm(f"Throw away {'everything' if everything else ', '.join(keys)}?", abort=True, err=True)
    _apply(keys, everything, as_json, word="dropped", action=lambda lot: lot.drop)


def _apply(
    keys: Sequence[str],
    everything: bool,
    as_json: bool,
    *,
    word: str,
    action: "Callable[[ParkingLot], Callable[[ParkedBody], Any]]",
) -> None:
    if everything == bool(keys):
        raise click.UsageError("Name keys of `parked list`, or give --all.")

    async def work() -> list[str]:
        from mesh.amqp.parking import open_parking_lot

        settings = places()
        async with open_parking_lot(settings.amqp_url, settings.topology()) as lot:
            chosen = _chosen([one async for one in lot.look()], keys, everything=everything)
            with progress_bar() as bar:
                for one in bar.track(chosen, description=word):
                    await action(lot)(one)
            return [one.key for one in chosen]

    done = operate(work())
    if as_json:
        show_json({word: done})
    else:
        click.echo(f"{len(done)} {word}.")


async def _look() -> "list[ParkedBody]":
    from mesh.amqp.parking import open_parking_lot

    settings = places()
    async with open_parking_lot(settings.amqp_url, settings.topology()) as lot:
        return [one async for one in lot.look()]


def _chosen(found: "list[ParkedBody]", keys: Sequence[str], *, everything: bool) -> "list[ParkedBody]":
    if everything:
        return found
    if unknown := set(keys) - {one.key for one in found}:
        raise click.ClickException(f"Not parked: {', '.join(sorted(unknown))}. See: parked list")
    return [one for one in found if one.key in keys]


def _summary(one: "ParkedBody") -> dict[str, Any]:
    times = [event.accepted_at.ToDatetime(UTC) for event in one.events if event.HasField("accepted_at")]
    return {
        "key": one.key,
        "events": len(one.events),
        "kinds": sorted({event.WhichOneof("body") or "unknown" for event in one.events}),
        "message_ids": [message_id for event in one.events if (message_id := message_id_of(event))],
        "age_s": int((datetime.now(UTC) - min(times)).total_seconds()) if times else None,
        "attempts": one.delivery.attempt,
        "cause": one.delivery.cause or one.unreadable,
    }


def message_id_of(event: "Event") -> str:
    """The message that an event tells of; empty where it tells of something else."""
    match event.WhichOneof("body"):
        case "message_accepted":
            return event.message_accepted.message.message_id
        case "message_edited":
            return event.message_edited.message.message_id
        case "message_removed":
            return event.message_removed.message_id
        case "message_judged":
            return event.message_judged.message_id
        case _:
            return ""


COMMANDS = (parked,)
