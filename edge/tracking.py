"""What a client knows of its events and chats: seen event ids, held and missing seqs, pauses. Pure.

The twin of web/gaps.js.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

REMEMBERED = 2_000
"""Event ids that are remembered against handing an event on twice."""


class Seen:
    """A set of texts that forgets its oldest ones beyond `limit`."""

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._texts: OrderedDict[str, None] = OrderedDict()

    def add(self, text: str) -> bool:
        """Whether the text is new."""
        if text in self._texts:
            return False
        self._texts[text] = None
        if len(self._texts) > self._limit:
            self._texts.popitem(last=False)
        return True


@dataclass(slots=True)
class _Chat:
    """Held without a hole up to `head`, and `ahead` beyond it; `top` is known to exist."""

    head: int
    top: int
    ahead: set[int] = field(default_factory=set)


class Gaps:
    """Which messages of each chat are held, by seq. What lies before the first one heard of is no gap."""

    def __init__(self) -> None:
        self._chats: dict[str, _Chat] = {}

    def hold(self, chat_id: str, seq: int) -> None:
        """Notes that a message is held."""
        chat = self.expect(chat_id, seq)
        if seq > chat.head:
            chat.ahead.add(seq)
        while chat.head + 1 in chat.ahead:
            chat.head += 1
            chat.ahead.discard(chat.head)

    def hold_of_known(self, chat_id: str, seq: int) -> None:
        """The same, of a chat that is known; what is read of another begins nothing."""
        if chat_id in self._chats:
            self.hold(chat_id, seq)

    def expect(self, chat_id: str, seq: int) -> _Chat:
        """Notes that messages go up to this one, held or not; of a new chat all of them count as held."""
        chat = self._chats.setdefault(chat_id, _Chat(head=seq, top=seq))
        chat.top = max(chat.top, seq)
        return chat

    def missing(self, chat_id: str) -> set[int]:
        """Seqs that exist and are not held."""
        chat = self._chats.get(chat_id)
        return set(range(chat.head + 1, chat.top + 1)) - chat.ahead if chat else set()

    def incomplete(self) -> list[str]:
        """Chats of which something is missing."""
        return [chat_id for chat_id in self._chats if self.missing(chat_id)]

    def forget(self, chat_id: str = "") -> None:
        """Begins anew with one chat, or with all."""
        if chat_id:
            self._chats.pop(chat_id, None)
        else:
            self._chats.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential backoff with full jitter, so that the clients of a dead server do not come back as one.

    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

    Attributes:
        first: seconds that the first pause takes at most.
        most: seconds that any takes at most.
    """

    first: float = 1.0
    most: float = 30.0

    def pause(self, failures: int, chance: float) -> float:
        """Seconds to wait after so many failures before this one; `chance` is a random number in 0..1."""
        return chance * min(self.most, self.first * 2.0 ** min(failures, 30))
