"""The page of guarantees names tests that are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"`(test_\w+)`")
TEST = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


def test_each_test_that_the_guarantees_name_is_there() -> None:
    """Each promise points at tests or modules of tests that exist, so that a reader finds them."""
    modules = list((ROOT / "tests").rglob("test_*.py"))
    there = {module.stem for module in modules}
    for module in modules:
        there.update(TEST.findall(module.read_text(encoding="utf-8")))
    named = set(NAME.findall((ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")))
    assert len(named) > 30
    assert named - there == set()
