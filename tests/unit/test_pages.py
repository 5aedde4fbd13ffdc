"""The pages that say which test shows what name tests that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"`(test_\w+)`")
TEST = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


def found_in(directory: str) -> set[str]:
    """Names of the modules of tests there, and of their tests."""
    modules = list((ROOT / directory).rglob("test_*.py"))
    names = {module.stem for module in modules}
    for module in modules:
        names.update(TEST.findall(module.read_text(encoding="utf-8")))
    return names


def named_by(page: str) -> set[str]:
    """The tests that a page names."""
    return set(NAME.findall((ROOT / "docs" / page).read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", ["contract.md", "deadlines.md", "guarantees.md"])
def test_each_test_that_a_page_names_is_there(page: str) -> None:
    """Each sentence points at tests or modules of tests that exist, so that a reader finds them."""
    named = named_by(page)
    assert len(named) > 10
    assert named - found_in("tests") == set()


def test_each_test_of_the_contract_is_named() -> None:
    """No test of the conformance suite is without its sentence; two modules are named as a whole."""
    whole = {"test_contract_jsonrpc.py", "test_client.py"}
    files = [path for path in (ROOT / "tests/contract").glob("test_*.py") if path.name not in whole]
    tests = {name for path in files for name in TEST.findall(path.read_text(encoding="utf-8"))}
    assert tests - named_by("contract.md") == set()
