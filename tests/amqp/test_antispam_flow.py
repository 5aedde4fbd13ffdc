"""Antispam between real queues: with real checkers of teams over gRPC, and as a process of its own."""

import asyncio
import dataclasses
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc

from antispam.checkers.blocklist import GTUBE
from antispam.consumer import Antispam
from antispam.judge import Judge
from antispam.settings import Settings
from antispam.teams import TeamChecker
from antispam.wiring import rules
from mesh.amqp import CHECKED, MESSAGES, Consumer, Publisher, Received, Topology
from mesh.amqp.delivery import PUBLISHED, encode
from mesh.breaker import Part
from mesh.channel import Channel
from messenger.antispam.v1 import antispam_pb2
from messenger.antispam.v1.antispam_pb2_grpc import (
    CheckerServiceServicer,
    CheckerServiceStub,
    add_CheckerServiceServicer_to_server,
)
from tests.amqp.support import Recorder, count, event, message, name_of

BUDGET = 0.15

NEVER_OVER = 60.0
"""Seconds from publishing; on a busy machine a message may wait for long."""


@asynccontextmanager
async def antispam(
    url: str, topology: Topology, publisher: Publisher, team: str = "", budget: float = BUDGET
) -> AsyncIterator[None]:
    """Antispam as it is wired, with at most one team's checker."""
    async with Channel(team or "unix:/nowhere") as channel:
        own = rules(Settings(amqp_url=url))
        check = CheckerServiceStub(channel).Check
        teams = [TeamChecker("team", check, Part("team", seconds=budget))] if team else []
        handler = Antispam(Judge([own, *teams], budget=budget), publisher, budget=NEVER_OVER)
        async with Consumer(url, topology, MESSAGES, handler, publisher) as consumer:
            await consumer.ready()
            yield


@asynccontextmanager
async def serving(servicer: CheckerServiceServicer, directory: Path) -> AsyncIterator[str]:
    """A team's process, as far as antispam sees it."""
    address = f"unix:{directory}/team.sock"
    server = grpc.aio.server()
    add_CheckerServiceServicer_to_server(servicer, server)
    server.add_insecure_port(address)
    await server.start()
    yield address
    await server.stop(None)


class Silent(CheckerServiceServicer):
    """A checker that never answers."""

    async def Check(  # noqa: N802
        self, request: antispam_pb2.CheckRequest, context: grpc.aio.ServicerContext
    ) -> antispam_pb2.CheckResponse:
        """See the proto."""
        await asyncio.Event().wait()
        return antispam_pb2.CheckResponse()


class NoCaps(CheckerServiceServicer):
    """A checker that takes shouting for spam."""

    async def Check(  # noqa: N802
        self, request: antispam_pb2.CheckRequest, context: grpc.aio.ServicerContext
    ) -> antispam_pb2.CheckResponse:
        """See the proto."""
        return antispam_pb2.CheckResponse(
            verdicts=[
                antispam_pb2.Verdict(
                    decision=antispam_pb2.DECISION_REJECT, checker="no_caps", reason="SHOUTING"
                )
                if candidate.text.isupper()
                else antispam_pb2.Verdict(decision=antispam_pb2.DECISION_PASS)
                for candidate in request.candidates
            ]
        )


def verdict_of(received: Received) -> antispam_pb2.Verdict:
    """What antispam said of a message, without the time, which it must say as well."""
    verdict = received.event.message_accepted.verdict
    assert verdict.HasField("judged_at")
    verdict.ClearField("judged_at")
    return verdict


def rejected(checker: str, reason: str) -> antispam_pb2.Verdict:
    """A verdict as dbstore sees it."""
    return antispam_pb2.Verdict(decision=antispam_pb2.DECISION_REJECT, checker=checker, reason=reason)


PASSED = antispam_pb2.Verdict(decision=antispam_pb2.DECISION_PASS)


async def test_a_batch_is_judged_and_passed_on_as_one(
    amqp_url: str, topology: Topology, publisher: Publisher
) -> None:
    """Sixteen messages leave as one body, in order, each with its verdict; what is no message goes along."""
    seen = Recorder()
    batch = [message(f"{n}", GTUBE if n == 7 else "Hello") for n in range(15)]
    async with (
        Consumer(amqp_url, topology, CHECKED, seen, publisher),
        antispam(amqp_url, topology, publisher),
    ):
        await publisher.publish(MESSAGES, "", [*batch, event("read")])
        received = [await seen.next() for _ in range(16)]
    assert [len(call) for call in seen.calls] == [16]
    assert [name_of(one.event) for one in received] == [*(f"{n}" for n in range(15)), "read"]
    verdicts = [verdict_of(one) for one in received[:15]]
    assert verdicts == [rejected("blocklist", "BLOCKED_WORD") if n == 7 else PASSED for n in range(15)]
    assert not any(one.delivery.expired for one in received)
    assert await count(amqp_url, topology, MESSAGES) == 0


async def test_a_team_decides_as_well(
    amqp_url: str, topology: Topology, publisher: Publisher, tmp_path: Path
) -> None:
    """A team's checker that is reached by its address alone rejects what its own rule says."""
    seen = Recorder()
    async with (
        serving(NoCaps(), tmp_path) as team,
        Consumer(amqp_url, topology, CHECKED, seen, publisher),
        antispam(amqp_url, topology, publisher, team, budget=5),
    ):
        await publisher.publish(MESSAGES, "", [message("calm"), message("loud", "BUY NOW")])
        verdicts = [verdict_of(await seen.next()) for _ in range(2)]
    assert verdicts == [PASSED, rejected("no_caps", "SHOUTING")]


async def test_a_silent_team_costs_no_more_than_the_budget(
    amqp_url: str, topology: Topology, publisher: Publisher, tmp_path: Path
) -> None:
    """A checker that does not answer leaves messages unchecked within the budget; own rules still reject."""
    seen = Recorder()
    async with (
        serving(Silent(), tmp_path) as team,
        Consumer(amqp_url, topology, CHECKED, seen, publisher),
        antispam(amqp_url, topology, publisher, team),
    ):
        started = time.monotonic()
        await publisher.publish(MESSAGES, "", [message("fine"), message("spam", GTUBE)])
        verdicts = [verdict_of(await seen.next()) for _ in range(2)]
        assert time.monotonic() - started < topology.window + BUDGET  # judged, not expired
    assert verdicts[0].decision == antispam_pb2.DECISION_UNCHECKED
    assert verdicts[0].checker == "team"
    assert verdicts[1] == rejected("blocklist", "BLOCKED_WORD")


async def test_a_message_that_waited_has_less_time(amqp_url: str, slow_topology: Topology) -> None:
    """The budget counts from publishing: what waited longer passes unchecked; a clock that errs means now."""
    topology = dataclasses.replace(slow_topology, window=3600.0)
    seen, own = Recorder(), rules(Settings(amqp_url=amqp_url))
    ages = {"waited": 90, "fresh": 0, "of the future": -3600, "absurd": 3 * 3600}
    async with Publisher(amqp_url, topology) as publisher:
        handler = Antispam(Judge([own], budget=5), publisher, budget=60)
        await publisher.ready()
        for name, age in ages.items():
            published = {PUBLISHED: int((time.time() - age) * 1000)}
            await publisher.publish_body(MESSAGES, "", encode([message(name, GTUBE)]), published)
        async with (
            Consumer(amqp_url, topology, CHECKED, seen, publisher),
            Consumer(amqp_url, topology, MESSAGES, handler, publisher),
        ):
            received = [await seen.next() for _ in ages]
    verdicts = {name_of(one.event): verdict_of(one) for one in received}
    spam = rejected("blocklist", "BLOCKED_WORD")
    assert verdicts.pop("waited") == antispam_pb2.Verdict(
        decision=antispam_pb2.DECISION_UNCHECKED, checker="antispam", reason="OUT_OF_TIME"
    )
    assert verdicts == {"fresh": spam, "of the future": spam, "absurd": spam}


async def test_the_process(amqp_url: str, slow_topology: Topology, tmp_path: Path) -> None:
    """`python -m antispam` judges what is queued, answers teams over gRPC, and stops cleanly when told to."""
    address = f"unix:{tmp_path}/antispam.sock"
    environment = {
        **os.environ,
        "AMQP_URL": amqp_url,
        "LISTEN": address,
        "QUEUE_PREFIX": slow_topology.prefix,
        "BLOCKED_SENDERS": "mallory from-bad",
    }
    seen = Recorder()
    # It ends with the tests, even when those are killed.
    command = ("setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "antispam")
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    try:
        async with (
            Channel(address) as channel,
            Publisher(amqp_url, slow_topology) as publisher,
            Consumer(amqp_url, slow_topology, CHECKED, seen, publisher),
        ):
            await asyncio.wait_for(channel.ready(), 20)
            await publisher.ready()
            await publisher.publish(MESSAGES, "", [message("good"), message("bad")])
            verdicts = [verdict_of(await seen.next()) for _ in range(2)]
            request = antispam_pb2.CheckRequest()
            request.candidates.add(message_id="asked", sender_id="mallory", text="Hi")
            answer = await CheckerServiceStub(channel).Check(request, timeout=5)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert verdicts == [PASSED, rejected("blocklist", "BLOCKED_SENDER")]
    assert list(answer.verdicts) == [rejected("blocklist", "BLOCKED_SENDER")]
