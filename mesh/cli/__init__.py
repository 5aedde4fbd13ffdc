"""The command line tool of developers and operators. Commands import what they need when they run."""

import click

from mesh.cli import audit, migrate, outbox, parked, passport, stack


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run the messenger on this machine and look after it."""


for command in (
    *stack.COMMANDS,
    *migrate.COMMANDS,
    *passport.COMMANDS,
    *outbox.COMMANDS,
    *parked.COMMANDS,
    *audit.COMMANDS,
):
    main.add_command(command)
