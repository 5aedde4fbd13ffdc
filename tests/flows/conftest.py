"""People on the session's own stack, whose parts these tests stop and start again."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis.asyncio
from click.testing import CliRunner

from mesh import tokens
from mesh.cli import main
from mesh.stack import Stack
from tests.contract.device import Device, open_device


class People:
    """Opens devices on the stack's WebSocket."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.url = stack.settings.messenger_url
        self._suffix = uuid.uuid4().hex[:12]
        self._devices: list[Device] = []

    def name(self, person: str) -> str:
        """A user id that no other test has."""
        return f"{person}-{self._suffix}"

    def token(self, user_id: str, seconds: int = 3600) -> str:
        """A good token, for so long."""
        secret, ttl = self.stack.settings.secret(), timedelta(seconds=seconds)
        return tokens.issue(user_id, secret=secret, now=datetime.now(UTC), ttl=ttl)

    async def connect(self, user_id: str, last_event_id: str = "") -> Device:
        """A device with a session."""
        device = await open_device("ws", self.url, user_id, self.token(user_id), last_event_id)
        self._devices.append(device)
        return device

    async def lose_streams(self) -> None:
        """Has every Redis node lose all that it holds."""
        for url in self.stack.env()["REDIS_URLS"].split():
            async with redis.asyncio.Redis.from_url(url) as node:
                await node.flushall()

    async def close(self) -> None:
        """Ends all devices."""
        for device in self._devices:
            await device.close()


@pytest.fixture
async def people(stack: Stack) -> AsyncIterator[People]:
    """Opens devices; closes them after the test."""
    people = People(stack)
    yield people
    await people.close()


class Talk:
    """A chat of two people."""

    def __init__(self, alice: Device, bob: Device, chat_id: str) -> None:
        self.alice, self.bob, self.chat_id = alice, bob, chat_id

    async def send(self, text: str) -> Any:
        """Sends alice's message; her copy of it."""
        sent = await self.alice.call(
            "messages.send", chat_id=self.chat_id, text=text, client_msg_id=text[:64]
        )
        return sent["message"]

    async def arrives(self, text: str) -> Any:
        """Waits until bob is pushed the message; his copy of it."""
        pushed = await self.bob.next("message.new", lambda params: params["message"]["text"] == text)
        return pushed["message"]

    async def texts(self, who: Device) -> list[str]:
        """The texts that one of them has."""
        history = await who.call("messages.history", chat_id=self.chat_id)
        return [message["text"] for message in history["messages"]]


@pytest.fixture
async def talk(people: People) -> Talk:
    """Alice and Bob, connected, in a fresh chat."""
    alice, bob = [await people.connect(people.name(person)) for person in ("alice", "bob")]
    chat = (await alice.call("chats.open", peer_id=bob.user_id))["chat"]
    return Talk(alice, bob, chat["chat_id"])


Passport = Callable[[str, str], Awaitable[Any]]


@pytest.fixture
def passport(stack: Stack) -> Passport:
    """What `python -m mesh message` says of a message, which it looks for by a user's name."""

    async def look(message_id: str, user_id: str) -> Any:
        arguments = ["message", message_id, "--user", user_id, "--json"]
        result = await asyncio.to_thread(CliRunner().invoke, main, arguments, env=stack.env())
        return json.loads(result.stdout)

    return look


Stopped = Callable[[str], contextlib.AbstractAsyncContextManager[None]]


@pytest.fixture
def stopped(stack: Stack) -> Stopped:
    """Stops a program for a block, and has it ready again after it."""

    @contextlib.asynccontextmanager
    async def stopped(program: str) -> AsyncIterator[None]:
        await asyncio.to_thread(stack.stop, program)
        try:
            yield
        finally:
            await asyncio.to_thread(stack.start, program)

    return stopped
