"""How the terminal chat says things: what others write does no harm, times are the reader's, commands."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.terminal import slash, words
from edge.terminal.shapes import Presence
from edge.terminal.slash import Command

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The reader lives two hours east of Greenwich."""
    monkeypatch.setenv("TZ", "EET-2")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@given(st.text())
def test_no_text_steers_the_terminal(text: str) -> None:
    """Nothing of what anybody writes comes out as a control character or turns the text around."""
    forbidden = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
    assert not set(words.one_line(text)) & set(map(chr, forbidden))
    assert not set(words.safe(text)) & set(map(chr, forbidden)) - {"\n"}


def test_what_is_shown_instead() -> None:
    """An escape sequence is seen for what it is; ordinary text of any language stays as it was."""
    assert words.safe("\x1b[31mred\x07\u202eabc") == "␛[31mred␇�abc"
    assert words.safe("a\r\nb\tc") == "a\nb    c"
    for text in ("Grüße", "日本語", "👋🏽", "مرحبا", "line\nline"):
        assert words.safe(text) == text
    assert words.one_line(" a \n b ") == "a b"


def test_days() -> None:
    """Days are the reader's, and nearer ones have names."""
    late = NOON.replace(hour=23)  # one in the morning, there
    assert words.day(late, NOON) == "25 November"
    assert words.day(late, late + timedelta(hours=1)) == "Today"
    assert words.day(NOON, late) == "Yesterday"
    assert words.day(NOON - timedelta(days=3), NOON) == "Saturday"
    assert words.day(NOON - timedelta(days=365), NOON) == "24 November 2025"
    assert [words.when(NOON - timedelta(days=days), NOON) for days in (0, 1, 30, 365)] == [
        "14:00", "Mon", "25 Oct", "2025-11-24",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ago", "said"),
    [
        (timedelta(seconds=5), "just now"),
        (timedelta(minutes=5), "5 min ago"),
        (timedelta(hours=2), "at 12:00"),
        (timedelta(days=1), "yesterday at 14:00"),
        (timedelta(days=60), "on 25 September"),
    ],
)
def test_last_seen(ago: timedelta, said: str) -> None:
    """How long somebody has been away."""
    assert words.presence(Presence(user_id="bob", last_seen=NOON - ago), NOON) == f"last seen {said}"


def test_presence() -> None:
    """Who is there, and of whom nothing is known."""
    assert words.presence(Presence(user_id="bob", online=True), NOON) == "online"
    assert words.presence(Presence(user_id="bob"), NOON) == words.presence(None, NOON) == ""


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("hello", "hello"),
        ("//etc/hosts", "/etc/hosts"),
        ("/open bob red-bike", Command(name="open", rest="bob red-bike")),
        ("/QUIT", Command(name="quit")),
        ("/", Command(name="")),
        ("a /quit", "a /quit"),
    ],
)
def test_commands(typed: str, meant: Command | str) -> None:
    """A slash begins a command, two stand for one."""
    assert slash.parse(typed) == meant


def test_the_words_of_a_command() -> None:
    """Quotes keep words together; one that does not end is a letter like another."""
    assert Command(name="open", rest='bob "red bike"').words == ["bob", "red bike"]
    assert Command(name="open", rest="bob's bike").words == ["bob's", "bike"]


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("/", len(slash.COMMANDS)), ("/e", 1), ("/edit new text", 1), ("/nothing", 0), ("/open ", 1),
        ("//", 0), ("hello", 0), ("", 0),
    ],
)  # fmt: skip
def test_what_a_command_could_become(typed: str, told: int) -> None:
    """While one types, the commands that fit are told."""
    assert len(slash.matching(typed)) == told
