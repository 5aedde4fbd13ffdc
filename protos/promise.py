"""Holds the protos against what is promised: `promised.binpb`, an image that only `make promise` writes.

    promise.py check    by make check: nothing promised may be gone, nothing may be unpromised
    promise.py renew    by make promise: takes the protos as they are; a break needs its changelog

An image in the tree, and not a commit: a shallow clone has no history to compare with.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMAGE = ROOT / "protos/gen/messenger/descriptors.binpb"
PROMISED = ROOT / "protos/promised.binpb"
CHANGELOG = ROOT / "CHANGELOG.md"
SECTION = "### Breaking"

BROKEN = f"""\
Somebody relies on what is gone. Put it back: deprecate it, and add beside it. Where it must go: say so in
{CHANGELOG.name}, {SECTION}, by its package, and make promise."""

UNPROMISED = "The protos have what is not promised yet. From now on it is: make promise, and commit."


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """What is gone or has changed: the proto file and buf's sentence."""

    file: str
    text: str

    @property
    def package(self) -> str:
        """The proto package, e.g. `messenger.dbapi.v1`: files stand in its folder."""
        return str(Path(self.file).parent).replace("/", ".")

    def __str__(self) -> str:
        return f"{self.file}: {self.text}"


def buf(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Runs the buf beside the interpreter."""
    command = [Path(sys.executable).with_name("buf"), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603  # our own words


def broken(image: Path, against: Path) -> list[Break]:
    """What `against` has and `image` broke."""
    config = ("--config", ROOT / "protos/buf.yaml", "--error-format", "json")
    result = buf("breaking", image, "--against", against, *config)
    if result.returncode not in (0, 100):  # 100: there are breaks
        sys.exit(result.stderr)
    return [_break(json.loads(line)) for line in result.stdout.splitlines()]


def _break(told: dict[str, str]) -> Break:
    text = told["message"]
    named = re.search(r'"(\S+\.proto)"', text)  # of a file that is gone only the sentence tells
    return Break(file=told.get("path") or (named[1] if named else "?"), text=text)


def told_breaks(changelog: str) -> str:
    """The section on breaks of what is not released yet; empty where there is none."""
    _, _, unreleased = changelog.partition("## Unreleased")
    _, _, section = re.split(r"^## ", unreleased, maxsplit=1, flags=re.MULTILINE)[0].partition(SECTION)
    return re.split(r"^### ", section, maxsplit=1, flags=re.MULTILINE)[0]


def check(image: Path = IMAGE, promised: Path = PROMISED) -> list[str]:
    """What keeps the protos from being what is promised; empty for nothing."""
    if breaks := broken(image, promised):
        return [*map(str, breaks), BROKEN]
    return [UNPROMISED] if broken(promised, image) else []


def renew(image: Path = IMAGE, promised: Path = PROMISED, changelog: Path = CHANGELOG) -> list[str]:
    """Promises the protos as they are; what keeps it from doing so, empty for nothing."""
    told = told_breaks(changelog.read_text())
    breaks = broken(image, promised) if promised.exists() else []
    if untold := [one for one in breaks if one.package not in told]:
        packages = ", ".join(sorted({one.package for one in untold}))
        return [*map(str, untold), f"{changelog.name} says nothing of it: {SECTION} must name {packages}."]
    result = buf("build", image, "--exclude-source-info", "-o", promised)
    return [result.stderr] if result.returncode else []


def main(command: str) -> None:
    """Does what the command says; exits with status 1 and the reasons where that is not possible."""
    if reasons := {"check": check, "renew": renew}[command]():
        sys.exit("\n".join(reasons))


if __name__ == "__main__":
    main(sys.argv[1])
