"""One run: a stack, people, faults, the quiet after it, and the verdict."""

import asyncio
import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console

from faults import checker, history, plan, report, shards
from faults.breaking import Breaker, Wires
from faults.history import Recorder
from faults.load import Person, all_reach_all, introduce, people
from mesh import tokens
from mesh.amqp.parking import lengths, open_parking_lot
from mesh.amqp.topology import Topology
from mesh.cli.parked import message_id_of
from mesh.errors import MessengerError
from mesh.mailbox.audit import Auditor
from mesh.mailbox.inspection import Inspector
from mesh.stack import Stack, StackSettings, Stage, ports

PEOPLE = 14
PACE = 0.4
QUIET_SECONDS = 2.5
SETTLE_SECONDS = 120.0
FINISH_SECONDS = 60.0
RECOVERY_SECONDS = 40.0
LAST_LOOK_SECONDS = 240.0
# Shorter than an operator's, so that a run can wait for the last rung.
LADDER = (1.0, 3.0, 5.0)
# More often than an operator's, and of what is older than the ladder is long.
AUDIT_EVERY_SECONDS, AUDIT_SETTLED_SECONDS = 10, 20
# Less than an operator's, so that devices come back to a stream that has outgrown or outlived their place.
STREAM_LENGTH, RETENTION_SECONDS = 50, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a run is told.

    Attributes:
        seed: of the plan and of what people do.
        seconds: how long faults go on.
        only: kinds of faults; empty for all.
        small: one member a replica set, one broker, one of each service.
        directory: history, plot and logs.
        port_base: of two blocks of ports; 0 for any that are free.
    """

    seed: int
    seconds: float
    only: Sequence[str]
    small: bool
    directory: Path
    port_base: int = 0


def run(options: Options, console: Console) -> bool:
    """Does it all; whether every promise held."""
    blocks = (
        range(options.port_base, options.port_base + 200, ports.BLOCK)
        if options.port_base
        else ports.TEST_BLOCKS
    )
    shutil.rmtree(options.directory, ignore_errors=True)
    options.directory.mkdir(parents=True)
    front, back = ports.reserve_block(blocks), ports.reserve_block(blocks)
    with front.guard, back.guard:
        stack = Stack(_settings(options, back.base, detour=front.base - back.base))
        os.environ |= {  # for the services
            "RETRY_LADDER_SECONDS": " ".join(map(str, LADDER)),
            "AUDIT_EVERY_SECONDS": str(AUDIT_EVERY_SECONDS),
            "AUDIT_SETTLED_SECONDS": str(AUDIT_SETTLED_SECONDS),
            "BUS_STREAM_LENGTH": str(STREAM_LENGTH),
            "BUS_RETENTION_SECONDS": str(RETENTION_SECONDS),
        }
        return asyncio.run(Run(options, stack, console).main())


def _settings(options: Options, base: int, detour: int) -> StackSettings:
    many = 1 if options.small else 3
    return StackSettings(
        stack_dir=options.directory / "stack",
        stack_port_base=base,
        messenger_port=base + 95,
        stack_shards=2,
        stack_members=many,
        stack_brokers=many,
        stack_replicas=1 if options.small else 2,
        stack_detour=detour,
        mongo_shards=(),
        redis_urls=(),
        amqp_url="",
        jwt_secret="",
    )


class Run:
    """A run in progress."""

    def __init__(self, options: Options, stack: Stack, console: Console) -> None:
        self._options = options
        self._stack = stack
        self._console = console
        self._id = f"{options.seed}-{int(time.time()):x}"
        self._topology = Topology(ladder=LADDER)
        self._recorder = Recorder(options.directory / "history.jsonl")

    async def main(self) -> bool:
        """See `run`."""
        layout = _layout(self._stack)
        # Who waits for a program holds a thread. No program may wait for one to come back: those that hold
        # them may be waiting for it.
        threads = ThreadPoolExecutor(2 * len(self._stack.plan.programs))
        asyncio.get_running_loop().set_default_executor(threads)
        wires = {
            program.name: program.ports
            for program in self._stack.plan.programs
            if program.name in layout.wires
        }
        async with Wires(wires, self._stack.settings.stack_detour) as hops:
            try:
                self._say("starting the stack …")
                self._start()
                breaker = Breaker(self._stack, layout, hops, self._recorder, self._say)
                await self._live_through(breaker, layout)
                boxes = await asyncio.to_thread(
                    shards.read, self._stack.env()["MONGO_SHARDS"].split(), self._id
                )
            finally:
                await asyncio.to_thread(self._stack.down)
                self._recorder.close()
        return self._judge(boxes)

    def _start(self) -> None:
        # In this thread: the kernel ends the stack when the thread that started it ends.
        self._stack.up(attached=True)

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False)

    async def _live_through(self, breaker: Breaker, layout: plan.Layout) -> None:
        chance = random.Random(self._options.seed)  # noqa: S311  # chance that can be repeated
        everyone = people(
            PEOPLE, self._stack.settings.messenger_url, self._token(), self._recorder, self._id, chance
        )
        try:
            await introduce(everyone)
            self._phase("load")
            over = asyncio.Event()
            lives = [asyncio.create_task(person.live(over, PACE)) for person in everyone]
            await asyncio.sleep(1.0)
            made = plan.make(self._options.seed, self._options.seconds, layout, self._options.only)
            await breaker.carry_out(made, self._options.seconds, lambda: self._recover(everyone))
            over.set()
            await self._finish(dict(zip(lives, everyone, strict=True)))
            await self._settle()
            self._phase("settled")
            try:
                async with asyncio.timeout(LAST_LOOK_SECONDS):
                    await self._last_look(everyone)
            except TimeoutError:
                self._recorder.write("unfinished", user="the last look")
        finally:
            for device in (device for person in everyone for device in person.devices):
                await device.leave()

    def _token(self) -> Callable[[str], str]:
        secret, now = self._stack.env()["JWT_SECRET"], datetime.now(UTC)
        return lambda user: tokens.issue(user, secret=secret, now=now, ttl=timedelta(hours=12))

    def _phase(self, name: str) -> None:
        self._recorder.write("phase", name=name, at=self._recorder.now())
        self._say(f"{self._recorder.now():6.1f} s  {name}")

    async def _finish(self, lives: dict[asyncio.Task[None], Person]) -> None:
        """Lets people finish what they have begun."""
        _, late = await asyncio.wait(lives, timeout=FINISH_SECONDS)
        for life in late:
            self._recorder.write("unfinished", user=lives[life].user)
            life.cancel()

    async def _recover(self, everyone: list[Person]) -> None:
        if await all_reach_all(everyone, RECOVERY_SECONDS):
            self._recorder.write("recovered", at=self._recorder.now())
        else:
            self._say(f"not everybody reaches everybody again after {RECOVERY_SECONDS:.0f} s; goes on")

    # ── the quiet after it ──────────────────────────────────────────────────────────────────────────────────

    async def _settle(self) -> None:
        """Waits until nothing is on its way: outboxes and queues are empty and stay so, copies are there.

        What RabbitMQ takes from one queue to the next is in neither until the next has confirmed it. Where
        leaders change fast it may forget to take it on; then dbapi's audit announces it again.
        """
        deadline = time.monotonic() + SETTLE_SECONDS
        quiet_since = time.monotonic()
        while time.monotonic() < deadline:
            if await self._on_its_way():
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > QUIET_SECONDS and not await self._audit():
                return
            await asyncio.sleep(0.5)
        self._say(f"still on its way after {SETTLE_SECONDS:.0f} s")

    async def _on_its_way(self) -> bool:
        try:
            queues = await lengths(self._stack.env()["AMQP_URL"], self._topology)
            queues.pop(self._topology.name("parked"), None)
            if any(queues.values()):
                return True
            inspector = Inspector(self._stack.env()["MONGO_SHARDS"].split(), "pymongo")
            try:
                return any(waiting.count for waiting in await inspector.waiting())
            finally:
                await inspector.aclose()
        except MessengerError:
            return True

    async def _last_look(self, everyone: list[Person]) -> None:
        for person in everyone:
            for device in person.devices:
                if device.away:
                    await device.start()
        await asyncio.gather(*(person.read_for_the_last_time() for person in everyone))
        await self._settle()
        await self._events_are_over()
        await asyncio.gather(*(person.look_afresh(self._recorder) for person in everyone))
        env = self._stack.env()
        async with open_parking_lot(env["AMQP_URL"], self._topology) as lot:
            bodies = [
                {
                    "cause": body.delivery.cause or body.unreadable,
                    "message_ids": list(map(message_id_of, body.events)),
                }
                async for body in lot.look()
            ]
        queues = await lengths(env["AMQP_URL"], self._topology)
        queues.pop(self._topology.name("parked"))
        self._recorder.write("parked", bodies=bodies, queues=queues)
        self._recorder.write("audited", findings=await self._audit())

    async def _audit(self) -> list[str]:
        """What the operator's own audit finds, which has to agree with the checker."""
        auditor = Auditor(self._stack.env()["MONGO_SHARDS"].split(), "pymongo")
        try:
            looks = [look async for look in auditor.audit(None, datetime.now(UTC), repair=False)]
        finally:
            await auditor.aclose()
        return [
            f"{one.fault}: {one.message_id} {one.chat_id} at {one.owner}, {one.detail}"
            for look in looks
            if look is not None
            for one in look.findings
        ]

    async def _events_are_over(self) -> None:
        """Gives devices that are just coming back the time to be brought up to date."""
        await asyncio.sleep(QUIET_SECONDS)

    # ── the verdict ─────────────────────────────────────────────────────────────────────────────────────────

    def _judge(self, boxes: shards.Mailboxes) -> bool:
        told = history.read(self._recorder.path)
        broken = checker.check(told, boxes)
        numbers, faults = checker.numbers(told, boxes, broken), report.recoveries(told)
        report.table(self._console, numbers, faults, broken)
        picture = self._options.directory / "faults.png"
        report.plot(
            picture, told, f"seed {self._options.seed}: {numbers['faults']} faults, {len(broken)} broken"
        )
        self._say(f"history: {self._recorder.path}, plot: {picture}")
        print(report.line(self._options.seed, numbers, faults, broken), flush=True)  # noqa: T201  # for programs
        return not broken


def _layout(stack: Stack) -> plan.Layout:
    programs = stack.plan.programs
    servers = [program.name for program in programs if program.stage is Stage.SERVERS]
    services = tuple(program.name for program in programs if program.stage is Stage.SERVICES)
    return plan.Layout(
        shards=stack.settings.stack_shards,
        brokers=tuple(name for name in servers if name.startswith("rabbitmq")),
        redis=tuple(name for name in servers if name.startswith("redis")),
        services=services,
        wires=(*servers, *services),
    )
