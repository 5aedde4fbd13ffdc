"""Terminals of people who talk over the session's stack, and devices to talk to."""

from collections.abc import AsyncIterator

import pytest

from edge.client import Client
from edge.terminal.app import ChatApp
from mesh.stack import Stack
from tests.contract.device import Device
from tests.contract.hop import Hop
from tests.flows.conftest import People
from tests.terminal.support import QUICK, WIDE, OpenTerminal, Terminal


@pytest.fixture
async def people(stack: Stack) -> AsyncIterator[People]:
    """Names that nobody else has, tokens, and devices; closed after the test."""
    people = People(stack)
    yield people
    await people.close()


@pytest.fixture
async def bob(people: People) -> Device:
    """Somebody to talk to, on a device that is not under test."""
    return await people.connect(people.name("bob"))


@pytest.fixture
async def hop(people: People) -> AsyncIterator[Hop]:
    """A hop before the system."""
    async with Hop(people.url) as hop:
        yield hop


@pytest.fixture
async def terminal(people: People) -> AsyncIterator[OpenTerminal]:
    """Opens the chat of a user; closed after the test."""
    opened: list[Terminal] = []

    async def open_terminal(
        user: str, *, url: str = "", peer: str = "", size: tuple[int, int] = WIDE, token: str = ""
    ) -> Terminal:
        url = url or people.url
        client = Client(url, token or people.token(user), backoff=QUICK)
        opened.append(Terminal(ChatApp(client, user, url, peer)))
        await opened[-1].start(size)
        if peer:
            await opened[-1].shows(f"({peer})")
        return opened[-1]

    yield open_terminal
    for terminal in opened:
        await terminal.close()
