"""The command line tool of developers and operators. Commands import what they need when they run."""

import click

from mesh.cli import migrate, stack


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run the messenger on this machine and look after it."""


for command in (*stack.COMMANDS, *migrate.COMMANDS):
    main.add_command(command)
