"""The system that the suite is pointed at, and devices of users that nobody else has.

- A stack of its own: `pytest tests/contract`
- The one that `make up` has started: `pytest tests/contract --url http://127.0.0.1:8000`
- Any: `pytest tests/contract --url https://staging.example --token-command 'issue {user} --seconds {ttl}'`
"""

import asyncio
import itertools
import shlex
import subprocess
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from mesh import tokens
from mesh.stack import Stack, StackSettings
from tests.contract.device import TRANSPORTS, Device, HttpDevice, SocketDevice, open_device, open_socket

HOUR = 3600

Connect = Callable[..., Awaitable[Device]]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The address of another system."""
    group = parser.getgroup("contract")
    group.addoption("--url", default="", help="A running messenger; by default a stack is started.")
    group.addoption(
        "--token-command",
        default="",
        help="With --url: prints a token for the user {user} that is good for {ttl} seconds (also below"
        " zero); by default tokens are signed with the secret of the stack in STACK_DIR.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The system under test.

    Attributes:
        url: its address, as clients use it.
        issue: makes a token: `(user id, seconds) -> text`.
    """

    url: str
    issue: Callable[[str, int], str]

    async def token(self, user_id: str, ttl: int = HOUR) -> str:
        """A token for a user, good for `ttl` seconds."""
        return await asyncio.to_thread(self.issue, user_id, ttl)


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Target:
    """The address of --url, or a stack of the session's own."""
    url = request.config.getoption("url", default="").rstrip("/")
    if not url:
        stack: Stack = request.getfixturevalue("stack")
        return Target(url=stack.settings.messenger_url, issue=_signer(stack.settings))
    command = request.config.getoption("token_command")
    return Target(url=url, issue=partial(_run, command) if command else _signer(StackSettings()))


def _signer(settings: StackSettings) -> Callable[[str, int], str]:
    secret = settings.secret()
    return lambda user, ttl: tokens.issue(
        user, secret=secret, now=datetime.now(UTC), ttl=timedelta(seconds=ttl)
    )


def _run(command: str, user: str, ttl: int) -> str:
    words = [word.replace("{user}", user).replace("{ttl}", str(ttl)) for word in shlex.split(command)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603


@pytest.fixture
def name() -> Callable[[str], str]:
    """User ids that no other test has: `name("alice")`."""
    suffix = uuid.uuid4().hex[:12]
    return lambda person: f"{person}-{suffix}"


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """Each of the contract's transports."""
    kind: str = request.param
    return kind


@pytest.fixture
async def devices() -> AsyncIterator[list[Device]]:
    """What is put in here is closed after the test."""
    opened: list[Device] = []
    yield opened
    for device in opened:
        await device.close()


@pytest.fixture
async def connect_by(target: Target, devices: list[Device]) -> Connect:
    """Opens devices: on which transport, whose, and with what token and cursor."""

    async def connect(transport: str, user: str, *, ttl: int = HOUR, last_event_id: str = "") -> Device:
        token = await target.token(user, ttl)
        device = await open_device(transport, target.url, user, token, last_event_id)
        devices.append(device)
        return device

    return connect


@pytest.fixture
async def connect(transport: str, connect_by: Connect) -> Connect:
    """Opens devices on the transport under test."""
    return lambda user, **options: connect_by(transport, user, **options)


@pytest.fixture
async def socket(target: Target, devices: list[Device]) -> Callable[..., Awaitable[SocketDevice]]:
    """Opens WebSockets without a session."""

    async def open_one(user: str = "", **options: Any) -> SocketDevice:
        device = await open_socket(target.url, user, **options)
        devices.append(device)
        return device

    return open_one


@pytest.fixture
async def alone(connect: Connect, name: Callable[[str], str]) -> Device:
    """One user's device."""
    return await connect(name("alice"))


@pytest.fixture
async def by_http(connect_by: Connect, name: Callable[[str], str]) -> HttpDevice:
    """One user's device on HTTP."""
    device = await connect_by("http", name("alice"))
    assert isinstance(device, HttpDevice)
    return device


@dataclass(slots=True, kw_only=True)
class Scene:
    """Two people who talk.

    Attributes:
        alice, bob: a device of each.
        token: one of alice's.
        chat_id: their chat.
    """

    alice: Device
    bob: Device
    token: str
    chat_id: str
    _keys: Any = field(default_factory=itertools.count)

    async def says(self, who: Device, text: str) -> Any:
        """Sends a message; the sender's copy."""
        key = f"key-{next(self._keys)}"
        sent = await who.call("messages.send", chat_id=self.chat_id, text=text, client_msg_id=key)
        return sent["message"]

    async def tells(self, who: Device, *texts: str) -> list[Any]:
        """Sends messages and waits until the other side has them; the sender's copies."""
        other = self.bob if who is self.alice else self.alice
        sent = [await self.says(who, text) for text in texts]
        for message in sent:
            await other.next("message.new", about(message["message_id"]))
        return sent

    async def chat(self, who: Device) -> Any:
        """How the chat stands for one of them."""
        return (await who.call("chats.get", chat_id=self.chat_id))["chat"]

    async def history(self, who: Device, **page: Any) -> list[Any]:
        """The messages of one of them, oldest first."""
        messages: list[Any] = (await who.call("messages.history", chat_id=self.chat_id, **page))["messages"]
        return messages


def about(message_id: str) -> Callable[[Any], bool]:
    """Says whether a notification is about this message."""
    return lambda params: params["message"]["message_id"] == message_id


@pytest.fixture
async def scene(connect: Connect, target: Target, name: Callable[[str], str]) -> Scene:
    """Two people with an open chat."""
    alice, bob = await connect(name("alice")), await connect(name("bob"))
    opened = await alice.call("chats.open", peer_id=bob.user_id, item_id="red-bike")
    token = await target.token(alice.user_id)
    return Scene(alice=alice, bob=bob, token=token, chat_id=opened["chat"]["chat_id"])
