"""Rejects messages of blocked senders and messages that hold a blocked word."""

import re
from collections.abc import Iterable

from antispam.verdict import Candidate

GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
"""The string that every spam filter takes for spam, to try one out: https://spamassassin.apache.org/gtube/."""


class Blocklist:
    """Configured senders and words.

    Args:
        senders: user ids.
        words: words or longer strings without white space; whole words match, in any case.
    """

    name = "blocklist"

    def __init__(self, *, senders: Iterable[str] = (), words: Iterable[str] = (GTUBE,)) -> None:
        self._senders = frozenset(senders)
        alternatives = "|".join(re.escape(word.casefold()) for word in words)
        self._words = re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)") if alternatives else None

    def check(self, candidate: Candidate, now: float) -> str:
        """See Rule."""
        if candidate.sender_id in self._senders:
            return "BLOCKED_SENDER"
        if self._words and self._words.search(candidate.text.casefold()):
            return "BLOCKED_WORD"
        return ""
