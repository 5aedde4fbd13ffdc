"""People who write to each other on several devices, read, come and go: the load, and what is noted of it."""

import asyncio
import contextlib
import itertools
import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from faults.client import KINDS, Device, RpcError, UnknownOutcome
from faults.history import Recorder

# The words of GTUBE, which the blocklist holds by default.
SPAM = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
WORDS = ("red", "bike", "still", "for", "sale", "price", "today", "pick", "up", "street", "please", "thanks")

MOST_LATELY = 30
"""What is edited and deleted is one of so many: a change that is close behind its message may overtake it."""

LONG_AWAY = 0.2
"""How often a device that goes away stays so for longer than its events are kept, while others go on."""

SPAM_EDITS = 0.15
"""How often an edit makes spam of a message."""

REACH_SECONDS = 3.0
"""A message that is pushed within so long shows that the way is whole."""


class Person:
    """One person, their devices and chats.

    Args:
        user: the id.
        devices: at least one; the first is always there but for faults, the last goes away and comes back.
        chance: what they do next.
    """

    def __init__(self, user: str, devices: list[Device], chance: random.Random) -> None:
        self.user = user
        self.devices = devices
        self.chats: dict[str, str] = {}
        self._chance = chance
        self._keys = itertools.count(1)
        self._known: dict[str, list[str]] = defaultdict(list)
        self._acked: list[dict[str, Any]] = []
        self._awaited: dict[str, asyncio.Event] = {}
        self._sendings: set[asyncio.Task[None]] = set()
        self._coming_back: set[asyncio.Task[None]] = set()

    def heard(self, method: str, params: dict[str, Any]) -> None:
        """Notes which messages there are; told by the first device."""
        if method == "message.new":
            message = params["message"]
            self._known[message["chat_id"]].append(message["message_id"])
            if (awaited := self._awaited.get(message["text"])) and message["sender_id"] != self.user:
                awaited.set()

    async def meet(self, peer: "Person") -> None:
        """Opens the chat with a peer."""
        opened = await self.devices[0].insist("chats.open", peer_id=peer.user)
        self.chats[peer.user] = opened["chat"]["chat_id"]

    async def reaches(self, peer: "Person") -> bool:
        """Whether a message to the peer is pushed to its first device within `REACH_SECONDS`."""
        text = self._text()
        arrived = peer._awaited[text] = asyncio.Event()
        sending = asyncio.create_task(self._send(self._message(self.chats[peer.user], text)))
        self._sendings.add(sending)
        sending.add_done_callback(self._sent)
        try:
            async with asyncio.timeout(REACH_SECONDS):
                await arrived.wait()
        except TimeoutError:
            return False
        finally:
            del peer._awaited[text]
        return True

    def _sent(self, sending: asyncio.Task[None]) -> None:
        self._sendings.discard(sending)
        if not sending.cancelled():
            sending.exception()  # a send that was refused is in the history

    async def live(self, over: asyncio.Event, pace: float) -> None:
        """Does this and that until it is over; what was begun is finished."""
        actions: list[tuple[int, Callable[[], Any]]] = [
            (50, self._write), (8, self._burst), (4, self._spam), (16, self._read), (6, self._receive),
            (6, self._repeat), (2, self._clash), (4, self._look), (4, self._edit), (2, self._delete),
            (2, self._hide), (4, self._go_and_come),
        ]  # fmt: skip
        weights = [weight for weight, _ in actions]
        while not over.is_set():
            (_, action) = self._chance.choices(actions, weights)[0]
            with contextlib.suppress(RpcError, UnknownOutcome):
                await action()
            await asyncio.sleep(pace * self._chance.uniform(0.3, 1.7))

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────

    def _some_chat(self) -> str:
        return self._chance.choice(list(self.chats.values()))

    def _device(self) -> Device:
        return self._chance.choice([device for device in self.devices if not device.away])

    def _text(self) -> str:
        words = " ".join(self._chance.choices(WORDS, k=self._chance.randint(2, 12)))
        return f"{words} {self._chance.getrandbits(64):x}"

    def _message(self, chat_id: str, text: str) -> dict[str, Any]:
        return {"chat_id": chat_id, "text": text, "client_msg_id": f"{self.user}-{next(self._keys)}"}

    async def _send(self, message: dict[str, Any]) -> None:
        sent = await self._device().insist("messages.send", **message)
        self._acked.append(message | {"message_id": sent["message"]["message_id"]})

    async def _write(self) -> None:
        await self._send(self._message(self._some_chat(), self._text()))

    async def _burst(self) -> None:
        """Several at once into one chat: some from one device, some from others."""
        chat_id = self._some_chat()
        await asyncio.gather(*(self._send(self._message(chat_id, self._text())) for _ in range(4)))

    async def _spam(self) -> None:
        await self._send(self._message(self._some_chat(), f"{self._text()} {SPAM}"))

    async def _repeat(self) -> None:
        """Sends again what was sent, from whichever device, twice at once: the same message."""
        if self._acked:
            acked = self._chance.choice(self._acked)
            message = {name: acked[name] for name in ("chat_id", "text", "client_msg_id")}
            await asyncio.gather(
                *(self._device().call("messages.send", **message) for _ in range(2)), return_exceptions=True
            )

    async def _clash(self) -> None:
        """Other content under a key that was used."""
        if self._acked:
            acked = self._chance.choice(self._acked)
            clash = {
                "chat_id": acked["chat_id"],
                "client_msg_id": acked["client_msg_id"],
                "text": self._text(),
            }
            await self._device().call("messages.send", **clash)

    async def _edit(self) -> None:
        if self._acked:
            acked = self._chance.choice(self._acked[-MOST_LATELY:])
            text = self._text() + (f" {SPAM}" if self._chance.random() < SPAM_EDITS else "")
            await self._device().insist(
                "messages.edit", chat_id=acked["chat_id"], message_id=acked["message_id"], text=text
            )

    async def _delete(self) -> None:
        if self._acked:
            acked = self._chance.choice(self._acked[-MOST_LATELY:])
            await self._device().insist(
                "messages.delete", chat_id=acked["chat_id"], message_id=acked["message_id"], for_all=True
            )

    async def _hide(self) -> None:
        """Takes a message, whoever sent it, away from the own copy alone."""
        chat_id = self._some_chat()
        if known := self._known[chat_id]:
            message_id = self._chance.choice(known[-MOST_LATELY:])
            await self._device().insist("messages.delete", chat_id=chat_id, message_id=message_id)

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _read(self) -> None:
        chat_id = self._some_chat()
        if known := self._known[chat_id]:
            up_to = known[-1] if self._chance.random() < 0.6 else self._chance.choice(known)
            await self._device().insist("chats.mark_read", chat_id=chat_id, up_to=up_to)

    async def _receive(self) -> None:
        chat_id = self._some_chat()
        if known := self._known[chat_id]:
            await self._device().insist("chats.mark_delivered", chat_id=chat_id, up_to=max(known))

    async def _look(self) -> None:
        device, chat_id = self._device(), self._some_chat()
        await device.call("chats.get", chat_id=chat_id)
        await device.call("messages.history", chat_id=chat_id, limit=100)

    async def _go_and_come(self) -> None:
        """The last device goes away, now and then for long, and is brought up to date when it comes back."""
        device = self.devices[-1]
        if len(self.devices) > 1 and not device.away:
            await device.leave()
            if self._chance.random() < LONG_AWAY:
                self._coming_back.add(asyncio.create_task(self._come_back(device)))
            else:
                await asyncio.sleep(self._chance.uniform(0.5, 4))
                await device.start()

    async def _come_back(self, device: Device) -> None:
        await asyncio.sleep(self._chance.uniform(20, 40))
        if device.away:
            await device.start()

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────

    async def read_for_the_last_time(self) -> None:
        """Marks each chat as read up to somewhere, when no message is on its way any more.

        Not behind the pointer, where a mark changes nothing: what came late, below it, would stay unread.
        """
        for chat_id in self.chats.values():
            if known := self._known[chat_id]:
                found = await self.devices[0].insist("chats.get", chat_id=chat_id)
                pointer = found["chat"].get("read_up_to", "")
                up_to = self._chance.choice(sorted({one for one in known if one >= pointer} | {max(known)}))
                await self.devices[0].insist("chats.mark_read", chat_id=chat_id, up_to=up_to)

    async def look_afresh(self, recorder: Recorder) -> None:
        """Writes down what a new device would see: all chats, all messages."""
        device, chats, messages = self.devices[0], [], {}
        cursor = ""
        while True:
            page = await device.insist("chats.list", limit=100, **({"cursor": cursor} if cursor else {}))
            chats += page.get("chats", [])
            if not (cursor := page.get("next_cursor", "")):
                break
        for chat in chats:
            messages[chat["chat_id"]] = await self._history(device, chat["chat_id"])
        recorder.write("fresh", user=self.user, chats=chats, messages=messages)

    async def _history(self, device: Device, chat_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            before = {"before": found[0]["message_id"]} if found else {}
            page = await device.insist("messages.history", chat_id=chat_id, limit=100, **before)
            found = page.get("messages", []) + found
            if not page.get("has_more"):
                return found


def people(
    count: int, url: str, token: Callable[[str], str], recorder: Recorder, run: str, chance: random.Random
) -> list[Person]:
    """Makes people with one to three devices of all kinds; a socket first.

    Args:
        count: how many.
        url: the messenger's address.
        token: makes a token for a user.
        recorder: writes all down.
        run: distinguishes their ids from other runs'.
        chance: decides.
    """
    made: list[Person] = []
    for index in range(count):
        user, own = f"p{index}.{run}", random.Random(chance.random())  # noqa: S311  # chance that can be repeated
        person = Person(user, [], own)
        kinds = ["socket", *chance.sample(["socket", "poll", "stream"], k=index % 3)]
        for number, kind in enumerate(kinds):
            heard = person.heard if number == 0 else _unheard
            name = f"{kind}-{number}"
            person.devices.append(KINDS[kind](url, user, name, token(user), recorder, heard, own))
        made.append(person)
    return made


async def all_reach_all(everyone: list[Person], seconds: float) -> bool:
    """Waits until each person reaches the next one; whether that was before so many seconds."""
    over = asyncio.get_running_loop().time() + seconds
    waiting = list(itertools.pairwise([*everyone, everyone[0]]))
    while waiting and asyncio.get_running_loop().time() < over:
        reached = await asyncio.gather(*(person.reaches(peer) for person, peer in waiting))
        waiting = [pair for pair, good in zip(waiting, reached, strict=True) if not good]
    return not waiting


def _unheard(_method: str, _params: dict[str, Any]) -> None:
    """Only one device of a person tells them what there is."""


async def introduce(everyone: list[Person]) -> None:
    """Lets each person meet the next three: a ring of chats, with one-way and two-way talk."""
    await asyncio.gather(*(device.start() for person in everyone for device in person.devices))
    await asyncio.gather(
        *(
            person.meet(peer)
            for index, person in enumerate(everyone)
            for peer in {everyone[(index + step) % len(everyone)] for step in (-3, -2, -1, 1, 2, 3)}
            - {person}
        )
    )
