"""Where the operator's commands find the servers, and how their failures are told."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mesh.amqp.settings import QueueSettings
from mesh.settings import CommonSettings, MongoSettings, RedisSettings, load

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table

    from mesh.mailbox.sharded import Sharded

Result = TypeVar("Result")
Shards = TypeVar("Shards", bound="Sharded")


NAMES = ("MONGO_SHARDS", "AMQP_URL", "REDIS_URLS")

UNBOUNDED = 400
"""Columns of what is printed to no terminal."""


class Places(CommonSettings, MongoSettings, QueueSettings, RedisSettings):
    """What an operator's command can be told."""

    @asynccontextmanager
    async def shards(self, kind: "type[Shards]") -> "AsyncIterator[Shards]":
        """A view of all shards for a command's own use."""
        view = kind(self.mongo_shards, driver=self.mesh_mongo_driver)
        try:
            yield view
        finally:
            await view.aclose()


def places() -> Places:
    """The servers that the environment names; for those that it does not, the local stack's."""
    absent = [name for name in ("MONGO_SHARDS", "AMQP_URL", "REDIS_URLS") if not os.environ.get(name)]
    local = _local() if absent else {}
    return load(Places, "mesh", **{name.lower(): local[name] for name in absent})


def _local() -> Mapping[str, str]:
    from mesh.stack import Stack, StackSettings

    return Stack(StackSettings()).env()


def operate(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs a command's work; what fails is told in one line that names the cure, with exit status 1."""
    import logging

    from mesh.errors import MessengerError

    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # what fails is told once, by us
    try:
        return asyncio.run(work)
    except MessengerError as error:
        raise click.ClickException(
            f"{error.detail} Look at the servers (make status), or at the addresses in MONGO_SHARDS, AMQP_URL"
            " and REDIS_URLS."
        ) from None


def make_table(*headers: str) -> "Table":
    """A table whose cells are broken where a terminal is narrow, and never cut: ids are to be copied."""
    from rich.table import Column, Table

    return Table(*(Column(header, overflow="fold") for header in headers), box=None, pad_edge=False)


def print_parts(*parts: "Table | str") -> None:
    """Prints tables and marked-up text; as wide as they are where no terminal bounds them."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=UNBOUNDED)
    for part in parts:
        console.print(part)


def show_json(value: object) -> None:
    """Prints JSON for programs; times in RFC 3339."""
    click.echo(json.dumps(value, default=datetime.isoformat, indent=2, ensure_ascii=False))


def progress_bar() -> "Progress":
    """A progress bar on standard error, so that a command's output stays clean; none without a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip


JSON = click.option("--json", "as_json", is_flag=True, help="For programs: JSON instead of a table.")
