"""A stack whose settings name the examples of this folder, and the examples, running beside it.

It stands on the session's own servers, with a database and queues of its own.
"""

import os
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mesh import tokens
from mesh.assertion import Signer
from mesh.stack import Stack, StackSettings, plan
from mesh.stack.ports import reserve_block
from mesh.stack.ready import GrpcServing
from tests.contract.device import Device, open_device
from tests.teams import checker, directory, identity

HERE = Path(__file__).parent
PATIENCE_S = 30.0

ROOM = {
    # On a busy machine an answer takes its time; here it is to come all the same.
    "ANTISPAM_BUDGET_MS": "10000",
    "ANTISPAM_WINDOW_MS": "20000",
    "OPTIONAL_SECONDS": "5",
    # Little, so that a few calls use it up.
    "LIMIT_BURST": "20",
    "LIMIT_RATE": "0.1",
}

NAMES: dict[str, str] = {}
"""Whom the directory knows: the people of each test, as they come."""
TITLES = {"red-bike": "A red bicycle"}


class Deals:
    """The process of the deals service.

    Args:
        stack: the stack that it is a guest of.
        address: where it listens.
        built: directory of its generated code.
    """

    def __init__(self, stack: Stack, address: str, built: Path) -> None:
        self.address = address
        self._check = GrpcServing(target=address, service="deals", authority=plan.authority(stack.settings))
        self._environment = os.environ | stack.guest("deals") | {"LISTEN": address, "PYTHONPATH": str(built)}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it."""
        self._process = subprocess.Popen(  # noqa: S603  # our own words
            [sys.executable, str(HERE / "deals/service.py")], env=self._environment
        )

    def await_ready(self) -> None:
        """Returns when it serves."""
        deadline = time.monotonic() + PATIENCE_S
        while reason := self._check.probe():
            assert self._process is not None
            assert self._process.poll() is None, "the deals service has ended; its log is above"
            assert time.monotonic() < deadline, reason
            time.sleep(0.05)

    def stop(self) -> None:
        """Stops it, if it runs."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


class Teams:
    """All of it.

    Attributes:
        stack: the messenger.
        deals: the service on the WebSocket.
        prefix: of the queues' names.
    """

    def __init__(self, stack: Stack, deals: Deals, prefix: str) -> None:
        self.stack, self.deals, self.prefix = stack, deals, prefix

    def token(self, user_id: str) -> str:
        """A client's token."""
        secret = self.stack.settings.secret()
        return tokens.issue(user_id, secret=secret, now=datetime.now(UTC), ttl=timedelta(hours=1))

    def assertion(self, user_id: str) -> str:
        """What a call within a call of the user brings."""
        return Signer(plan.assertion_keys(self.stack.settings)[0]).sign(user_id)


@pytest.fixture(scope="package")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the deals team's own build script makes: Python code, and the descriptor set for the edges."""
    path = tmp_path_factory.mktemp("deals")
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([HERE / "deals/build.sh", path], check=True, env=os.environ | {"PATH": search})  # noqa: S603
    return path


def environment(base: int, built: Path) -> dict[str, str]:
    """What stack.env says, with ports and a directory of this session's."""
    text = (HERE / "stack.env").read_text()
    text = text.replace("127.0.0.1:700", f"127.0.0.1:{base // 10 + 8}").replace("/tmp/deals", str(built))  # noqa: S108
    return dict(entry.split("=", 1) for entry in shlex.split(text, comments=True))


@pytest.fixture(scope="package")
def teams(servers: Stack, built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Teams]:
    """The messenger with its guests."""
    block, prefix = reserve_block(), f"t{uuid.uuid4().hex[:12]}"
    with block.guard, ExitStack() as entered:
        env = environment(block.base, built) | ROOM | {"QUEUE_PREFIX": f"{prefix}."}
        patch = entered.enter_context(pytest.MonkeyPatch.context())
        for name, value in env.items():
            patch.setenv(name, value)
        places = servers.env()
        settings = StackSettings(
            stack_dir=tmp_path_factory.mktemp("guests"),
            stack_port_base=block.base,
            messenger_port=block.base + 90,
            mongo_shards=tuple(uri.replace("/?", f"/{prefix}?") for uri in places["MONGO_SHARDS"].split()),
            amqp_url=places["AMQP_URL"],
            redis_urls=tuple(places["REDIS_URLS"].split()),
        )
        stack = Stack(settings)
        entered.callback(stack.down)
        _serve(stack, env, entered)
        deals = Deals(stack, env["TEAM_SERVICES"].partition("=")[2], built)
        entered.callback(deals.stop)
        deals.start()
        stack.up(attached=True)
        deals.await_ready()
        yield Teams(stack, deals, f"{prefix}.")


def _serve(stack: Stack, env: dict[str, str], entered: ExitStack) -> None:
    """The synchronous examples, in this process."""
    prepayment, staff = (
        identity.server_credentials(stack.guest(name)) for name in ("prepayment", "directory")
    )
    for server in (
        checker.serve(env["ANTISPAM_CHECKERS"], prepayment),
        directory.serve(env["PROFILES_ADDRESS"], NAMES, TITLES, staff),
    ):
        entered.callback(server.stop, None)


@pytest.fixture
async def people(teams: Teams) -> AsyncIterator[list[Device]]:
    """Devices of an Alice and a Bob that no other test has, on WebSockets; the directory knows both."""
    devices = []
    for person in ("alice", "bob"):
        user = f"{person}-{uuid.uuid4().hex[:12]}"
        NAMES[user] = f"{person.title()} of the staff"
        devices.append(await open_device("ws", teams.stack.settings.messenger_url, user, teams.token(user)))
    yield devices
    for device in devices:
        await device.close()
