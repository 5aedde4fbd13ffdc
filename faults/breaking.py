"""Does a plan's faults to a real stack, one method a kind, and undoes them; tells the history when."""

import asyncio
import contextlib
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path

import pymongo
from pymongo.errors import PyMongoError

from faults.history import Recorder
from faults.plan import Fault, Layout, Round, what
from mesh.stack import Stack, StackError, Stage
from mesh.stack.plan import Program

READY_SECONDS = 120.0
RESTART_SECONDS = 1.0
"""How long the supervisor may take to notice that a program is gone."""


class Wires:
    """The fault proxy before every port: a process of its own, told by its standard input.

    Args:
        ports: for each wire's name, the ports that its program listens on.
        detour: what is added to reach them by way of the proxy.
    """

    def __init__(self, ports: dict[str, tuple[int, ...]], detour: int) -> None:
        self._ports = ports
        self._detour = detour
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> "Wires":
        pairs = [f"{port + self._detour}:{port}" for ports in self._ports.values() for port in ports]
        self._process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "faults.proxy", *pairs),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout  # noqa: S101  # a pipe
        if not await self._process.stdout.readline():
            raise StackError("The fault proxy did not start.")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process  # noqa: S101  # entered
        self._process.kill()
        await self._process.wait()

    def set(self, wire: str, mode: str, seconds: float = 0.0) -> None:
        """Begins a mode on every port of a wire."""
        assert self._process and self._process.stdin  # noqa: S101, PT018  # entered
        for port in self._ports[wire]:
            self._process.stdin.write(f"{port + self._detour} {mode} {seconds}\n".encode())


class Breaker:
    """Breaks and heals a stack.

    Args:
        stack: it runs.
        layout: what of it can be broken.
        wires: the proxy between its parts.
        recorder: told of each fault, once it is healed.
        tell: told of each fault as it begins, for the person who waits.
    """

    def __init__(
        self, stack: Stack, layout: Layout, wires: Wires, recorder: Recorder, tell: Callable[[str], None]
    ) -> None:
        self._stack = stack
        self._layout = layout
        self._wires = wires
        self._recorder = recorder
        self._tell = tell
        self._busy: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def carry_out(
        self, plan: Sequence[Round], seconds: float, recovered: Callable[[], Awaitable[None]]
    ) -> None:
        """Does the faults, and returns when everything is healed and ready.

        After each round it waits for `recovered`. On a slow machine programs take longer to come back than
        planned: after so many seconds rounds are left out that do nothing new.
        """
        over, done = time.monotonic() + seconds, set[str]()
        for faults in plan:
            whats = set(map(what, faults))
            if time.monotonic() > over and whats <= done:
                continue
            done |= whats
            async with asyncio.TaskGroup() as group:
                for fault in faults:
                    group.create_task(self._do(fault))
            await recovered()

    async def _do(self, fault: Fault) -> None:
        await asyncio.sleep(fault.after)
        async with self._claim(self._parts(fault)):
            begin = self._recorder.now()
            self._tell(f"{begin:6.1f} s  {fault.kind} {fault.target} {fault.lasts or ''}")
            broken = getattr(self, f"_{fault.kind.replace('-', '_')}")
            async with broken(fault):
                await asyncio.sleep(fault.lasts)
        self._recorder.write(
            "fault", name=fault.kind, target=fault.target, begin=begin, healed=self._recorder.now()
        )

    @contextlib.asynccontextmanager
    async def _claim(self, parts: Iterable[str]) -> AsyncIterator[None]:
        """Two faults of one part at once would undo each other's undoing."""
        async with contextlib.AsyncExitStack() as claimed:
            for part in sorted(parts):
                await claimed.enter_async_context(self._busy[part])
            yield

    def _parts(self, fault: Fault) -> set[str]:
        """What a fault must have for itself as long as it goes on: programs, or a wire."""
        match fault.kind:
            case "brokers-down":
                return set(self._layout.brokers)
            case "rolling-restart":
                return set()  # one after the other
            case "kill-primary" | "stop-primary":
                return {member.name for member in self._members(int(fault.target))}
            case kind if kind.startswith("wire-"):
                return {f"wire of {fault.target}"}
            case _:
                return {fault.target}

    # ── kill -9 ─────────────────────────────────────────────────────────────────────────────────────────────

    @contextlib.asynccontextmanager
    async def _killed(self, program: str, *, wipe: bool = False) -> AsyncIterator[None]:
        if wipe:  # while it cannot write any more
            await self._signal(program, "STOP")
            await asyncio.to_thread(_empty, self._stack.settings.directory / "data" / program)
        await self._signal(program, "KILL")
        yield
        await asyncio.sleep(RESTART_SECONDS)
        await self._ready(program)

    @contextlib.asynccontextmanager
    async def _kill_primary(self, fault: Fault) -> AsyncIterator[None]:
        async with self._killed(await self._primary(int(fault.target))):
            yield

    @contextlib.asynccontextmanager
    async def _kill_broker(self, fault: Fault) -> AsyncIterator[None]:
        async with self._killed(fault.target):
            yield

    @contextlib.asynccontextmanager
    async def _kill_redis(self, fault: Fault) -> AsyncIterator[None]:
        async with self._killed(fault.target):
            yield

    @contextlib.asynccontextmanager
    async def _kill_redis_empty(self, fault: Fault) -> AsyncIterator[None]:
        async with self._killed(fault.target, wipe=True):
            yield

    @contextlib.asynccontextmanager
    async def _kill_service(self, fault: Fault) -> AsyncIterator[None]:
        async with self._killed(fault.target):
            yield

    # ── SIGSTOP ─────────────────────────────────────────────────────────────────────────────────────────────

    @contextlib.asynccontextmanager
    async def _stopped(self, program: str) -> AsyncIterator[None]:
        await self._signal(program, "STOP")
        try:
            yield
        finally:
            await self._signal(program, "CONT")
        await self._ready(program)

    @contextlib.asynccontextmanager
    async def _stop_primary(self, fault: Fault) -> AsyncIterator[None]:
        async with self._stopped(await self._primary(int(fault.target))):
            yield

    @contextlib.asynccontextmanager
    async def _stop_broker(self, fault: Fault) -> AsyncIterator[None]:
        async with self._stopped(fault.target):
            yield

    _stop_redis = _stop_service = _stop_consumer = _stop_broker

    # ── wires ───────────────────────────────────────────────────────────────────────────────────────────────

    @contextlib.asynccontextmanager
    async def _wire(self, fault: Fault, mode: str, seconds: float = 0.0) -> AsyncIterator[None]:
        self._wires.set(fault.target, mode, seconds)
        try:
            yield
        finally:
            self._wires.set(fault.target, "open")

    def _wire_reset(self, fault: Fault) -> contextlib.AbstractAsyncContextManager[None]:
        return self._wire(fault, "reset")

    def _wire_closed(self, fault: Fault) -> contextlib.AbstractAsyncContextManager[None]:
        return self._wire(fault, "closed")

    def _wire_delay(self, fault: Fault) -> contextlib.AbstractAsyncContextManager[None]:
        return self._wire(fault, "delay", 0.4)

    def _wire_mute(self, fault: Fault) -> contextlib.AbstractAsyncContextManager[None]:
        return self._wire(fault, "mute")

    def _wire_frozen(self, fault: Fault) -> contextlib.AbstractAsyncContextManager[None]:
        return self._wire(fault, "frozen")

    # ── everything ──────────────────────────────────────────────────────────────────────────────────────────

    @contextlib.asynccontextmanager
    async def _brokers_down(self, _: Fault) -> AsyncIterator[None]:
        """All of RabbitMQ stops, in order, and starts again."""
        nodes = self._layout.brokers
        await asyncio.gather(*(asyncio.to_thread(self._stack.stop, node) for node in nodes))
        yield
        # All at once: the node that went last must be there before the others begin.
        await asyncio.gather(*map(self._ready, nodes))

    @contextlib.asynccontextmanager
    async def _rolling_restart(self, _: Fault) -> AsyncIterator[None]:
        """Every program stops by SIGTERM and starts again, of each sort one after the other."""
        lanes: dict[str, list[str]] = {}
        for program in self._stack.plan.programs:
            if program.stage is not Stage.NAMES:
                lanes.setdefault(_lane(program), []).append(program.name)
        await asyncio.gather(*map(self._restart_all, lanes.values()))
        yield

    async def _restart_all(self, names: Sequence[str]) -> None:
        left = list(names)
        while left:
            # What another fault has now comes later, where that is possible.
            name = next((one for one in left if not self._busy[one].locked()), left[0])
            left.remove(name)
            async with self._claim([name]):
                await asyncio.to_thread(self._stack.stop, name)
                await self._ready(name)

    # ── the stack ───────────────────────────────────────────────────────────────────────────────────────────

    async def _signal(self, program: str, signal: str) -> None:
        await asyncio.to_thread(self._stack.signal, program, signal)

    async def _ready(self, name: str) -> None:
        """Starts the program where it does not run, and waits until it is ready, however often it dies."""
        (program,) = (one for one in self._stack.plan.programs if one.name == name)
        deadline = time.monotonic() + READY_SECONDS
        with contextlib.suppress(StackError):
            await asyncio.to_thread(self._stack.start, name)
        while why := await asyncio.to_thread(program.check.probe):
            if time.monotonic() > deadline:
                raise StackError(f"{name} does not come back: {why}. Look into {self._stack.log(name)}")
            await asyncio.sleep(0.2)

    def _members(self, shard: int) -> list[Program]:
        return [program for program in self._stack.plan.programs if _is_member(program.name, shard)]

    async def _primary(self, shard: int) -> str:
        members = self._members(shard)
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            for member in members:
                if await asyncio.to_thread(_is_primary, member.ports[0]):
                    return member.name
            await asyncio.sleep(0.1)
        raise StackError(f"Shard {shard} has no primary.")


def _lane(program: Program) -> str:
    """Programs of one lane are never away together: members of a shard, nodes of a cluster, a service's."""
    parts = program.name.split("-")
    return "-".join(parts[:2]) if parts[0] == "mongo" else parts[0]


def _is_member(program: str, shard: int) -> bool:
    return program == f"mongo-{shard}" or program.startswith(f"mongo-{shard}-")


def _is_primary(port: int) -> bool:
    uri = f"mongodb://127.0.0.1:{port}/?directConnection=true&serverSelectionTimeoutMS=500"
    try:
        with pymongo.MongoClient[dict[str, object]](uri) as client:
            return bool(client.admin.command("hello")["isWritablePrimary"])
    except PyMongoError:
        return False


def _empty(directory: Path) -> None:
    for entry in directory.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
