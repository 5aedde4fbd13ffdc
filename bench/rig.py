"""A stack for one scenario, with limits that no load generator reaches; it is gone afterwards."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from bench.accounts import Accounts
from mesh import tokens
from mesh.stack import Stack, StackSettings, binaries, ports, ready
from mesh.stack import plan as table

PLENTY = "1000000"
# The generator is few people who write much: what limits one person would measure the limiter.
UNLIMITED = {
    "LIMIT_RATE": PLENTY,
    "LIMIT_BURST": PLENTY,
    "LIMIT_CONCURRENT": PLENTY,
    "CALLS_PER_EDGE": PLENTY,
    "USER_SESSIONS": PLENTY,
    "ADDRESS_CONNECTIONS": PLENTY,
    "ADDRESS_HANDSHAKES": PLENTY,
    "ADDRESS_FAILURES": PLENTY,
}
ENVIRONMENT = {
    "FLOOD_MESSAGES": PLENTY,
    "FLOOD_PEERS": PLENTY,
    "DUPLICATE_RECEIVERS": PLENTY,
    "LOG_LEVEL": "WARNING",
}
TOKEN_TTL = timedelta(hours=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """An edge process of the rig, and where its WebSocket listens."""

    name: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where clients of a scenario connect, and what signs their tokens."""

    ports: tuple[int, ...]
    secret: str

    def token(self, user_id: str) -> str:
        """A good token."""
        return tokens.issue(user_id, secret=self.secret, now=datetime.now(UTC), ttl=TOKEN_TTL)


class Rig(Stack):
    """The stack, with as many edges as wanted.

    Args:
        settings: as for every stack.
        edge_count: edge processes, at least two; NGINX stands before the first two.
        further: first port of those beyond.
    """

    def __init__(self, settings: StackSettings, edge_count: int, further: int) -> None:
        super().__init__(settings)
        self._edge_count = edge_count
        self._further = further

    @cached_property
    def plan(self) -> table.Plan:
        """The stack's own table with further edges."""
        made = table.make(self.settings, binaries.find(self.settings), self.settings.secrets())
        [first] = [program for program in made.programs if program.name == "edge-1"]
        further = [self._edge(first, number) for number in range(table.EDGES, self._edge_count)]
        programs = sorted((*made.programs, *further), key=lambda program: program.stage)
        return replace(made, programs=tuple(programs))

    def _edge(self, like: table.Program, number: int) -> table.Program:
        """The first edge once more, with all its listeners on ports of the further block."""
        start = self._further + (number - table.EDGES) * len(like.ports)
        moved = {f"{table.LOOPBACK}:{port}": start + n for n, port in enumerate(like.ports)}
        env = {
            name: f"{table.LOOPBACK}:{moved[value]}" if value in moved else value
            for name, value in like.env.items()
        }
        http = int(env["HTTP_LISTEN"].rpartition(":")[2])
        return replace(
            like,
            name=f"edge-{number + 1}",
            ports=tuple(moved.values()),
            env=env,
            check=ready.HttpOk(port=http, path="/readyz"),
        )

    @property
    def edges(self) -> list[Edge]:
        """The edge processes."""
        programs = [program for program in self.plan.programs if program.name.startswith("edge-")]
        return [Edge(name=program.name, port=program.ports[1]) for program in programs]

    @property
    def front(self) -> Address:
        """NGINX, as clients know it."""
        return Address(ports=(self.settings.messenger_port,), secret=self.settings.secret())

    @property
    def behind(self) -> Address:
        """The edges themselves."""
        return Address(ports=tuple(edge.port for edge in self.edges), secret=self.settings.secret())

    def accounts(self) -> Accounts:
        """What its processes use."""
        return Accounts(self)


@contextmanager
def rig(*, shards: int, edges: int = table.EDGES, limits: bool = False) -> Iterator[Rig]:
    """A running rig in a directory of its own, on free ports or on those of STACK_PORT_BASE.

    Args:
        shards: MongoDB replica sets.
        edges: edge processes.
        limits: the edges' limits are those of every stack, not set out of the way.
    """
    with ExitStack() as leave:
        directory = leave.enter_context(
            tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)
        )
        named = os.environ.get("STACK_PORT_BASE")
        base, further = (int(named), int(named) + ports.BLOCK) if named else (_block(leave), _block(leave))
        settings = StackSettings(
            stack_dir=Path(directory),
            stack_port_base=base,
            messenger_port=int(os.environ.get("MESSENGER_PORT", base + ports.BLOCK - 2)),
            stack_shards=shards,
        )
        os.environ.update(ENVIRONMENT | ({} if limits else UNLIMITED))
        running = Rig(settings, edges, further)
        leave.callback(running.down)
        running.up(attached=True)
        yield running


def _block(leave: ExitStack) -> int:
    block = ports.reserve_block()
    leave.enter_context(block.guard)
    return block.base
