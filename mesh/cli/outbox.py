"""The commands `outbox …`: events between a write and the queue's confirm."""

import asyncio
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from mesh.cli.places import JSON, make_table, operate, places, print_parts, progress_bar, show_json

if TYPE_CHECKING:
    from mesh.mailbox.inspection import Waiting

LOOK_EVERY_S = 0.5


@click.group()
def outbox() -> None:
    """Events that the queue has not confirmed yet: status, flush."""


@outbox.command()
@JSON
def status(as_json: bool) -> None:
    """Show how much waits on each shard, and since when."""
    rows = operate(_waiting())
    if as_json:
        show_json([asdict(row) for row in rows])
        return
    table = make_table("shard", "kind", "waiting", "oldest")
    for row in rows:
        if row.count:
            table.add_row(str(row.shard), row.kind, str(row.count), _age(row.oldest))
    if not any(row.count for row in rows):
        click.echo("Every outbox is empty.")
        return
    print_parts(table)


@outbox.command()
@click.option("--wait", default=30.0, show_default=True, metavar="SECONDS", help="How long to watch at most.")
@JSON
def flush(wait: float, as_json: bool) -> None:
    """Have dbapi's relays publish all that waits now; watch until it is gone. Exit status 1 if it is not."""
    left = operate(_flush(wait))
    if as_json:
        show_json({"left": left})
    elif left:
        click.echo(
            f"{left} still wait. Is dbapi running, and RabbitMQ? See: make status, outbox status", err=True
        )
    else:
        click.echo("Every outbox is empty.")
    sys.exit(1 if left else 0)


async def _waiting() -> "list[Waiting]":
    from mesh.mailbox.inspection import Inspector

    async with places().shards(Inspector) as inspector:
        return await inspector.waiting()


async def _flush(wait: float) -> int:
    from mesh.mailbox.inspection import Inspector

    deadline = time.monotonic() + wait
    async with places().shards(Inspector) as inspector:
        await inspector.hurry()
        total = left = await _count(inspector)
        with progress_bar() as bar:
            task = bar.add_task("published", total=total)
            while left and time.monotonic() < deadline:
                await asyncio.sleep(LOOK_EVERY_S)
                left = await _count(inspector)
                bar.update(task, completed=max(0, total - left))
    return left


async def _count(inspector: "Inspector") -> int:
    return sum(row.count for row in await inspector.waiting())


def _age(since: datetime | None) -> str:
    return f"{(datetime.now(UTC) - since).total_seconds():.0f} s" if since else ""


if TYPE_CHECKING:
    from mesh.mailbox.inspection import Inspector

COMMANDS = (outbox,)
