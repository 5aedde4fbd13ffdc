"""People who measure what they ask, teams whose services hang on demand, a census of what is left over."""

import asyncio
import contextlib
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from messenger.antispam.v1 import antispam_pb2, antispam_pb2_grpc
from messenger.items.v1 import items_pb2, items_pb2_grpc
from messenger.profiles.v1 import profiles_pb2, profiles_pb2_grpc

PATIENCE = 20.0
"""Seconds that anything may take here; only failures wait so long."""

BEAT = 0.005

SHED = -32008


class Heartbeat:
    """Notes how long this thread was ready to run while the machine ran others, which is no lateness of ours.

    Source: https://docs.kernel.org/scheduler/sched-stats.html (proc/<pid>/schedstat).
    """

    def __init__(self) -> None:
        self._schedstat = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._waited: list[tuple[float, float]] = []
        self._beaten = asyncio.Event()

    async def run(self) -> None:
        """Beats until cancelled."""
        while True:
            waited = int(self._schedstat.read_text().split()[1]) / 1e9
            self._waited.append((time.monotonic(), waited))
            self._beaten.set()
            await asyncio.sleep(BEAT)

    async def beat(self) -> None:
        """Returns after the next beat."""
        self._beaten.clear()
        await self._beaten.wait()

    def noise(self, since: float, until: float) -> float:
        """Seconds between two times, give or take a beat, in which the thread waited for a processor."""
        before = max((one for one in self._waited if one[0] <= since), default=self._waited[0])
        after = min((one for one in self._waited if one[0] >= until), default=self._waited[-1])
        return after[1] - before[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a call.

    Attributes:
        method: what was asked.
        code: of its error; 0 for a result.
        result: empty after an error.
        asked, due, answered: when, on the monotonic clock; `due` is its deadline.
    """

    method: str
    code: int
    result: dict[str, Any]
    asked: float
    due: float
    answered: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.answered - self.asked

    def over(self, heartbeat: Heartbeat) -> float:
        """Seconds beyond the deadline, less the machine's noise since then; below zero within it."""
        late = self.answered - self.due
        return late - heartbeat.noise(self.due, self.answered) if late > 0 else late


class Person:
    """A user on a WebSocket of the measured edge, who asks many things at once.

    Args:
        user_id: the user.
        socket: connected; a session begins with `sign_in`.
        deadlines: seconds by method.
        token: what its sessions begin with.

    Attributes:
        cursor: where the session began.
    """

    def __init__(
        self, user_id: str, socket: ClientConnection, deadlines: dict[str, float], token: str
    ) -> None:
        self.user_id = user_id
        self.token = token
        self.cursor = ""
        self.texts: set[str] = set()
        self._socket = socket
        self._deadlines = deadlines
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[tuple[float, dict[str, Any]]]] = {}
        self._heard = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def close(self) -> None:
        """Goes away."""
        await self._socket.close()
        await self._reader

    async def sign_in(self, cursor: str = "") -> Outcome:
        """Begins a session after an event."""
        outcome = await self.ask("session.connect", token=self.token, last_event_id=cursor)
        self.cursor = outcome.result.get("last_event_id", "")
        return outcome

    async def ask(self, method: str, **params: Any) -> Outcome:
        """What becomes of one call; it must be answered.

        What a busy edge sheds is asked again when it says, as any client would.
        """
        async with asyncio.timeout(PATIENCE):
            while True:
                began = time.monotonic()
                at, answer = await self._exchange(method, params)
                error = answer.get("error", {})
                if error.get("code") != SHED:
                    break
                await asyncio.sleep(error["data"].get("retry_after_ms", 100) / 1000)
        return Outcome(
            method=method,
            code=error.get("code", 0),
            result=answer.get("result", {}),
            asked=began,
            due=began + self._deadlines[method],
            answered=at,
        )

    async def _exchange(self, method: str, params: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        """When the answer came, and the answer."""
        number = next(self._numbers)
        answered: asyncio.Future[tuple[float, dict[str, Any]]] = asyncio.get_running_loop().create_future()
        self._asked[number] = answered
        frame = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        await self._socket.send(json.dumps(frame))
        return await answered

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a call that must go well."""
        outcome = await self.ask(method, **params)
        assert not outcome.code, outcome
        return outcome.result

    async def hears(self, text: str) -> None:
        """Returns when a message of this text was pushed."""
        async with asyncio.timeout(PATIENCE), self._heard:
            await self._heard.wait_for(lambda: text in self.texts)

    async def _read(self) -> None:
        try:
            async for frame in self._socket:
                message = json.loads(frame)
                if asked := self._asked.pop(message.get("id"), None):
                    asked.set_result((time.monotonic(), message))
                elif message.get("method") == "message.new":
                    async with self._heard:
                        self.texts.add(message["params"]["message"]["text"])
                        self._heard.notify_all()
        except ConnectionClosed:
            pass


class Teams(
    profiles_pb2_grpc.ProfilesServiceServicer,
    items_pb2_grpc.ItemsServiceServicer,
    antispam_pb2_grpc.CheckerServiceServicer,
):
    """Services of teams: profiles, items, and a checker.

    Attributes:
        hanging: names of those that do not answer now.
        asked: how often each was asked.
    """

    def __init__(self) -> None:
        self.hanging: set[str] = set()
        self.asked: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def asleep(self, name: str) -> AsyncIterator[None]:
        """One of them hangs for a block."""
        self.hanging.add(name)
        try:
            yield
        finally:
            self.hanging.discard(name)

    async def _work(self, name: str) -> None:
        self.asked[name] += 1
        if name in self.hanging:
            await asyncio.Event().wait()

    async def BatchGetProfiles(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Everybody has a name."""
        await self._work("profiles")
        profiles = [profiles_pb2.Profile(user_id=user, name=f"Name of {user}") for user in request.user_ids]
        return profiles_pb2.BatchGetProfilesResponse(profiles=profiles)

    async def BatchGetItems(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Everything has a title."""
        await self._work("items")
        items = [items_pb2.ItemCard(item_id=item, title=f"Title of {item}") for item in request.item_ids]
        return items_pb2.BatchGetItemsResponse(items=items)

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Nothing is spam."""
        await self._work("checker")
        passed = antispam_pb2.Verdict(decision=antispam_pb2.DECISION_PASS)
        return antispam_pb2.CheckResponse(verdicts=[passed] * len(request.candidates))


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """How many tasks and connections processes have.

    Args:
        tasks: asyncio tasks by process.
        sockets: established connections by process.
    """

    tasks: dict[str, float]
    sockets: dict[str, int]

    def beyond(self, other: "Census", slack: int) -> dict[str, tuple[float, float]]:
        """Where there is more than there was, by more than the slack: what is and what was."""
        found = {}
        for kind in ("tasks", "sockets"):
            mine, theirs = getattr(self, kind), getattr(other, kind)
            for process, count in mine.items():
                if count > theirs[process] + slack:
                    found[f"{kind} of {process}"] = (count, theirs[process])
        return found


def connections(pid: int) -> int:
    """Established TCP connections of a process."""
    return sum(one.status == psutil.CONN_ESTABLISHED for one in psutil.Process(pid).net_connections("tcp"))


def read_metric(text: str, name: str, **labels: str) -> float:
    """The sum of a metric's series whose labels begin so, in Prometheus' text format."""
    series = (line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{")))
    wanted = [f'{label}="{value}' for label, value in labels.items()]
    return sum(float(line.rpartition(" ")[2]) for line in series if all(one in line for one in wanted))


def failed(outcomes: Iterable[Outcome]) -> dict[str, set[int]]:
    """The codes of the calls that failed, by method."""
    found: dict[str, set[int]] = {}
    for outcome in outcomes:
        if outcome.code:
            found.setdefault(outcome.method, set()).add(outcome.code)
    return found


def missing(outcomes: Iterable[Outcome]) -> set[str]:
    """What answers say that they had to leave out."""
    return {part for outcome in outcomes for part in outcome.result.get("degraded", ())}
