"""The plan of faults, which is pure, and the proxy's manners, on a wire of its own."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from faults import plan
from faults.breaking import Breaker, Wires
from faults.history import Recorder
from mesh.stack import Stack
from mesh.stack.ports import reserve_block

LAYOUT = plan.Layout(
    shards=2,
    brokers=("rabbitmq", "rabbitmq-2", "rabbitmq-3"),
    redis=("redis-0", "redis-1"),
    services=("dbapi", "dbapi-2", "dbstore", "edge-1"),
    wires=("redis-0", "rabbitmq", "dbapi"),
)


def flat(rounds: list[plan.Round]) -> list[plan.Fault]:
    """All faults of a plan."""
    return [fault for faults in rounds for fault in faults]


def test_a_seed_is_a_plan() -> None:
    """The same seed gives the same plan, another one another."""
    assert plan.make(7, 120, LAYOUT) == plan.make(7, 120, LAYOUT)
    assert plan.make(7, 120, LAYOUT) != plan.make(8, 120, LAYOUT)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("seconds", [1, 120, 600])
def test_every_kind_and_every_service_comes(seed: int, seconds: int) -> None:
    """However short it is, a plan holds every kind, kills every service once, and has known targets only."""
    made = flat(plan.make(seed, seconds, LAYOUT))
    assert {fault.kind for fault in made} == set(plan.KINDS)
    killed = {plan.service_of(fault.target) for fault in made if fault.kind == "kill-service"}
    assert killed == {"dbapi", "dbstore", "edge"}
    targets = {*LAYOUT.brokers, *LAYOUT.redis, *LAYOUT.services, *LAYOUT.wires, "0", "1", ""}
    assert {fault.target for fault in made} <= targets


@pytest.mark.parametrize("seed", range(20))
def test_some_come_alone_and_some_at_once(seed: int) -> None:
    """A long plan does faults alone and several at once; the default one has rounds and takes its time."""
    assert {len(faults) for faults in plan.make(seed, 600, LAYOUT)} > {1, 2}
    made = plan.make(seed, 120, LAYOUT)
    assert 2 <= len(made) <= 12
    assert sum(plan.takes(faults) for faults in made) < 125


def test_only_what_was_asked_for() -> None:
    """`only` leaves everything else out, and fills the time with what is left."""
    made = flat(plan.make(1, 60, LAYOUT, only=("kill-redis",)))
    assert {fault.kind for fault in made} == {"kill-redis"}
    assert len(made) > 3


def test_every_kind_can_be_done() -> None:
    """Each kind of the plan has a method that does it."""
    for kind in plan.KINDS:
        assert hasattr(Breaker, f"_{kind.replace('-', '_')}"), kind


async def test_a_slow_machine_leaves_out_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """When time is over only rounds are left out that do nothing new: each kind, each service comes once."""
    done: list[str] = []

    async def do(_breaker: Breaker, fault: plan.Fault) -> None:
        done.append(f"{fault.kind} {fault.target}")

    async def recovered() -> None:
        done.append("recovered")

    monkeypatch.setattr(Breaker, "_do", do)
    breaker = Breaker(cast(Stack, None), LAYOUT, cast(Wires, None), cast(Recorder, None), lambda _text: None)
    targets = (
        "kill-service dbapi",
        "kill-service dbapi-2",
        "kill-service edge-1",
        "wire-mute dbapi",
        "wire-mute x",
    )
    rounds = [
        (plan.Fault(kind=kind, target=target, after=0, lasts=0),)
        for kind, _, target in (one.partition(" ") for one in targets)
    ]
    await breaker.carry_out(rounds, 0, recovered)
    assert done == [
        "kill-service dbapi", "recovered", "kill-service edge-1", "recovered", "wire-mute dbapi", "recovered"
    ]  # fmt: skip


@asynccontextmanager
async def wire() -> AsyncIterator[tuple[int, asyncio.subprocess.Process]]:
    """A proxy before a server that sends every line back; its port, and the process to tell modes to."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    block = reserve_block()
    with block.guard:
        async with await asyncio.start_server(answer, "127.0.0.1", block.base):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "faults.proxy", f"{block.base + 1}:{block.base}"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdout
            assert await process.stdout.readline() == b"ready\n"
            try:
                yield block.base + 1, process
            finally:
                process.kill()
                await process.wait()


class Caller:
    """A client of the wire."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def says(self, line: bytes) -> None:
        """Sends a line."""
        self.writer.write(line)
        await self.writer.drain()

    async def hears(self, seconds: float = 10) -> bytes:
        """The next line; empty where the connection ended."""
        try:
            return await asyncio.wait_for(self.reader.readline(), seconds)
        except ConnectionError:
            return b""


async def tell(process: asyncio.subprocess.Process, port: int, mode: str) -> None:
    """Begins a mode."""
    assert process.stdin
    process.stdin.write(f"{port} {mode}\n".encode())
    await process.stdin.drain()


@asynccontextmanager
async def caller(port: int) -> AsyncIterator[Caller]:
    """A connection through the wire."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Caller(reader, writer)
    finally:
        writer.close()


async def test_delayed_bytes_keep_their_order() -> None:
    """What was held back still comes before what was sent after the delay ended."""
    async with wire() as (port, process), caller(port) as client:
        await client.says(b"0\n")
        assert await client.hears() == b"0\n"
        await tell(process, port, "delay 0.3")
        await asyncio.sleep(0.05)  # the proxy is told by another channel than ours
        await client.says(b"1\n")
        await asyncio.sleep(0.05)
        await tell(process, port, "open")
        await asyncio.sleep(0.05)
        await client.says(b"2\n")
        assert [await client.hears(), await client.hears()] == [b"1\n", b"2\n"]


@pytest.mark.parametrize("mode", ["mute", "frozen"])
async def test_half_dead_wires_hold_back_and_go_on(mode: str) -> None:
    """A half-dead connection says nothing, does not end, and loses nothing when it goes on."""
    async with wire() as (port, process), caller(port) as client:
        await client.says(b"0\n")
        assert await client.hears() == b"0\n"
        await tell(process, port, mode)
        await asyncio.sleep(0.05)
        await client.says(b"1\n")
        with pytest.raises(TimeoutError):
            await client.hears(0.3)
        await tell(process, port, "open")
        assert await client.hears() == b"1\n"


async def test_reset_wires_end_and_new_ones_pass() -> None:
    """A reset ends what there is; what comes afterwards passes."""
    async with wire() as (port, process):
        async with caller(port) as client:
            await client.says(b"0\n")
            assert await client.hears() == b"0\n"
            await tell(process, port, "reset")
            assert await client.hears() == b""
        async with caller(port) as client:
            await client.says(b"1\n")
            assert await client.hears() == b"1\n"


async def test_closed_wires_refuse() -> None:
    """Nothing passes a closed wire, until it is open again."""
    async with wire() as (port, process):
        await tell(process, port, "closed")
        await asyncio.sleep(0.05)
        async with caller(port) as client:
            assert await client.hears() == b""
        await tell(process, port, "open")
        await asyncio.sleep(0.05)
        async with caller(port) as client:
            await client.says(b"1\n")
            assert await client.hears() == b"1\n"
