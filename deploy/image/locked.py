"""Prints the part of requirements.lock that an image needs, hashes and all; run by build.sh.

    locked.py runtime            what the services import
    locked.py runtime debug      and the extra `debug`
    locked.py build              what builds the wheel

A line's `# via` names who needs it, so the part is what can be reached from pyproject.toml's own lists.
Standard library only: in an image nothing else is there yet.
"""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"[A-Za-z0-9._-]+")


def wanted(pyproject: dict[str, Any], groups: list[str]) -> set[str]:
    """Normalised names of what pyproject.toml lists under `runtime`, `build` and the extras."""
    project, system = pyproject["project"], pyproject["build-system"]
    lists = {"runtime": project["dependencies"], "build": system["requires"]} | project[
        "optional-dependencies"
    ]
    if unknown := set(groups) - set(lists):
        raise SystemExit(f"locked.py: no such part: {', '.join(unknown)}. There are: {', '.join(lists)}")
    return {normalised(line) for group in groups for line in lists[group]}


def normalised(requirement: str) -> str:
    """The name of a requirement, as the lock writes it (PEP 503)."""
    found = NAME.match(requirement)
    assert found  # noqa: S101  # a requirement begins with its name
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def entries(lock: str) -> dict[str, tuple[str, set[str]]]:
    """By name: the entry's text, and who needs it."""
    found = {}
    for text in re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]:
        _, _, via = text.partition("# via")
        found[normalised(text)] = (
            text,
            {normalised(name) for name in re.findall(r"[A-Za-z0-9][\w.-]+", via)},
        )
    return found


def closure(lock: dict[str, tuple[str, set[str]]], names: set[str]) -> set[str]:
    """The names and all that they need."""
    while more := {name for name, (_, via) in lock.items() if via & names} - names:
        names = names | more
    return names


def main(groups: list[str]) -> None:
    """Prints the entries of the groups."""
    lock = entries((ROOT / "requirements.lock").read_text())
    names = closure(lock, wanted(tomllib.loads((ROOT / "pyproject.toml").read_text()), groups))
    if missing := names - set(lock):
        raise SystemExit(
            f"locked.py: not in requirements.lock: {', '.join(sorted(missing))}. Compile it anew."
        )
    sys.stdout.write("".join(lock[name][0] for name in sorted(names)))


if __name__ == "__main__":
    main(sys.argv[1:])
