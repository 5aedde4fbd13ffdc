"""The command `migrate`: indexes and queues, before services of a new version start."""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mesh.amqp import Topology
    from mesh.mailbox.driver import Driver


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What became of one part: `shard-0` … or `queues`."""

    part: str
    ok: bool
    detail: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: a list of objects, at the end.")
def migrate(as_json: bool) -> None:
    """Lay indexes on every shard and declare the queues. Safe to run again, and beside running services.

    Reads MONGO_SHARDS and AMQP_URL as the services do. Exit status 1 when a part could not be migrated: the
    others are; run it again once the cause is gone.
    """
    from mesh.amqp.settings import QueueSettings
    from mesh.settings import CommonSettings, MongoSettings, load

    class Settings(CommonSettings, MongoSettings, QueueSettings):
        """What a migration can be told."""

    settings = load(Settings, "migrate")
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # what fails is told once, by us
    steps = asyncio.run(
        _collect(
            _steps(settings.mongo_shards, settings.mesh_mongo_driver, settings.amqp_url, settings.topology()),
            tell=_ignore if as_json else _print,
        )
    )
    if as_json:
        click.echo(json.dumps([asdict(step) for step in steps], indent=2))
    sys.exit(0 if all(step.ok for step in steps) else 1)


async def _steps(
    shards: tuple[str, ...], driver: "Driver", amqp_url: str, topology: "Topology"
) -> AsyncIterator[Step]:
    from mesh.amqp.migrate import migrate as migrate_queues
    from mesh.errors import MessengerError
    from mesh.mailbox.migrate import migrate as migrate_shards
    from mesh.mailbox.schema import VERSION

    async for done in migrate_shards(shards, driver):
        detail = done.error.detail if done.error else _change(done.before, VERSION)
        yield Step(part=f"shard-{done.shard}", ok=done.error is None, detail=detail)
    try:
        await migrate_queues(amqp_url, topology)
    except MessengerError as error:
        yield Step(part="queues", ok=False, detail=error.detail)
    else:
        count = len(topology.queues())
        yield Step(part="queues", ok=True, detail=f"{count} queues are declared")


def _change(before: int, after: int) -> str:
    return f"schema {after}" if before == after else f"schema {before} → {after}"


async def _collect(steps: AsyncIterator[Step], tell: Callable[[Step], None]) -> list[Step]:
    done = []
    async for step in steps:
        tell(step)
        done.append(step)
    return done


def _print(step: Step) -> None:
    mark = click.style("done  ", fg="green") if step.ok else click.style("failed", fg="red")
    click.echo(f"{mark} {step.part:10} {step.detail}")


def _ignore(step: Step) -> None:
    """Programs are told at the end."""


COMMANDS = (migrate,)
