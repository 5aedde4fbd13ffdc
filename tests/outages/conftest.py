"""Services of these tests' own on the session's servers, an edge in this process, and what makes them hang.

The edge runs here so that a call's time is measured on the loop that keeps it. Redis is reached through the
fault proxy, so that it can fall silent for these services alone; teams' profiles, items and checker are here.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import httpx
import pytest
import pytest_asyncio
from websockets.asyncio.client import connect

from edge.settings import Settings
from edge.table import OWN, methods
from edge.wiring import wire
from faults.breaking import Wires
from mesh import tokens
from mesh.assertion import Signer
from mesh.lifecycle import App
from mesh.mailbox.buckets import BucketMap
from mesh.server import Security, Server
from mesh.settings import load
from mesh.stack import Stack, StackSettings, Stage, plan
from mesh.stack.ca import Authority
from mesh.stack.plan import REDIS_NODES, REDIS_PORT
from mesh.stack.ports import PortBlock, reserve_block
from messenger.antispam.v1.antispam_pb2_grpc import add_CheckerServiceServicer_to_server
from messenger.items.v1.items_pb2_grpc import add_ItemsServiceServicer_to_server
from messenger.profiles.v1.profiles_pb2_grpc import add_ProfilesServiceServicer_to_server
from tests.conftest import FAILED_LOGS
from tests.outages.scene import Scene
from tests.outages.support import PATIENCE, Census, Heartbeat, Person, Teams, connections, read_metric

SERVICES = ("dbapi", "aggregator", "antispam", "dbstore")

# Where things are in these services' block of ports, beside the services themselves.
TEAM_PORTS = {"PROFILES_ADDRESS": 80, "ITEMS_ADDRESS": 81, "ANTISPAM_CHECKERS": 82}
SHARD = 0
"""The shard that hangs, or is stopped."""

SHARDS = BucketMap.even(8)

EDGE_PORTS = {"LISTEN": 60, "WS_LISTEN": 61, "HTTP_LISTEN": 62}


@pytest.fixture(scope="package")
def block() -> Iterator[PortBlock]:
    """Ports of these services' own."""
    block = reserve_block()
    with block.guard:
        yield block


@pytest_asyncio.fixture(scope="package")
async def wires(servers: Stack, block: PortBlock) -> AsyncIterator[Wires]:
    """The fault proxy before Redis."""
    base = servers.settings.stack_port_base
    ports = tuple(base + REDIS_PORT + node for node in range(REDIS_NODES))
    async with Wires({"redis": ports}, block.base - base) as wires:
        yield wires


@pytest.fixture(scope="package")
def services(
    servers: Stack,
    wires: Wires,
    block: PortBlock,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Stack]:
    """dbapi, aggregator, antispam and dbstore, ready. The teams that they ask come later."""
    env = servers.env()

    def by_wire(url: str) -> str:
        address, _, port = url.rpartition(":")
        return f"{address}:{int(port) - servers.settings.stack_port_base + block.base}"

    telling = {
        "QUEUE_PREFIX": f"{uuid.uuid4().hex}.",
        "RETRY_LADDER_SECONDS": "0.2 0.5 1",
        "ANTISPAM_BUDGET_MS": "30000",  # a busy machine is no outage
        "REMEMBERED_SECONDS": "0",  # a part that is away is to be noticed at once
        **{name: f"localhost:{block.base + port}" for name, port in TEAM_PORTS.items()},
    }
    settings = StackSettings(
        stack_dir=tmp_path_factory.mktemp("outages"),
        stack_port_base=block.base,
        messenger_port=block.base + 90,
        mongo_shards=tuple(env["MONGO_SHARDS"].split()),
        redis_urls=tuple(map(by_wire, env["REDIS_URLS"].split())),
        amqp_url=env["AMQP_URL"],
    )
    stack = Stack(settings)
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(len(SERVICES)) as pool:
        for key, value in telling.items():
            patch.setenv(key, value)
        try:
            stack.up(until=Stage.SERVERS, attached=True)
            list(pool.map(stack.start, SERVICES))
            yield stack
        finally:
            stack.down()
            if request.session.testsfailed:
                kept = FAILED_LOGS / f"{os.getpid()}-outages"
                shutil.copytree(settings.directory / "logs", kept, dirs_exist_ok=True)
            stack.remove()


class TeamHost:
    """Runs the teams' services, each on a port of its own.

    Args:
        teams: the services.
        authority: that the mesh trusts.
        base: first port of the block.
    """

    _adders: ClassVar[dict[str, tuple[int, Callable[[Any, Any], None]]]] = {
        "profiles": (TEAM_PORTS["PROFILES_ADDRESS"], add_ProfilesServiceServicer_to_server),
        "items": (TEAM_PORTS["ITEMS_ADDRESS"], add_ItemsServiceServicer_to_server),
        "checker": (TEAM_PORTS["ANTISPAM_CHECKERS"], add_CheckerServiceServicer_to_server),
    }

    def __init__(self, teams: Teams, authority: Authority, base: int) -> None:
        self.teams = teams
        self._authority = authority
        self._base = base
        self._servers: dict[str, Server] = {}
        authority.issue(["localhost"])

    async def start(self, *parts: str) -> None:
        """Starts some, or all."""
        for part in parts or self._adders:
            port, add = self._adders[part]
            security = Security(tls=self._authority.tls_of("localhost"))
            server = self._servers[part] = Server(f"127.0.0.1:{self._base + port}", security=security)
            server.add(add, self.teams)
            await server.start()
            await server.set_serving(True)

    async def stop(self, *parts: str) -> None:
        """Stops some, or all, at once."""
        for part in parts or self._adders:
            await self._servers[part].stop(0)


@pytest_asyncio.fixture(scope="package")
async def host(services: Stack) -> AsyncIterator[TeamHost]:
    """The teams' services run."""
    authority = plan.authority(services.settings)
    host = TeamHost(Teams(), authority, services.settings.stack_port_base)
    await host.start()
    yield host
    await host.stop()


@pytest.fixture
def teams(host: TeamHost) -> Teams:
    """What the teams' services do."""
    return host.teams


@pytest.fixture
def gone(host: TeamHost) -> Callable[[str], contextlib.AbstractAsyncContextManager[None]]:
    """Stops a team's service for a block."""

    @contextlib.asynccontextmanager
    async def gone(part: str) -> AsyncIterator[None]:
        await host.stop(part)
        try:
            yield
        finally:
            await host.start(part)

    return gone


@pytest_asyncio.fixture(scope="package")
async def edge(services: Stack, host: TeamHost) -> AsyncIterator[str]:
    """An edge in this process; the address of its WebSocket."""
    base = services.settings.stack_port_base
    env = {
        **services.env(),
        **plan.authority(services.settings).environment("edge"),
        "ASSERTION_SIGNING_KEY": str(plan.assertion_keys(services.settings)[0]),
        **{name: f"127.0.0.1:{base + port}" for name, port in EDGE_PORTS.items()},
        "LIMIT_RATE": "10000",
        "LIMIT_BURST": "10000",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in set(os.environ) & {"METRICS_LISTEN"}:
            patch.delenv(name)
        for name, value in env.items():
            patch.setenv(name, value)
        settings = load(Settings, "edge")
    app = App("edge", settings)
    running = asyncio.create_task(app.main(wire))
    async with asyncio.timeout(PATIENCE):
        while not app.ready:  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.02)
    for number in (signal.SIGTERM, signal.SIGINT):  # they are the tests', not the edge's
        asyncio.get_running_loop().remove_signal_handler(number)
    yield f"ws://127.0.0.1:{base + EDGE_PORTS['WS_LISTEN']}/ws"
    app.stop()
    await running


@pytest_asyncio.fixture(scope="package")
async def heartbeat() -> AsyncIterator[Heartbeat]:
    """How late this process's own loop is."""
    heartbeat = Heartbeat()
    running = asyncio.create_task(heartbeat.run())
    yield heartbeat
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


Join = Callable[[str], Awaitable[Person]]


@pytest.fixture
async def knock(edge: str, services: Stack) -> AsyncIterator[Join]:
    """Opens sockets without a session, by user ids; whoever has come is gone after the test."""
    deadlines = {name: method.deadline for name, method in methods(OWN).items()}
    here: list[Person] = []

    async def open_socket(user_id: str) -> Person:
        ttl = timedelta(hours=1)
        token = tokens.issue(user_id, secret=services.settings.secret(), now=datetime.now(UTC), ttl=ttl)
        socket = await connect(edge, compression=None, proxy=None)
        here.append(Person(user_id, socket, deadlines, token))
        return here[-1]

    yield open_socket
    for person in here:
        await person.close()


@pytest.fixture
def join(knock: Join) -> Join:
    """Lets people in, by their user ids."""

    async def enter(user_id: str) -> Person:
        person = await knock(user_id)
        outcome = await person.sign_in()
        assert not outcome.code, outcome
        return person

    return enter


Look = Callable[[str], Awaitable[str]]


@pytest.fixture
async def look(services: Stack) -> AsyncIterator[Look]:
    """What a service says on /metrics."""
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        listens = {
            program.name: program.env["METRICS_LISTEN"]
            for program in services.plan.programs
            if program.name in SERVICES
        }

        async def ask(service: str) -> str:
            return (await http.get(f"http://{listens[service]}/metrics")).text

        yield ask


@pytest.fixture
def census(services: Stack, look: Look) -> Callable[[], Awaitable[Census]]:
    """Counts tasks and connections of the services and of this process."""
    pids = {status.name: status.pid for status in services.status() if status.name in SERVICES}

    async def count() -> Census:
        tasks = {name: read_metric(await look(name), "messenger_tasks") for name in SERVICES}
        sockets = {name: await asyncio.to_thread(connections, pid) for name, pid in pids.items()}
        tasks["edge"], sockets["edge"] = len(asyncio.all_tasks()), connections(os.getpid())
        return Census(tasks=tasks, sockets=sockets)

    return count


def whoever(lives: Callable[[int], bool], name: str) -> str:
    """A user id that no other test has, on a shard for which that is true."""
    users = (f"{name}-{uuid.uuid4().hex[:12]}" for _ in range(1_000))
    return next(user for user in users if lives(SHARDS.node_of(user)))


@pytest.fixture
async def scene(join: Join, teams: Teams, services: Stack) -> Scene:
    """Alice, on the shard that may hang, and Bob, on another; they have talked."""
    alice = await join(whoever(lambda shard: shard == SHARD, "alice"))
    bob = await join(whoever(lambda shard: shard != SHARD, "bob"))
    opened = await alice.call("chats.open", peer_id=bob.user_id, item_id="bike")
    chat_id, messages = opened["chat"]["chat_id"], {}
    for person, peer in ((alice, bob), (bob, alice)):
        texts = [f"hello {person.user_id} {n}" for n in range(2)]
        sent = [
            await person.call("messages.send", chat_id=chat_id, text=text, client_msg_id=text[:64])
            for text in texts
        ]
        messages[person.user_id] = [one["message"]["message_id"] for one in sent]
        for text in texts:
            await peer.hears(text)
    signer = Signer(plan.assertion_keys(services.settings)[0])
    return Scene(alice=alice, bob=bob, chat_id=chat_id, messages=messages, teams=teams, signer=signer)


Hang = Callable[[str], contextlib.AbstractAsyncContextManager[None]]


@pytest.fixture
def hang(servers: Stack, services: Stack, wires: Wires, teams: Teams) -> Hang:
    """Makes a part hang for a block: a program by SIGSTOP, Redis by its wires, a team's service by itself."""

    @contextlib.asynccontextmanager
    async def stopped(stack: Stack, program: str) -> AsyncIterator[None]:
        await asyncio.to_thread(stack.signal, program, "STOP")
        try:
            yield
        finally:
            await asyncio.to_thread(stack.signal, program, "CONT")

    @contextlib.asynccontextmanager
    async def frozen() -> AsyncIterator[None]:
        wires.set("redis", "frozen")
        try:
            yield
        finally:
            wires.set("redis", "open")

    def hang(part: str) -> contextlib.AbstractAsyncContextManager[None]:
        match part:
            case "mongo":
                return stopped(servers, f"mongo-{SHARD}")
            case "rabbitmq":
                return stopped(servers, part)
            case "redis":
                return frozen()
            case _ if part in SERVICES:
                return stopped(services, part)
            case _:
                return teams.asleep(part)

    return hang
