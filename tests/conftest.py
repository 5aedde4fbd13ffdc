"""The stack that all tests of a session share: real servers on ports and in a directory of their own."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.stack import Stack, StackSettings, Stage, ports

FAILED_LOGS = Path(".cache/test-logs")


@pytest.fixture(scope="session")
def port_base() -> Iterator[int]:
    """A block of ports for this session; another session beside it gets another one."""
    block = ports.reserve_block()
    with block.guard:
        yield block.base


@pytest.fixture(scope="session")
def servers(
    port_base: int, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Stack]:
    """The stack with its servers: eight MongoDB replica sets, Redis, RabbitMQ; no services yet.

    It ends with this process, even when that is killed. Logs of a failed session stay in .cache/test-logs.
    """
    settings = StackSettings(
        stack_dir=tmp_path_factory.mktemp("stack"), stack_port_base=port_base, messenger_port=port_base + 90
    )
    stack = Stack(settings)
    try:
        stack.up(until=Stage.SERVERS, attached=True)
        yield stack
    finally:
        stack.down()
        if request.session.testsfailed:
            shutil.copytree(settings.directory / "logs", FAILED_LOGS / str(os.getpid()), dirs_exist_ok=True)
        stack.remove()


@pytest.fixture(scope="session")
def stack(servers: Stack) -> Stack:
    """The whole stack: servers, services, NGINX."""
    servers.up(attached=True)
    return servers
