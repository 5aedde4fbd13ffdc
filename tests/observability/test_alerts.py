"""The alert rules: well-formed, tested on made-up series, and each with a runbook."""

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.observability.support import DEPLOY, program

RULES = DEPLOY / "prometheus"
RUNBOOK = Path(__file__).parents[2] / "docs" / "operations.md"


def promtool(*arguments: str) -> None:
    """Runs promtool and shows what it said where it failed."""
    done = subprocess.run((program("promtool"), *arguments), cwd=RULES, capture_output=True, text=True)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_are_well_formed() -> None:
    """The linter of promtool finds nothing wrong with the rules."""
    promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yml")


def test_alerts_fire_when_they_must() -> None:
    """Over made-up series, each alert fires when it must and not before."""
    promtool("test", "rules", "rules_test.yml")


def test_every_alert_is_tested() -> None:
    """No alert is without a case in which it fires."""
    cases = yaml.safe_load((RULES / "rules_test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in cases for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == {rule["alert"] for rule in alerts()}


def test_every_alert_has_a_runbook() -> None:
    """Each alert links to the section of docs/operations.md that speaks of it by its name."""
    parts = re.split(r"^#+ (.+)$", RUNBOOK.read_text(), flags=re.MULTILINE)
    sections = {
        f"docs/operations.md#{re.sub(r'[^a-z0-9 -]', '', heading.lower()).replace(' ', '-')}": text
        for heading, text in zip(parts[1::2], parts[2::2], strict=True)
    }
    for rule in alerts():
        link = rule["annotations"]["runbook"]
        assert f"`{rule['alert']}`" in sections.get(link, ""), f"{link} says nothing of {rule['alert']}"


def alerts() -> list[dict[str, Any]]:
    """Every alert."""
    groups = yaml.safe_load((RULES / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]
