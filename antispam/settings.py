"""Settings of antispam, from the environment."""

from pydantic import Field

from antispam.checkers.blocklist import GTUBE
from mesh.amqp.settings import QueueSettings
from mesh.settings import CommonSettings, Words


class Settings(CommonSettings, QueueSettings):
    """What antispam can be told."""

    antispam_checkers: Words = Field(default=(), description="Addresses of teams' own CheckerServices.")
    antispam_budget_ms: int = Field(
        default=1_000, gt=0, description="Time from a message's publishing until it goes on, judged or not."
    )
    antispam_checkers_ms: int = Field(
        default=150, gt=0, description="Time that all checkers together may take at once, within the budget."
    )
    antispam_late_budget_ms: int = Field(
        default=2_000, gt=0, description="Time for judging at once what passed unchecked."
    )
    flood_messages: int = Field(default=1_000, gt=0, description="Messages of one sender in a window.")
    flood_peers: int = Field(default=60, gt=0, description="Receivers of one sender in a window.")
    flood_window: float = Field(default=10.0, gt=0, description="The window, in seconds.")
    duplicate_receivers: int = Field(
        default=8, gt=1, description="Receivers of nearly the same text from one sender; the last is spared."
    )
    duplicate_length: int = Field(
        default=40, gt=0, description="Characters that make a text worth comparing."
    )
    duplicate_window: float = Field(default=60.0, gt=0, description="Seconds that a text is remembered.")
    blocked_domains: Words = Field(default=(), description="Domains that no message may name.")
    links_max: int = Field(default=5, ge=0, description="Different links in one message.")
    contacts_max: int = Field(default=5, ge=0, description="Different e-mails and phones in one message.")
    blocked_senders: Words = Field(default=(), description="User ids whose messages are rejected.")
    blocked_words: Words = Field(
        default=(GTUBE,), description="Words that no message may hold; the GTUBE test string by default."
    )
