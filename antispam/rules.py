"""The own rules as one checker. It remembers its verdicts, so that a redelivered message counts once."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from antispam.verdict import PASS, Candidate, Verdict, merge, reject, unchecked

log = structlog.get_logger()

REMEMBERED = 20_000
"""Messages whose verdict is kept."""

STRIDE = 16
"""Candidates judged between two looks at what else the process has to do."""


class Rule(Protocol):
    """One pure rule.

    Attributes:
        name: in verdicts and logs.
    """

    name: str

    def check(self, candidate: Candidate, now: float) -> str:
        """Why the message is spam, in UPPER_SNAKE; empty where it is not.

        Args:
            candidate: the message.
            now: seconds on a monotonic clock; never goes back.
        """


class Rules:
    """Applies rules to messages.

    Args:
        rules: in order; the first that rejects is named in the verdict.
        clock: the time at which a candidate counts: seconds, monotonic. By default when it is judged.
    """

    name = "rules"

    def __init__(self, rules: Sequence[Rule], *, clock: Callable[[Candidate], float] | None = None) -> None:
        self._rules = rules
        self._clock = clock or (lambda _: time.monotonic())
        self._verdicts: OrderedDict[tuple[str, int], Verdict] = OrderedDict()

    async def check(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """One verdict a candidate. Cancelling it loses nothing: what was judged is remembered."""
        verdicts = []
        for n, candidate in enumerate(candidates, 1):
            verdicts.append(self._remembered(candidate))
            if n % STRIDE == 0:
                await asyncio.sleep(0)
        return verdicts

    def _remembered(self, candidate: Candidate) -> Verdict:
        # An edit has its message's id and another text.
        key = (candidate.message_id, hash(candidate.text))
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = self._verdicts[key] = self._judge(candidate)
            if len(self._verdicts) > REMEMBERED:
                self._verdicts.popitem(last=False)
        return verdict

    def _judge(self, candidate: Candidate) -> Verdict:
        now = self._clock(candidate)
        # Every rule sees every message, also one that another rule rejects: they count.
        return merge([self._apply(rule, candidate, now) for rule in self._rules])

    def _apply(self, rule: Rule, candidate: Candidate, now: float) -> Verdict:
        try:
            reason = rule.check(candidate, now)
        except Exception:  # a broken rule must not stop the mail
            log.exception("rule failed", rule=rule.name, message_id=candidate.message_id)
            return unchecked(rule.name, "CHECKER_FAILED")
        return reject(rule.name, reason) if reason else PASS


def time_of_sending() -> Callable[[Candidate], float]:
    """A clock for what is judged late, perhaps all at once: the pace of its sending counts."""
    latest = 0.0

    def clock(candidate: Candidate) -> float:
        nonlocal latest
        latest = max(latest, candidate.created_at / 1000)
        return latest

    return clock
