"""The command `audit`: looks whether the mailboxes hold what was promised."""

import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from mesh.cli.places import JSON, make_table, operate, places, print_parts, progress_bar, show_json

if TYPE_CHECKING:
    from mesh.mailbox.differences import Finding


UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Since(click.DateTime):
    """A time, or how long ago that was."""

    name = "time or age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """An aware time, for `90m`, `3h` and `2d` as well."""
        if isinstance(value, str) and value[:-1].isdigit() and value[-1] in UNITS:
            return datetime.now(UTC) - timedelta(**{UNITS[value[-1]]: int(value[:-1])})
        time: datetime = super().convert(value, param, ctx)
        return time.replace(tzinfo=UTC)


@click.command()
@click.option(
    "--since", type=Since(), help="Only chats that changed since then (UTC), or so long ago: 90m, 3h, 2d."
)
@click.option(
    "--repair",
    is_flag=True,
    help="Fold and count chats anew, and announce again what is missing at a receiver.",
)
@click.option(
    "--settled",
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="What is younger than that may still be on its way, up the retry ladder too.",
)
@JSON
def audit(since: datetime | None, repair: bool, settled: float, as_json: bool) -> None:
    """Compare both copies of every message, and every chat with the fold of its log.

    Beside running services, too. Exit status 1 when something is wrong that was not repaired. What is missing
    at a receiver may also be parked: see `message MESSAGE_ID`.
    """
    chats, messages, findings = operate(_audit(since, timedelta(seconds=settled), repair=repair))
    if as_json:
        listed = [asdict(finding) for finding in findings]
        show_json({"chats": chats, "messages": messages, "findings": listed})
    else:
        _print(findings)
        click.echo(f"{chats} chats, {messages} copies of messages, {len(findings)} findings.")
    sys.exit(0 if all(finding.repaired for finding in findings) else 1)


async def _audit(
    since: datetime | None, settled: timedelta, *, repair: bool
) -> "tuple[int, int, list[Finding]]":
    from mesh.mailbox.audit import Auditor

    chats, messages, findings = 0, 0, list["Finding"]()
    async with places().shards(Auditor) as auditor:
        with progress_bar() as bar:
            task = bar.add_task("chats", total=await auditor.count(since))
            async for audited in auditor.audit(since, datetime.now(UTC) - settled, repair=repair):
                bar.advance(task)
                if audited is not None:
                    chats += 1
                    messages += audited.messages
                    findings += audited.findings
    return chats, messages, findings


def _print(findings: "list[Finding]") -> None:
    if not findings:
        return
    table = make_table("what", "mailbox", "chat", "message", "detail", "")
    for finding in findings:
        state = "[green]repaired[/]" if finding.repaired else "[red]left[/]"
        table.add_row(
            finding.fault, finding.owner, finding.chat_id, finding.message_id, finding.detail, state
        )
    print_parts(table)


COMMANDS = (audit,)
