"""`read`: pages of chats with their people, and pages of messages."""

import asyncio
import time
from collections.abc import Sequence

from bench.accounts import per_item
from bench.fleet import Fleet
from bench.measure import Sample, Window, left, runs
from bench.people import Person, side_by_side, text_of
from bench.report import Context, Result
from bench.rig import Address, rig
from bench.sockets import Kind, call, kind_of, number_of
from bench.stats import Figures, latencies

CHATS = 20
MESSAGES = 50
METHODS = ("chats.list", "messages.history")
PAUSE_S = 0.05
ANSWER_S = 20.0


class Reader:
    """A user with a page of chats and a page of messages in the first of them."""

    def __init__(self, sample: Sample, name: str) -> None:
        self.sample = sample
        self.person = Person(name)
        self.asked: dict[int, float] = {}
        self.looping = ""
        self._params: dict[str, str] = {}
        self._number = 0

    async def open(self, address: Address, which: int, source: str) -> None:
        """Connects, opens the chats, writes the messages."""
        await self.person.connect(address, which, source)
        chats = [
            (await self.person.call("chats.open", peer_id=f"{self.person.user_id}-{n}"))["chat"]["chat_id"]
            for n in range(CHATS)
        ]
        for number, chat_id in enumerate([*chats, *chats[:1] * MESSAGES]):
            await self.person.call(
                "messages.send", chat_id=chat_id, text=text_of(number), client_msg_id=f"r-{number}"
            )
        page = await self.person.call("chats.list", limit=CHATS)
        if len(page["chats"]) != CHATS or page.get("degraded"):
            raise RuntimeError(f"chats.list is not whole: {page}")
        self._params = {
            "chats.list": f'{{"limit":{CHATS}}}',
            "messages.history": f'{{"chat_id":"{chats[0]}","limit":{MESSAGES}}}',
        }
        self.person.socket.take_by(self._answered)

    def ask(self, method: str, due: float) -> None:
        """Asks for a page; `due` is the time that its latency counts from."""
        self._number += 1
        self.asked[self._number] = due
        self.person.socket.send(call(method, self._params[method], self._number))

    def _answered(self, text: bytes) -> None:
        kind = kind_of(text)
        if kind is Kind.NOTIFICATION:
            return
        due, now = self.asked.pop(number_of(text)), time.monotonic()
        if kind is Kind.ERROR:
            self.sample.error(text)
            asyncio.get_running_loop().call_later(PAUSE_S, self._go_on)
            return
        self.sample.counts["read"] += 1
        self.sample.seconds["read"].append(now - due)
        self._go_on()

    def _go_on(self) -> None:
        if self.looping:
            self.ask(self.looping, time.monotonic())


class Readers:
    """Driver: readers, each with one call under way, or all together at a fixed rate.

    Args:
        address: where they connect.
        names: begins every user's id.
        count: readers.
        source: the address they come from.
    """

    def __init__(self, address: Address, names: str, count: int, source: str) -> None:
        self._address, self._source = address, source
        self._sample = Sample()
        self._readers = [Reader(self._sample, f"{names}-{number}") for number in range(count)]
        self._clock: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Prepares all readers."""
        await side_by_side(
            lambda number, reader: reader.open(self._address, number, self._source),
            list(enumerate(self._readers)),
        )

    async def start(self, methods: Sequence[str], rate: float) -> None:
        """Begins to read.

        Args:
            methods: of METHODS; in the closed loop the first.
            rate: calls a second; 0 for a closed loop.
        """
        if rate:
            self._clock = asyncio.create_task(self._at(methods, rate))
            return
        for reader in self._readers:
            reader.looping = methods[0]
            reader.ask(methods[0], time.monotonic())

    async def _at(self, methods: Sequence[str], rate: float) -> None:
        due, number = time.monotonic(), 0
        while True:
            await asyncio.sleep(due - time.monotonic())
            while due <= time.monotonic():
                method = methods[number % len(methods)]
                self._readers[number // len(methods) % len(self._readers)].ask(method, due)
                due, number = due + 1 / rate, number + 1

    async def mark(self) -> Sample:
        """What was counted since the last mark."""
        taken, self._sample = self._sample, Sample()
        for reader in self._readers:
            reader.sample = self._sample
        return taken

    async def stop(self) -> int:
        """Asks no more and waits for answers; how many never came."""
        if self._clock:
            self._clock.cancel()
        for reader in self._readers:
            reader.looping = ""
        return await left(lambda: sum(len(reader.asked) for reader in self._readers), ANSWER_S)


def read(context: Context, *, shards: int, users: int, generators: int) -> Result:
    """Measures reading.

    Args:
        context: length of runs, progress.
        shards: MongoDB replica sets.
        users: readers, each with one call under way.
        generators: processes that they are spread over.
    """
    context.told("starting the stack")
    each = users // generators
    with rig(shards=shards) as running:
        spread = [(running.front, f"read{n}", each, f"127.0.0.{n + 2}") for n in range(generators)]
        with Fleet(Readers, spread) as fleet:
            context.told("writing what is to be read")
            fleet.each("open")
            accounts = running.accounts()
            of = {
                method: runs(fleet, accounts, start=((method,), 0.0), **context.length) for method in METHODS
            }
    rounds: list[Figures] = [
        {method: _figures(one) for method, one in zip(METHODS, windows, strict=True)}
        for windows in zip(*of.values(), strict=True)
    ]
    settings = {"shards": shards, "users": users, "generators": generators}
    return Result.of(
        "read",
        rounds,
        settings=settings,
        headlines=("chats.list.cpu_us_per_request.total", "messages.history.cpu_us_per_request.total"),
    )


def _figures(run: Window) -> Figures:
    count = run.sample.counts["read"]
    return {
        "answered_per_s": run.rate("read"),
        **latencies(run.sample.seconds["read"]),
        "cpu_us_per_request": per_item(run.used, count),
        "generator_us_per_request": per_item({"": run.generator}, count)["total"],
        "errors": run.sample.counts["errors"],
    }
