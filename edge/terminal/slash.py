"""What is typed after a slash. Pure."""

import shlex
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command: its name without the slash, and what stands behind it."""

    name: str
    rest: str = ""

    @property
    def words(self) -> list[str]:
        """What stands behind it, word by word; quotes keep words together."""
        try:
            return shlex.split(self.rest)
        except ValueError:  # a quote that does not end
            return self.rest.split()


COMMANDS = {
    "open": ("/open PERSON [ITEM]", "open a chat with a person, about an item"),
    "search": ("/search WORDS", "search in all chats; with a chat open, in it: /find"),
    "find": ("/find WORDS", "search in this chat"),
    "edit": ("/edit [TEXT]", "change your last message, or the selected one"),
    "delete": ("/delete [all]", "delete the selected message, or your last one, for you or for all"),
    "block": ("/block", "take no more messages from this person"),
    "unblock": ("/unblock", "take them again"),
    "retry": ("/retry", "send again what was not sent"),
    "discard": ("/discard", "throw away what was not sent"),
    "help": ("/help", "keys and commands"),
    "quit": ("/quit", "leave"),
}
"""How each is written, and what it does."""


def parse(text: str) -> Command | str:
    """A command, or the text to send: two slashes at the beginning stand for one."""
    if text.startswith("//"):
        return text[1:]
    if not text.startswith("/"):
        return text
    name, _, rest = text[1:].partition(" ")
    return Command(name=name.lower(), rest=rest.strip())


def matching(text: str) -> list[tuple[str, str]]:
    """The commands that begin as what is being typed, with what they do."""
    if not text.startswith("/") or text.startswith("//") or "\n" in text:
        return []
    name, _, rest = text[1:].partition(" ")
    if rest or text.endswith(" "):
        return [COMMANDS[name]] if name in COMMANDS else []
    return [told for command, told in COMMANDS.items() if command.startswith(name.lower())]
