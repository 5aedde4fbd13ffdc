"""How things are said on a terminal: times, days, people, texts that do no harm. Pure; time is handed in."""

from datetime import date, datetime, timedelta

from edge.terminal.shapes import Presence

# What steers a terminal or turns its text around is shown, not obeyed: texts come from anybody.
_SHOWN = (
    {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
    | {0x7F: "\u2421", ord("\t"): "    "}
    | dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")
    | dict.fromkeys([0x200E, 0x200F, 0x061C, 0xFEFF], "")
)


def safe(text: str) -> str:
    """The text as it may be printed; line breaks stay."""
    return text.replace("\r\n", "\n").translate(_SHOWN)


def one_line(text: str) -> str:
    """The text in one line."""
    return " ".join(safe(text).split())


def clock(at: datetime) -> str:
    """`14:05`, where the reader is."""
    return at.astimezone().strftime("%H:%M")


def day(at: datetime, now: datetime) -> str:
    """`Today`, `Yesterday`, `Monday`, `3 March`, `3 March 2025`."""
    on, today = _date(at), _date(now)
    if on == today:
        return "Today"
    if on == today - timedelta(days=1):
        return "Yesterday"
    if timedelta(0) < today - on < timedelta(days=7):
        return on.strftime("%A")
    return f"{on.day} {on:%B}" if on.year == today.year else f"{on.day} {on:%B %Y}"


def when(at: datetime, now: datetime) -> str:
    """The clock today, else the day, as short as may be: for lists."""
    on, today = _date(at), _date(now)
    if on == today:
        return clock(at)
    if timedelta(0) < today - on < timedelta(days=7):
        return on.strftime("%a")
    return f"{on.day} {on:%b}" if on.year == today.year else on.isoformat()


def presence(one: Presence | None, now: datetime) -> str:
    """`online`, `last seen …`, or nothing where nobody knows."""
    if one is None:
        return ""
    if one.online:
        return "online"
    return f"last seen {ago(one.last_seen, now)}" if one.last_seen else ""


def ago(at: datetime, now: datetime) -> str:
    """`just now`, `5 min ago`, `at 14:05`, `yesterday at 14:05`, `on 3 March`."""
    minutes = int((now - at).total_seconds() // 60)
    if minutes < 1:
        return "just now"
    if minutes < 60:
        return f"{minutes} min ago"
    on = day(at, now)
    if on == "Today":
        return f"at {clock(at)}"
    return f"yesterday at {clock(at)}" if on == "Yesterday" else f"on {on}"


def is_same_day(one: datetime, other: datetime) -> bool:
    """Whether two times fall on one day, where the reader is."""
    return _date(one) == _date(other)


def _date(at: datetime) -> date:
    return at.astimezone().date()
