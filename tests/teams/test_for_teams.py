"""docs/for-teams.md shows what is run here, and nothing else."""

import re
from pathlib import Path

import pytest

from deploy.services import SERVICES
from mesh.cli import main

PAGE = Path("docs/for-teams.md").read_text()
BLOCKS = re.findall(r"^```(\S*) ?(\S*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("language", "file", "text"), BLOCKS, ids=[block[1] for block in BLOCKS])
def test_every_block_is_a_piece_of_an_example(language: str, file: str, text: str) -> None:
    """A block names a file of this folder and stands in it, word for word."""
    assert language in {"python", "protobuf", "sh"}
    assert file.startswith("tests/teams/")
    assert text in Path(file).read_text()


def test_blocks_are_seen() -> None:
    """The page has blocks, and as many as fences that open one."""
    assert len(BLOCKS) >= 10
    assert len(BLOCKS) == PAGE.count("\n```") / 2


def test_settings_are_real() -> None:
    """Each variable that the page names is a setting, and each command of ours is one."""
    fields = {name.upper() for settings in SERVICES.values() for name in settings.model_fields}
    prose = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    codes = {
        "UNAVAILABLE",
        "PERMISSION_DENIED",
        "CALLER_NOT_ALLOWED",
        "USER_NOT_PROVEN",
        "DECISION_UNCHECKED",
    }
    named = set(re.findall(r"`([A-Z][A-Z_]{3,})`", prose)) - codes
    assert named <= fields
    assert set(re.findall(r"-m mesh (\w+)", prose)) <= set(main.commands)
