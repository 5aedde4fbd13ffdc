"""What `make check` says when the protos leave what is promised, and how it is renewed; with the real buf."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from protos.promise import IMAGE, PROMISED, broken, check, renew, told_breaks

TYPES = "messenger/common/v1/types.proto"
MAILBOX = "messenger/dbapi/v1/dbapi.proto"
CHECKED = "messenger/antispam/v1/antispam.proto"

Change = Callable[[Any], None]


def by_name(parts: Any, name: str) -> Any:
    """One of the parts of a descriptor."""
    return next(part for part in parts if part.name == name)


def drop_field(files: Any) -> None:
    """`Message.text` is no more."""
    message = by_name(by_name(files, TYPES).message_type, "Message")
    message.field.remove(by_name(message.field, "text"))


def rename_field(files: Any) -> None:
    """`Chat.unread` has another name."""
    by_name(by_name(by_name(files, TYPES).message_type, "Chat").field, "unread").name = "unread_count"


def retype_field(files: Any) -> None:
    """`Message.seq` is a text."""
    by_name(by_name(by_name(files, TYPES).message_type, "Message").field, "seq").type = 9


def drop_method(files: Any) -> None:
    """`MailboxService.GetChat` is no more."""
    service = by_name(by_name(files, MAILBOX).service, "MailboxService")
    service.method.remove(by_name(service.method, "GetChat"))


def drop_enum_value(files: Any) -> None:
    """`DECISION_UNCHECKED` is no more."""
    enum = by_name(by_name(files, CHECKED).enum_type, "Decision")
    enum.value.remove(by_name(enum.value, "DECISION_UNCHECKED"))


def drop_file(files: Any) -> None:
    """Nothing of the profiles is there."""
    files.remove(by_name(files, "messenger/profiles/v1/profiles.proto"))


def add_field(files: Any) -> None:
    """`Message` has a field more."""
    by_name(by_name(files, TYPES).message_type, "Message").field.add(name="mood", number=99, type=9, label=1)


def add_method(files: Any) -> None:
    """`MailboxService` has a method more."""
    service = by_name(by_name(files, MAILBOX).service, "MailboxService")
    service.method.add(
        name="Look",
        input_type=".messenger.dbapi.v1.GetChatRequest",
        output_type=".messenger.dbapi.v1.GetChatResponse",
    )


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[Change], Path]:
    """The image of the protos after a change."""

    def make(change: Change) -> Path:
        image = FileDescriptorSet.FromString(IMAGE.read_bytes())
        change(image.file)
        path = tmp_path / "changed.binpb"
        path.write_bytes(image.SerializeToString())
        return path

    return make


@pytest.fixture
def promised(tmp_path: Path) -> Path:
    """A promise of the test's own, as the committed one."""
    path = tmp_path / "promised.binpb"
    path.write_bytes(PROMISED.read_bytes())
    return path


def test_the_protos_are_what_is_promised() -> None:
    """The tree's own protos break nothing and hold nothing unpromised; else the text says what to do."""
    assert check() == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (drop_field, f'{TYPES}: Previously present field "5" with name "text" on message "Message" was del'),
        (rename_field, 'changed name from "unread" to "unread_count"'),
        (retype_field, 'changed type from "uint32" to "string"'),
        (drop_method, 'Previously present RPC "GetChat" on service "MailboxService" was deleted.'),
        (drop_enum_value, 'Previously present enum value "3" on enum "Decision" was deleted.'),
        (drop_file, 'messenger/profiles/v1/profiles.proto: Previously present file'),
    ],
)  # fmt: skip
def test_a_break_is_refused(changed: Callable[[Change], Path], change: Change, text: str) -> None:
    """Whatever callers may rely on: its end is named, and so is the way out."""
    *breaks, cure = check(changed(change))
    assert any(text in one for one in breaks), breaks
    assert "make promise" in cure


@pytest.mark.parametrize("change", [add_field, add_method])
def test_an_addition_is_to_be_promised(
    changed: Callable[[Change], Path], promised: Path, change: Change
) -> None:
    """What is added breaks nothing, is asked to be promised, and is guarded from then on."""
    image = changed(change)
    assert broken(image, promised) == []
    [told] = check(image, promised)
    assert "make promise" in told
    assert renew(image, promised) == []
    assert check(image, promised) == []
    assert len(check(IMAGE, promised)) == 2


CHANGELOG = """# Changelog

## Unreleased

### Added

- messenger.antispam.v1: a thing.

### Breaking

- `messenger.common.v1`: `Message.text` is gone.

### Fixed

- messenger.items.v1: a thing.

## 0.1.0

### Breaking

- messenger.profiles.v1: a thing.
"""


def test_only_breaks_that_are_not_released_count() -> None:
    """Neither another section nor another release tells of a break."""
    told = told_breaks(CHANGELOG)
    assert "messenger.common.v1" in told
    assert not [part for part in ("antispam", "items", "profiles") if part in told]
    assert told_breaks("# Changelog\n\n## 0.1.0\n\n### Breaking\n\n- old") == ""


def test_a_break_is_told_before_it_is_promised(
    changed: Callable[[Change], Path], promised: Path, tmp_path: Path
) -> None:
    """A promise is not renewed over a break that the changelog does not name; then it is, and holds."""
    changelog, image = tmp_path / "CHANGELOG.md", changed(drop_field)
    changelog.write_text("## Unreleased\n")
    before = promised.read_bytes()
    *_, reason = renew(image, promised, changelog)
    assert reason == "CHANGELOG.md says nothing of it: ### Breaking must name messenger.common.v1."
    assert promised.read_bytes() == before
    changelog.write_text(CHANGELOG)
    assert renew(image, promised, changelog) == []
    assert check(image, promised) == []


def test_make_check_asks() -> None:
    """`make check` holds the protos against the promise."""
    _, _, recipe = Path("Makefile").read_text().partition("\ncheck: ")
    assert "/python protos/promise.py check\n" in recipe.partition("\n\n")[0]
