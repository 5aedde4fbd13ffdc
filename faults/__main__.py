"""The command line: python -m faults."""

import random
import sys
from pathlib import Path

import click
from rich.console import Console

from faults.plan import KINDS
from faults.run import Options, run


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seed", type=int, help="Repeats a run's plan; a new one by default.")
@click.option("--minutes", default=1.5, show_default=True, help="How long faults go on.")
@click.option("--only", multiple=True, type=click.Choice(list(KINDS)), help="Only faults of these kinds.")
@click.option("--small", is_flag=True, help="One member, one broker, one of each service: starts faster.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".cache/faults"),
    show_default=True,
    help="For history, plot and logs; replaced by each run.",
)
@click.option("--port-base", default=0, help="First of 200 ports; free ones by default.")
def main(
    seed: int | None, minutes: float, only: tuple[str, ...], small: bool, directory: Path, port_base: int
) -> None:
    """Break everything under load and decide whether the promises held. Exit status 1 where one did not.

    Starts servers and services of its own on loopback and stops them in the end. The last line is JSON.
    """
    seed = random.SystemRandom().randrange(10_000) if seed is None else seed
    console = Console(stderr=True)
    console.print(f"seed {seed}")
    options = Options(
        seed=seed,
        seconds=minutes * 60,
        only=only,
        small=small,
        directory=directory.absolute(),
        port_base=port_base,
    )
    sys.exit(0 if run(options, console) else 1)


if __name__ == "__main__":
    main()
