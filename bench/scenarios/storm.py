"""`storm`: an edge dies with all its clients; they come back to the others with their last event_id."""

import asyncio
import random
import time
from contextlib import ExitStack
from datetime import UTC, datetime

from bench.fleet import Fleet
from bench.measure import Sample, left, merged
from bench.people import Person, side_by_side
from bench.report import Context, Result
from bench.rig import Address, Rig, rig
from bench.scenarios.holding import BATCH, DAY_S, STREAM_LENGTH
from bench.scenarios.send import Pairs
from bench.sockets import Kind, kind_of, member_of, method_of
from bench.stats import Figures, latencies
from dbstore.rules import receiver_copy
from mesh.bus import Bus
from mesh.errors import MessengerError
from mesh.mailbox import ids
from mesh.mailbox.model import IncomingMessage
from mesh.mailbox.mongo import MongoMailbox

VICTIM = "edge-1"
OTHERS_PER_S = 20.0
WHOLE_S = 180.0
STEADY_S = 3.0
REFUSED_PAUSE_S = 0.2

# As the contract wants it: jittered, and longer at each failure.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 10.0


class Comer:
    """A client that comes back: one person, one connection after the other.

    Attributes:
        heard: numbers of the events that it has, each once.
        gaps: answers that said that something was lost for good.
    """

    def __init__(self, sample: Sample, address: Address, user_id: str, source: str) -> None:
        self.user_id = user_id
        self.heard: set[int] = set()
        self.gaps = 0
        self.connected = False
        self._sample, self._address, self._source = sample, address, source
        self._last_event_id = ""
        self._task: asyncio.Task[None] | None = None
        self._person: Person | None = None

    async def connect(self, ports: tuple[int, ...]) -> None:
        """Opens a session at one of the ports, after the last event that it has."""
        person = Person(self.user_id)
        person.heard_by(self._pushed)
        address = Address(ports=(random.choice(ports),), secret=self._address.secret)  # noqa: S311
        try:
            cursor = {"last_event_id": self._last_event_id} if self._last_event_id else {}
            await person.connect(address, 0, self._source, **cursor)
        except BaseException:
            person.socket.close()
            raise
        self.connected, self._person = True, person
        if not self._last_event_id:
            self._last_event_id = person.session["last_event_id"]
        self.gaps += not person.session["recovered"]
        person.lost_by(self._lost)

    def _pushed(self, text: bytes) -> None:
        if kind_of(text) is Kind.NOTIFICATION and method_of(text) == b"message.new":
            self._last_event_id = member_of(text, b"event_id").decode()
            self.heard.add(int(member_of(text, b"text")))

    def _lost(self) -> None:
        self.connected = False
        self._task = asyncio.get_running_loop().create_task(self._come_back())

    async def _come_back(self) -> None:
        began, most = time.monotonic(), FIRST_PAUSE_S
        while not self.connected:
            await asyncio.sleep(random.uniform(0, most))  # noqa: S311  # spreads load
            most = min(most * 2, LONGEST_PAUSE_S)
            try:
                await self.connect(self._address.ports[1:])
            except (OSError, RuntimeError, TimeoutError):
                self._sample.counts["tries that failed"] += 1
        self._sample.seconds["back"].append(time.monotonic() - began)

    def leave(self) -> None:
        """Hangs up and stays away."""
        self.connected = False
        if self._person:
            self._person.lost_by(lambda: None)
            self._person.socket.close()


class Comers:
    """Driver: clients of the first port, who know the others.

    Args:
        address: the edges; the first is the one that will die.
        shards: URIs of the mailboxes.
        redis_urls: nodes of the bus.
        names: begins every user's id.
        count: clients.
        source: the address they come from.
    """

    def __init__(
        self,
        address: Address,
        shards: tuple[str, ...],
        redis_urls: tuple[str, ...],
        names: str,
        count: int,
        source: str,
    ) -> None:
        self._address = address
        self._sample = Sample()
        self._store = MongoMailbox(shards)
        self._bus = Bus(redis_urls, retention=DAY_S, length=STREAM_LENGTH)
        self._comers = [Comer(self._sample, address, f"{names}-{n}", source) for n in range(count)]

    async def gather(self) -> None:
        """Brings all of them to the first port."""
        for comer in self._comers:
            comer.leave()
        await side_by_side(lambda comer: comer.connect(self._address.ports[:1]), [(c,) for c in self._comers])
        self._sample.seconds.clear()
        self._sample.counts.clear()

    async def tell(self, number: int) -> None:
        """Tells every one of them a message with that number, as dbstore does: the mailbox, then the stream.

        Again where a busy part did not take it.
        """
        waiting = [_message(comer.user_id, number) for comer in self._comers]
        while waiting:
            some, waiting = waiting[:BATCH], waiting[BATCH:]
            stored = await self._store.append_incoming(some)
            told = [receiver_copy(one.message) for one in stored if not isinstance(one, MessengerError)]
            outcomes = iter(await self._bus.publish(told))
            refused = [
                message
                for message, one in zip(some, stored, strict=True)
                if isinstance(one, MessengerError) or next(outcomes)
            ]
            if refused:
                waiting += refused
                await asyncio.sleep(REFUSED_PAUSE_S)

    async def whole(self, number: int) -> tuple[float, int, Sample]:
        """When (monotonic seconds) all are back with all events up to that number; and how many are not."""

        def wanting() -> int:
            return sum(not (one.connected and len(one.heard) >= number) for one in self._comers)

        late = await left(wanting, WHOLE_S)
        self._sample.counts["gaps"] = sum(comer.gaps for comer in self._comers)
        return time.monotonic(), late, self._sample


def _message(user_id: str, number: int) -> IncomingMessage:
    sender_id = f"{user_id}-friend"
    return IncomingMessage(
        owner=user_id,
        chat_id=ids.chat_id(user_id, sender_id),
        message_id=ids.next_message_id(time.time_ns(), "", random.getrandbits),
        sender_id=sender_id,
        text=str(number),
        created_at=datetime.now(UTC),
    )


def storm(context: Context, *, clients: int, generators: int, workers: int, shards: int) -> Result:
    """Measures what an edge's death does.

    Args:
        context: runs, progress.
        clients: connected to the edge that dies.
        generators: processes that hold the clients.
        workers: edge processes, the one that dies among them.
        shards: MongoDB replica sets.
    """
    context.told("starting the stack")
    runs: list[Figures] = []
    with ExitStack() as leave:
        running = leave.enter_context(rig(shards=shards, edges=workers))
        env, behind = running.env(), running.behind
        places = tuple(env["MONGO_SHARDS"].split()), tuple(env["REDIS_URLS"].split())
        each = clients // generators
        made = [(behind, *places, f"storm{n}", each, f"127.0.0.{n + 2}") for n in range(generators)]
        comers = leave.enter_context(Fleet(Comers, made))
        others = Address(ports=behind.ports[1:], secret=behind.secret)
        pairs = leave.enter_context(Fleet(Pairs, [(others, "calm", 16, "127.0.0.99")]))
        pairs.each("open")
        for number in range(1, context.runs + 1):
            context.told(f"run {number} of {context.runs}: gathering at {VICTIM}")
            comers.each("gather")
            context.told(f"run {number} of {context.runs}: {VICTIM} dies")
            runs.append(_storm(running, comers, pairs, number))
    settings = {"clients": clients, "generators": generators, "workers": workers, "shards": shards}
    return Result.of("storm", runs, settings=settings, headlines=("whole_s", "others_meanwhile.p99_ms"))


def _storm(running: Rig, comers: Fleet, pairs: Fleet, number: int) -> Figures:
    [victim] = [status for status in running.status() if status.name == VICTIM]
    pairs.each("start", OTHERS_PER_S)
    time.sleep(STEADY_S)
    [calm] = pairs.each("mark")
    died = time.monotonic()
    running.signal(VICTIM, "KILL")
    comers.each("tell", number)
    answers = comers.each("whole", number)
    [meanwhile] = pairs.each("mark")
    if lost := sum(pairs.each("stop")):
        raise RuntimeError(f"{lost} messages of the others never arrived; {meanwhile.complaint}")
    running.await_restart(VICTIM, victim.pid)
    comings = merged([sample for _, _, sample in answers])
    return {
        "whole_s": round(max(when for when, _, _ in answers) - died, 2),
        "not_whole": sum(late for _, late, _ in answers),
        "not_recovered": comings.counts["gaps"],
        "tries_that_failed": comings.counts["tries that failed"],
        "coming_back": latencies(comings.seconds["back"]),
        "others_before": latencies(calm.seconds["delivered"]),
        "others_meanwhile": latencies(meanwhile.seconds["delivered"]),
        "others_errors": meanwhile.counts["errors"],
    }
