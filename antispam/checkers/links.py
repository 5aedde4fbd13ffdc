"""Rejects messages with links to blocked domains, and those that are mostly links or contacts."""

import re
from collections.abc import Iterable

from antispam.verdict import Candidate

# Lookbehinds and possessive quantifiers keep them linear in the length of any text.
_LINK = re.compile(r"(?:https?://|\bwww\.)[^\s<>\"']++")
_DOMAIN = re.compile(r"(?<![\w.-])(?:[\w-]++\.)+[\w-]{2,}+")
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]++@[\w-]++(?:\.[\w-]++)+")
# As written internationally (E.164). Without the plus, dates and order numbers would count as phones.
_PHONE = re.compile(r"\+\d(?:[ .()-]{0,2}\d){9,14}(?!\d)")


class Links:
    """Links and contacts of a message.

    Args:
        blocked_domains: a message that names one of them, or a domain under it, is rejected.
        max_links: different links that one message may hold.
        max_contacts: different e-mail addresses and phone numbers that one message may hold.
    """

    name = "links"

    def __init__(
        self, *, blocked_domains: Iterable[str] = (), max_links: int = 5, max_contacts: int = 5
    ) -> None:
        self._blocked = frozenset(domain.casefold().strip(".") for domain in blocked_domains)
        self._max_links = max_links
        self._max_contacts = max_contacts

    def check(self, candidate: Candidate, now: float) -> str:
        """See Rule."""
        text = candidate.text.casefold()
        if self._blocked and any(self._is_blocked(domain) for domain in _DOMAIN.findall(text)):
            return "BLOCKED_DOMAIN"
        if len(set(_LINK.findall(text))) > self._max_links:
            return "TOO_MANY_LINKS"
        if len({*_EMAIL.findall(text), *_PHONE.findall(text)}) > self._max_contacts:
            return "TOO_MANY_CONTACTS"
        return ""

    def _is_blocked(self, domain: str) -> bool:
        labels = domain.split(".")
        return any(".".join(labels[n:]) in self._blocked for n in range(len(labels) - 1))
