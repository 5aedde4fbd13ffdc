"""Commands of the local stack: up, run, down, status, logs, restart, token, assertion, guest."""

import functools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import click

if TYPE_CHECKING:
    from mesh.stack import Stack, StackSettings, Status
    from mesh.stack.plan import Program

P = ParamSpec("P")
DAY_S = 86_400
READY_MADE_USERS = ("alice", "bob")


def _settings() -> "StackSettings":
    from pydantic import ValidationError

    from mesh.stack.settings import StackSettings

    try:
        return StackSettings()
    except ValidationError as error:
        lines = [f"{str(each['loc'][0]).upper()}: {each['msg']}" for each in error.errors()]
        raise click.ClickException("\n".join(lines)) from None


def _with_stack(command: "Callable[Concatenate[Stack, P], None]") -> Callable[P, None]:
    """Hands the command the stack of the environment's settings; its errors are printed as they are."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        from mesh.stack import Stack, StackError

        try:
            command(Stack(_settings()), *args, **kwargs)
        except StackError as error:
            raise click.ClickException(str(error)) from None

    return run


SERVERS_ONLY = click.option(
    "--servers", "servers_only", is_flag=True, help="Only the servers: MongoDB, Redis, RabbitMQ."
)


@click.command()
@SERVERS_ONLY
@_with_stack
def up(stack: "Stack", servers_only: bool) -> None:
    """Start everything in the background; return when all is ready."""
    _bring_up(stack, servers_only=servers_only, attached=False)
    _greet(stack, servers_only=servers_only, stop_with="make down")


@click.command()
@SERVERS_ONLY
@_with_stack
def run(stack: "Stack", servers_only: bool) -> None:
    """Start everything and stay; Ctrl-C stops it. Data stays in STACK_DIR."""
    if stack.alive():
        raise click.ClickException("The stack runs already. Look at it: make status. Stop it: make down")
    with _interrupt_on_sigterm():
        try:
            _bring_up(stack, servers_only=servers_only, attached=True)
            _greet(stack, servers_only=servers_only, stop_with="Ctrl-C")
            if status := stack.wait():
                log = stack.log("supervisord")
                raise click.ClickException(f"supervisord ended with status {status}. Look into {log}")
        except KeyboardInterrupt:
            click.echo("\nStopping …")
        finally:
            stack.down()
    click.echo("Stopped.")


@contextmanager
def _interrupt_on_sigterm() -> Iterator[None]:
    """SIGTERM stops the stack as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _bring_up(stack: "Stack", *, servers_only: bool, attached: bool) -> None:
    from rich.console import Console

    from mesh.stack import Stage

    console, begin, waiting = Console(highlight=False), time.monotonic(), set[str]()
    with console.status("Starting …") as line:

        def show(program: "Program", event: str) -> None:
            if event == "starting":
                waiting.add(program.name)
            else:
                waiting.discard(program.name)
                console.print(f"[green]ready[/] {time.monotonic() - begin:5.1f} s  {program.name}")
            line.update(f"Waiting for {', '.join(sorted(waiting))} …")

        stack.up(show, until=Stage.SERVERS if servers_only else Stage.PROXY, attached=attached)


def _greet(stack: "Stack", *, servers_only: bool, stop_with: str) -> None:
    if servers_only:
        click.echo(f"\nThe servers run. Stop them: {stop_with}")
        return
    click.secho(f"\nThe messenger runs: {stack.settings.messenger_url}/", bold=True)
    click.echo("Open it in two windows, and sign in as two people who talk to each other:\n")
    for user in READY_MADE_USERS:
        click.echo(f"  {user}: {_token(stack.settings, user, DAY_S)}")
    click.echo("\nMore people:  .venv/bin/python -m mesh token USER")
    click.echo(
        f"Look around:  make status, make logs. Stop: {stop_with}; data stays in {stack.settings.stack_dir}/."
    )


@click.command()
@_with_stack
def down(stack: "Stack") -> None:
    """Stop everything; data stays."""
    if not stack.alive():
        click.echo("The stack does not run.")
        return
    stack.down()
    click.echo("Stopped.")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: a list of objects.")
@_with_stack
def status(stack: "Stack", as_json: bool) -> None:
    """Show every program. Exit status 1 when one is not ready."""
    rows = stack.status()
    if as_json:
        click.echo(json.dumps([_as_json(row) for row in rows], indent=2))
    else:
        _print_table(rows)
    sys.exit(0 if all(row.ready for row in rows) else 1)


def _as_json(row: "Status") -> dict[str, Any]:
    return {
        "name": row.name, "state": row.state, "reason": row.reason, "ready": row.ready,
        "pid": row.pid, "uptime_s": round(row.uptime_s, 1), "address": row.address,
    }  # fmt: skip


def _print_table(rows: "list[Status]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("program", "state", "pid", "uptime", "address", box=None)
    for row in rows:
        state = f"[green]{row.state}[/]" if row.ready else f"[red]{row.state}[/] {row.reason}"
        uptime = str(timedelta(seconds=int(row.uptime_s))) if row.pid else ""
        table.add_row(row.name, state, str(row.pid or ""), uptime, row.address)
    Console().print(table)


@click.command()
@click.argument("program", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come.")
@click.option("-n", "--lines", default=50, show_default=True, help="How many lines of each log.")
def logs(program: str | None, follow: bool, lines: int) -> None:
    """Print the end of PROGRAM's log, or of all logs."""
    directory = _settings().directory / "logs"
    found = sorted(directory.glob(f"{program or '*'}.log"))
    if not found:
        names = ", ".join(sorted(path.stem for path in directory.glob("*.log"))) or "none yet; start: make up"
        raise click.ClickException(f"No log of {program or 'any program'} in {directory}. There are: {names}")
    # tail(1) knows rotation, many files and pipes better than we would.
    arguments = ["tail", f"--lines={lines}", *(["-F"] if follow else []), *map(str, found)]
    os.execvp("tail", arguments)  # noqa: S606, S607 - no shell; the user's own tail


@click.command()
@click.argument("program")
@_with_stack
def restart(stack: "Stack", program: str) -> None:
    """Stop and start PROGRAM; return when it is ready."""
    stack.restart(program)
    click.echo(f"{program} is ready.")


@click.command()
@click.argument("user")
@click.option("--ttl", default=DAY_S, show_default=True, metavar="SECONDS", help="How long it is good for.")
def token(user: str, ttl: int) -> None:
    """Print a token for USER, signed with the local stack's secret."""
    click.echo(_token(_settings(), user, ttl))


def _token(settings: "StackSettings", user: str, ttl_s: int) -> str:
    from mesh import tokens

    try:
        return tokens.issue(
            user, secret=settings.secret(), now=datetime.now(UTC), ttl=timedelta(seconds=ttl_s)
        )
    except ValueError as error:
        raise click.ClickException(str(error)) from None


@click.command()
@click.argument("user")
@click.option("--ttl", default=300, show_default=True, metavar="SECONDS", help="How long it is good for.")
def assertion(user: str, ttl: int) -> None:
    """Print an assertion for USER, signed with the local stack's key.

    Calls of services bring it in the gRPC metadata x-user-assertion.
    """
    from mesh.assertion import Signer
    from mesh.stack import plan

    try:
        click.echo(Signer(plan.assertion_keys(_settings())[0]).sign(user, ttl))
    except OSError:
        raise click.ClickException("This stack has no key yet. Start it first: make up") from None


@click.command()
@click.argument("service")
@_with_stack
def guest(stack: "Stack", service: str) -> None:
    """Let SERVICE, one of your own, take part in the local stack; print the environment that it needs.

    It gets a certificate of that name. Who may call what is another matter: EXTRA_CALLERS.
    """
    for name, value in stack.guest(service).items():
        click.echo(f"{name}={value}")


COMMANDS = (up, run, down, status, logs, restart, token, assertion, guest)
