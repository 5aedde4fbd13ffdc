"""Two people on different shards, all that they can ask, and whether all of it works."""

import asyncio
import uuid
from dataclasses import dataclass
from typing import Any

from mesh.assertion import Signer
from tests.outages.support import Outcome, Person, Teams, failed, missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Alice and Bob in a chat about an item; `messages` are two of each for changes, by user."""

    alice: Person
    bob: Person
    chat_id: str
    messages: dict[str, list[str]]
    teams: Teams
    signer: Signer

    def vouch(self) -> str:
        """The edge's word that a call is alice's."""
        return self.signer.sign(self.alice.user_id)

    def questions(self, person: Person) -> list[tuple[str, dict[str, Any]]]:
        """Every method once, with good params."""
        peer = self.bob if person is self.alice else self.alice
        edited, deleted = self.messages[person.user_id]
        chat = {"chat_id": self.chat_id}
        text = uuid.uuid4().hex
        return [
            ("session.ping", {}),
            ("rpc.discover", {}),
            ("chats.open", {"peer_id": peer.user_id, "item_id": "bike"}),
            ("chats.list", {}),
            ("chats.get", chat),
            ("chats.mark_read", chat | {"up_to": edited}),
            ("chats.mark_delivered", chat | {"up_to": edited}),
            ("chats.typing", chat),
            ("messages.send", chat | {"text": text, "client_msg_id": text}),
            ("messages.history", chat),
            ("messages.edit", chat | {"message_id": edited, "text": text}),
            ("messages.delete", chat | {"message_id": deleted}),
            ("messages.search", {"query": "hello"}),
            ("users.block", {"user_id": "mallory"}),
            ("users.unblock", {"user_id": "mallory"}),
            ("users.blocked", {}),
            ("presence.get", {"user_ids": [peer.user_id]}),
        ]

    async def ask_everything(self, times: int = 1) -> tuple[list[Outcome], list[Outcome]]:
        """All methods so many times, all at once: what becomes of alice's, and of bob's."""
        alice, bob = await asyncio.gather(*(self._ask(person, times) for person in (self.alice, self.bob)))
        return alice, bob

    async def _ask(self, person: Person, times: int) -> list[Outcome]:
        asked = [question for _ in range(times) for question in self.questions(person)]
        return await asyncio.gather(*(person.ask(method, **params) for method, params in asked))

    async def say_something(self) -> None:
        """Alice writes to bob, who is pushed it."""
        text = uuid.uuid4().hex
        await self.alice.call("messages.send", chat_id=self.chat_id, text=text, client_msg_id=text)
        await self.bob.hears(text)

    async def is_whole(self) -> bool:
        """Whether everything works, with nothing missing, and a message arrives by push."""
        alice, bob = await self.ask_everything()
        if failed([*alice, *bob]) or missing([*alice, *bob]):
            return False
        await self.say_something()
        return True

    async def reads_go_around(self) -> bool:
        """Whether the edge reads chats and history without the aggregator."""
        chats = await self.alice.ask("chats.list")
        history = await self.alice.ask("messages.history", chat_id=self.chat_id)
        return missing([chats]) == {"aggregator"} and bool(history.result.get("messages"))
