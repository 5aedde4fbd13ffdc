"""Commands: one a scenario, and `all`, which is `make bench`. Each shows a table, saves it, and plots it."""

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from bench.report import RESULTS, Context, Result

P = ParamSpec("P")

BUSY = 1.0
"""Load before a scenario from which on its figures are not to be trusted."""

RUNS, SECONDS, WARM_UP = 3, 8.0, 3.0


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def main() -> None:
    """Measure what the messenger costs and reaches on this machine."""


def scenario(work: Callable[Concatenate[Context, P], Result]) -> Callable[..., None]:
    """Makes a command of a scenario: with runs and their length, progress, and every form of its result."""

    @click.option("--runs", default=RUNS, type=click.IntRange(1), help="Measured runs.")
    @click.option("--seconds", default=SECONDS, help="Length of each run.")
    @click.option("--warm-up", default=WARM_UP, help="Seconds before each run that do not count.")
    @click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object on standard output.")
    @click.option("--results", default=RESULTS, type=click.Path(path_type=Path), help="Where files go.")
    @functools.wraps(work)
    def run(
        runs: int,
        seconds: float,
        warm_up: float,
        as_json: bool,
        results: Path,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # the stack goes down as at Ctrl-C
        load, console = os.getloadavg()[0], Console(stderr=as_json, highlight=False)
        columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(work.__name__)
            told = functools.partial(_tell, progress, task, work.__name__)
            context = Context(runs=runs, seconds=seconds, warm_up=warm_up, told=told)
            result = work(context, *args, **kwargs)
        _finish(result, load, console, results, as_json=as_json)

    return run


def _tell(progress: Progress, task: TaskID, name: str, what: str) -> None:
    progress.update(task, description=f"{name}: {what}")


def _finish(result: Result, load: float, console: Console, results: Path, *, as_json: bool) -> None:
    from bench import plots  # late: it takes a second

    path = result.save(results, load)
    result.show(console)
    console.print(f"{path} and {plots.draw(result, path.with_suffix('.png'))}")
    if load > BUSY:
        console.print(f"[yellow]The machine was busy before (load {load:.1f}): take no figure from this.[/]")
    if as_json:
        click.echo(result.line())


SHARDS = click.option("--shards", default=1, type=click.IntRange(1, 8), help="MongoDB replica sets.")
GENERATORS = click.option(
    "--generators", default=1, type=click.IntRange(1, 8), help="Processes that make the load."
)


@main.command()
@SHARDS
@click.option("--pairs", default=128, help="Pairs of people; each has one message under way.")
@click.option("--rate", default=0.0, help="Messages a second in all, for latencies; 0 for as many as go.")
@GENERATORS
@scenario
def send(context: Context, shards: int, pairs: int, rate: float, generators: int) -> Result:
    """Messages to the receiver's socket, durable on both sides."""
    from bench.scenarios import send

    return send.send(context, shards=shards, pairs=pairs, rate=rate, generators=generators)


@main.command()
@SHARDS
@click.option("--users", default=32, help="People; each has one call under way.")
@GENERATORS
@scenario
def read(context: Context, shards: int, users: int, generators: int) -> Result:
    """Pages of chats with profiles, and pages of messages."""
    from bench.scenarios import read

    return read.read(context, shards=shards, users=users, generators=generators)


@main.command()
@click.option("--count", default=15_000, help="Connections in the end; each run adds its part.")
@click.option("--workers", default=2, type=click.IntRange(2, 13), help="Edge processes.")
@GENERATORS
@SHARDS
@scenario
def connections(context: Context, count: int, workers: int, generators: int, shards: int) -> Result:
    """Sessions that are held: memory of each, and how soon they are pushed to."""
    from bench.scenarios import connections

    return connections.connections(
        context, count=count, workers=workers, generators=generators, shards=shards
    )


@main.command()
@click.option("--users", default=1_000, help="Sessions that are pushed to.")
@click.option("--window", default=256, help="Events under way at once.")
@GENERATORS
@scenario
def notify(context: Context, users: int, window: int, generators: int) -> Result:
    """Events from the bus to sockets."""
    from bench.scenarios import notify

    return notify.notify(context, users=users, window=window, generators=generators)


@main.command()
@scenario
def hop(context: Context) -> Result:
    """One internal call: gRPC as it comes, as the mesh has it, and batched."""
    from bench.scenarios import hop

    return hop.hop(context)


@main.command()
@click.option("--calls", default=20_000, help="Calls a round.")
@scenario
def transcode(context: Context, calls: int) -> Result:
    """JSON to protobuf and back, against protobuf's own json_format."""
    from bench.scenarios import transcode

    return transcode.transcode(context, calls=calls)


@main.command()
@click.option("--clients", default=19_000, help="Of the edge that dies; it has a descriptor for each.")
@click.option("--workers", default=3, type=click.IntRange(2, 13), help="Edge processes.")
@click.option("--generators", default=2, type=click.IntRange(1, 8), help="Processes that hold the clients.")
@SHARDS
@scenario
def storm(context: Context, clients: int, workers: int, generators: int, shards: int) -> Result:
    """An edge dies, and its clients come back to the others."""
    from bench.scenarios import storm

    return storm.storm(context, clients=clients, workers=workers, generators=generators, shards=shards)


@main.command()
@click.option("--shards", default=8, type=click.IntRange(1, 8), help="MongoDB replica sets.")
@click.option("--workers", default=2, type=click.IntRange(2, 13), help="Edge processes.")
@click.option("--factor", default=0.0, help="Of the original's load; 0 looks for the greatest that is borne.")
@GENERATORS
@scenario
def mix(context: Context, shards: int, workers: int, factor: float, generators: int) -> Result:
    """The original's mix, as much of it as this machine carries."""
    from bench.scenarios import mix

    return mix.mix(context, shards=shards, workers=workers, factor=factor, generators=generators)


@main.command()
@SHARDS
@click.option("--pairs", default=128, help="Pairs of people.")
@click.option("--times", default=4.0, help="Of what is carried that is offered.")
@click.option("--carried", default=0.0, help="Calls a second that are carried; 0 looks for them.")
@click.option("--generators", default=2, type=click.IntRange(1, 8), help="Processes that make the load.")
@scenario
def overload(
    context: Context, shards: int, pairs: int, times: float, carried: float, generators: int
) -> Result:
    """Several times the calls that the stack carries: what is shed, and what still succeeds."""
    from bench.scenarios import overload

    return overload.overload(
        context, shards=shards, pairs=pairs, times=times, carried=carried, generators=generators
    )


SHORT = ("--seconds", "5", "--warm-up", "2")

ALL = (
    ("transcode", "--calls", "5000"),
    ("hop", "--seconds", "9"),
    ("send", "--shards", "1", *SHORT),
    ("send", "--shards", "2", *SHORT),
    ("send", "--shards", "8", "--rate", "117", "--pairs", "32"),
    ("read", *SHORT),
    ("notify", "--seconds", "5"),
    ("connections", "--count", "9000"),
    ("mix", *SHORT),
    ("storm",),
)
"""What `make bench` runs, one after the other."""

TOTAL_S = 870.0
"""Seconds for all of it; what has not begun by then is left out, and what is under way is ended."""


@main.command(name="all")
def everything() -> None:
    """Every scenario: prints one JSON line each. Exit status 1 where one failed or was left out."""
    until = time.monotonic() + TOTAL_S
    failed = [" ".join(arguments) for arguments in ALL if not _run(arguments, until - time.monotonic())]
    if failed:
        raise click.ClickException(f"These failed or did not get their turn: {'; '.join(failed)}")


def _run(arguments: Sequence[str], seconds: float) -> bool:
    """Whether a scenario went well; one that takes longer is told to stop, and cleans up."""
    if seconds <= 0:
        return False
    command = [sys.executable, "-m", "bench", *arguments, "--json"]
    child = subprocess.Popen(command)  # noqa: S603  # ours
    try:
        return child.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        child.terminate()
        child.wait()
