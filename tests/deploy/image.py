"""Does what the Dockerfile's build stage does, in a clean directory instead of a container."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.manifests import ROOT

STAGE = re.compile(r"^FROM \S+ AS (\w+)$")
DESTINATION = "/opt/messenger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a build made.

    Attributes:
        path: stands for /opt/messenger of the image.
        source: stands for the build stage's /src.
    """

    path: Path
    source: Path

    @property
    def packages(self) -> Path:
        """Where its packages are."""
        return self.path / f"lib/python3.{sys.version_info.minor}/site-packages"

    def run(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Runs its Python to the end, with nothing in the environment but what is given."""
        command = [str(self.path / "bin/python"), *arguments]
        return subprocess.run(command, env=environment, cwd="/", check=False, capture_output=True, text=True)  # noqa: S603


def instructions(stage: str) -> list[tuple[str, str]]:
    """The instructions of one stage of the Dockerfile: (name, rest)."""
    current, found = "", []
    for line in (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines():
        if match := STAGE.match(line):
            current = match[1]
        elif current == stage and line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            found.append((name, rest))
    return found


def context() -> set[str]:
    """Files that reach a build: tracked or new ones of the tree, less what .dockerignore leaves out."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\n")  # fmt: skip
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    return {name for name in listed if any(name == each or name.startswith(f"{each}/") for each in kept)}


def build(directory: Path, **arguments: str) -> Environment:
    """Runs the build stage with these build arguments (in capitals there)."""
    source, destination = directory / "src", directory / "opt"
    source.mkdir()
    values, files = {key.upper(): value for key, value in arguments.items()}, context()
    for name, rest in instructions("build"):
        text = re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], rest) if name != "ARG" else rest
        if name == "COPY":
            *origins, target = text.split()
            for origin in origins:
                copy(files, origin, source, target)
        elif name == "RUN":
            command = text.replace(DESTINATION, str(destination))
            told = ["/usr/bin/nice", "/bin/sh", "-ec", command]  # tests go on beside it
            subprocess.run(told, cwd=source, check=True, env=_outside())  # noqa: S603
        elif name == "ARG" and "=" in text:
            key, _, default = text.partition("=")
            values.setdefault(key, default)
    return Environment(path=destination, source=source)


def copy(files: set[str], origin: str, source: Path, target: str) -> None:
    """COPY: a file of the context into the target directory, a directory's content as the target."""
    found = {name for name in files if name == origin or name.startswith(f"{origin}/")}
    assert found, f"COPY {origin}: .dockerignore lets nothing of it through"
    for name in found:
        to = source / target / (Path(name).name if name == origin else Path(name).relative_to(origin))
        to.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, to)


def _outside() -> dict[str, str]:
    """The environment without this project's own .venv."""
    path = [part for part in os.environ["PATH"].split(os.pathsep) if not part.startswith(str(ROOT))]
    python = Path(sys.base_prefix) / "bin"
    kept = {key: value for key, value in os.environ.items() if key not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    return kept | {"PATH": os.pathsep.join([str(python), *path])}
