"""The system that the suite is pointed at, and devices of users that nobody else has.

- A stack of its own: `pytest tests/contract`
- The one that `make up` has started: `pytest tests/contract --url http://127.0.0.1:8000`
- Any: `pytest tests/contract --url https://staging.example --token-command 'issue {user} --seconds {ttl}'`
"""

import asyncio
import itertools
import shlex
import subprocess
import time
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
LONG = 60.0
"""Seconds for what takes ten; only failures wait so long."""

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
        secret: that signs tokens of any kind; empty where it is not known.
    """

    url: str
    issue: Callable[[str, int], str]
    secret: str = ""

    async def token(self, user_id: str, ttl: int = HOUR) -> str:
        """A token for a user, good for `ttl` seconds."""
        return await asyncio.to_thread(self.issue, user_id, ttl)


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Target:
    """The address of --url, or a stack of the session's own."""
    url = request.config.getoption("url", default="").rstrip("/")
    if not url:
        stack: Stack = request.getfixturevalue("stack")
        return _of_stack(stack.settings.messenger_url, stack.settings)
    if command := request.config.getoption("token_command"):
        return Target(url=url, issue=partial(_run, command))
    return _of_stack(url, StackSettings())


@pytest.fixture(scope="session")
def own_stack(request: pytest.FixtureRequest) -> Stack:
    """The session's own stack, for what nobody may do to a system that others use."""
    if request.config.getoption("url", default=""):
        pytest.skip("only a stack of one's own is brought into this state; --url was given")
    stack: Stack = request.getfixturevalue("stack")
    return stack


def _of_stack(url: str, settings: StackSettings) -> Target:
    secret = settings.secret()

    def issue(user: str, ttl: int) -> str:
        return tokens.issue(user, secret=secret, now=datetime.now(UTC), ttl=timedelta(seconds=ttl))

    return Target(url=url, issue=issue, secret=secret)


def _run(command: str, user: str, ttl: int) -> str:
    words = [word.replace("{user}", user).replace("{ttl}", str(ttl)) for word in shlex.split(command)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What came in the end, and after how many seconds."""

    seconds: float
    answer: Any


@pytest.fixture(scope="session", autouse=True)
async def waiting(request: pytest.FixtureRequest) -> AsyncIterator[dict[str, "asyncio.Task[Waiting]"]]:
    """What takes long: begins before the first test and is looked at in the last, so nobody waits for it."""
    tasks = {}
    if any(item.path.stem == "test_contract_waits" for item in request.session.items):
        target: Target = request.getfixturevalue("target")
        tasks = {work.__name__: asyncio.create_task(_timed(work, target)) for work in (poll, idle, leave)}
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)


async def _timed(work: Callable[[Target, list[Device]], Awaitable[Any]], target: Target) -> Waiting:
    began, opened = time.monotonic(), list[Device]()
    try:
        return Waiting(answer=await work(target, opened), seconds=time.monotonic() - began)
    finally:
        for device in opened:
            await device.close()


async def _somebody(transport: str, target: Target, opened: list[Device]) -> Device:
    user = f"waiting-{uuid.uuid4().hex}"
    opened.append(await open_device(transport, target.url, user, await target.token(user)))
    return opened[-1]


async def poll(target: Target, opened: list[Device]) -> Any:
    """Waits for events that do not come; the page."""
    device = await _somebody("http", target, opened)
    assert isinstance(device, HttpDevice)
    return (await device.http.get("/events", timeout=LONG)).json()


async def idle(target: Target, opened: list[Device]) -> int | None:
    """Opens a socket and says nothing; the close code."""
    device = await open_socket(target.url, "")
    opened.append(device)
    await asyncio.wait_for(device.socket.wait_closed(), LONG)
    return device.socket.close_code


async def leave(target: Target, opened: list[Device]) -> list[Any]:
    """Looks at somebody who leaves; what is told of that, and what is answered afterwards."""
    looking, leaving = [await _somebody("ws", target, opened) for _ in range(2)]
    await looking.call("presence.get", user_ids=[leaving.user_id])
    await leaving.close()
    told = await looking.next("presence", lambda params: not params["online"])
    looked = await looking.call("presence.get", user_ids=[leaving.user_id])
    return [told, *looked["presence"]]


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
