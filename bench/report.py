"""Results: as one JSON object, as a file with the machine that they come from, as a table."""

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.stats import Figures, median, spread
from mesh.stack import StackError, StackSettings, binaries

RESULTS = Path(__file__).parent / "results"
LIBRARIES = (
    "aio-pika", "grpcio", "hiredis", "motor", "msgspec", "pamqp", "protobuf", "protovalidate", "pymongo",
    "redis", "uvloop", "websockets",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """How a scenario is run.

    Attributes:
        runs: measured runs.
        seconds: of each run.
        warm_up: seconds before each.
        told: hears what is going on.
    """

    runs: int
    seconds: float
    warm_up: float
    told: Callable[[str], None]

    @property
    def length(self) -> dict[str, Any]:
        """What `measure.runs` wants to know."""
        return {"count": self.runs, "seconds": self.seconds, "warm_up": self.warm_up, "told": self.told}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a scenario gave.

    Attributes:
        scenario: its name.
        settings: what it was told.
        figures: medians of the runs.
        spread: least and greatest of the headlines over the runs.
        runs: each run's figures.
    """

    scenario: str
    settings: Mapping[str, Any]
    figures: Figures
    spread: Mapping[str, Sequence[float]]
    runs: Sequence[Figures]

    @classmethod
    def of(
        cls, scenario: str, runs: Sequence[Figures], *, settings: Mapping[str, Any], headlines: Sequence[str]
    ) -> "Result":
        """The result of several runs; `headlines` are the figures whose spread is told."""
        return cls(
            scenario=scenario,
            settings=settings,
            figures=median(runs),
            spread={name: spread([flat(run) for run in runs], name) for name in headlines},
            runs=runs,
        )

    @property
    def name(self) -> str:
        """The scenario and what sets it apart from others of its kind."""
        apart = [
            f"{key}-{value:g}" for key, value in self.settings.items() if key in ("shards", "rate") and value
        ]
        return "-".join((self.scenario, *apart))

    def line(self) -> str:
        """One JSON object in one line."""
        told = {"scenario": self.scenario, **self.figures, "spread": self.spread, "settings": self.settings}
        return json.dumps(told)

    def save(self, directory: Path, load: float) -> Path:
        """Writes <name>.json, with where the figures come from.

        Args:
            directory: is made where there is none.
            load: the machine's load before the scenario.
        """
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.name}.json"
        whole: Figures = {"command": command(), "at": datetime.now(UTC).isoformat(timespec="seconds")}
        whole |= {"load_before": load, "machine": machine(), "versions": versions(), **asdict(self)}
        path.write_text(json.dumps(whole, indent=1) + "\n")
        return path

    def show(self, console: Console) -> None:
        """A table of the medians and the runs."""
        runs = [flat(run) for run in self.runs]
        table = Table("", "median", *(f"run {n}" for n in range(1, len(runs) + 1)), title=self.name)
        for name, value in flat(self.figures).items():
            table.add_row(name, _shown(value), *(_shown(run.get(name, "")) for run in runs))
        console.print(table)


def flat(figures: Mapping[str, Any], under: str = "") -> dict[str, Any]:
    """Figures without nesting: `cpu_us_per_message.total`."""
    out: dict[str, Any] = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{under}{name}.")
        else:
            out[f"{under}{name}"] = value
    return out


def _shown(value: Any) -> str:  # a figure
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.2f}" if value >= 1 else f"{value:.4g}"


def command() -> str:
    """The command that is running."""
    return " ".join(("python -m bench", *sys.argv[1:]))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    """Of Python, the servers, and the libraries on a message's path."""
    found = {"python": platform.python_version()}
    found |= {library: metadata.version(library) for library in LIBRARIES}
    try:
        programs = binaries.find(StackSettings())
    except StackError:
        return found
    for name, program in (("mongod", programs.mongod), ("redis-server", programs.redis)):
        found[name] = _version([program, "--version"])
    found["nginx"] = _version([programs.nginx, "-v"])
    found["rabbitmq"] = _rabbitmq()
    return found


def _version(arguments: list[str]) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)  # noqa: S603  # our binaries
    number = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
    return number[0] if number else ""


def _rabbitmq() -> str:
    # Its own command line tool takes seconds to say it.
    for path in Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"):
        return path.name.partition("-")[2]
    return ""
