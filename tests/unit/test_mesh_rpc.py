"""Server and channel together over a real unix socket: what travels, what comes back, what stays inside."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from mesh import call, channel
from mesh.channel import Channel
from mesh.errors import (
    BY_CODE,
    DeadlineExceeded,
    IdempotencyConflict,
    Internal,
    InvalidArgument,
    MessengerError,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from mesh.server import Server
from messenger.profiles.v1 import profiles_pb2, profiles_pb2_grpc

Request, Response = profiles_pb2.BatchGetProfilesRequest, profiles_pb2.BatchGetProfilesResponse
ASK = Request(user_ids=["alice"])
CALLS = 200


class Profiles(profiles_pb2_grpc.ProfilesServiceServicer):
    """Does what the test wants, and remembers the call that it ran in."""

    def __init__(self) -> None:
        self.calls: list[call.Call] = []
        self.behave: Callable[[], Awaitable[None]] = _nothing

    async def BatchGetProfiles(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answers nobody."""
        self.calls.append(call.current())
        await self.behave()
        return Response()


async def _nothing() -> None:
    pass


@pytest.fixture
def profiles() -> Profiles:
    """The servicer behind the socket."""
    return Profiles()


@pytest.fixture
async def server(profiles: Profiles, tmp_path: Path) -> AsyncIterator[Server]:
    """A server on a unix socket."""
    server = Server(f"unix:{tmp_path}/rpc.sock")
    server.add(profiles_pb2_grpc.add_ProfilesServiceServicer_to_server, profiles)
    await server.start()
    await server.set_serving(True)
    yield server
    await server.stop(0)


@pytest.fixture
async def stub(server: Server) -> AsyncIterator[profiles_pb2_grpc.ProfilesServiceStub]:
    """A generated stub over our channel."""
    async with Channel(server.address) as channel:
        yield profiles_pb2_grpc.ProfilesServiceStub(channel)


@pytest.fixture
async def plain(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    """GRPC's own channel, as a tool or a team without our code has it."""
    async with grpc.aio.insecure_channel(server.address) as plain:
        yield plain


def raising(error: Exception) -> Callable[[], Awaitable[None]]:
    """A behaviour that fails."""

    async def fail() -> None:
        raise error

    return fail


async def test_a_call_travels(stub: Any, profiles: Profiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """User and trace arrive as they were sent, and the deadline less the caller's margin."""
    monkeypatch.setattr(channel, "MARGIN", 1.0)
    trace = call.new_traceparent()
    with call.within(call.Call(deadline=time.monotonic() + 3, user_id="alice", traceparent=trace)):
        assert await stub.BatchGetProfiles(ASK) == Response()
    [seen] = profiles.calls
    assert (seen.user_id, seen.traceparent) == ("alice", trace)
    assert time.monotonic() + 0.5 < seen.deadline < time.monotonic() + 2.1


async def test_a_call_wakes_no_thread_of_an_event_engine(stub: Any) -> None:
    """Our processes use gRPC's older poller (ADR 15): its event engine hands each call to more threads."""
    await stub.BatchGetProfiles(ASK)
    before = _wakes("event_engine")
    for _ in range(CALLS):
        await stub.BatchGetProfiles(ASK)
    assert _wakes("event_engine") - before < CALLS / 2, (
        "gRPC knows our GRPC_EXPERIMENTS no more, or ignores them"
    )


def _wakes(name: str) -> int:
    """How often this process's threads of a name were switched to."""
    wakes = 0
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if (thread / "comm").read_text().strip() == name:
                wakes += int((thread / "schedstat").read_text().split()[2])
    return wakes


async def test_no_call_is_without_a_deadline(stub: Any, profiles: Profiles) -> None:
    """Outside of any call the channel's own cap counts; a cap of the call's only shortens it."""
    await stub.BatchGetProfiles(ASK)
    await stub.BatchGetProfiles(ASK, timeout=1)
    capped, own = [seen.deadline - time.monotonic() for seen in profiles.calls]
    assert channel.DEFAULT_CAP - 2 < capped <= channel.DEFAULT_CAP * 1.02, "gRPC rounds timeouts up"
    assert 0 < own <= 1.02
    assert all(seen.traceparent for seen in profiles.calls), (
        "each call has a trace, if only from the server on"
    )
    assert all(seen.user_id == "" for seen in profiles.calls)


async def test_a_caller_out_of_time_does_not_call(stub: Any, profiles: Profiles) -> None:
    """With less than the margin left nothing is sent."""
    with (
        call.within(call.Call(deadline=time.monotonic() + channel.MARGIN / 2)),
        pytest.raises(DeadlineExceeded),
    ):
        await stub.BatchGetProfiles(ASK)
    assert profiles.calls == []


async def test_a_call_that_runs_out_of_time(stub: Any, profiles: Profiles) -> None:
    """A handler that hangs is DeadlineExceeded for its caller, when the time is up and not later."""
    profiles.behave = asyncio.Event().wait  # type: ignore[assignment]
    started = time.monotonic()
    with call.budget(0.1), pytest.raises(DeadlineExceeded, match="ran out of time"):
        await stub.BatchGetProfiles(ASK)
    assert time.monotonic() - started < 2


async def test_a_call_that_arrives_too_late_is_refused_at_the_door(
    plain: grpc.aio.Channel, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What arrives with less than the least budget never reaches the handler."""
    monkeypatch.setattr("mesh.server.LEAST_BUDGET", 30.0)
    ask = profiles_pb2_grpc.ProfilesServiceStub(plain).BatchGetProfiles
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ask(ASK, timeout=20)
    assert refused.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert profiles.calls == []
    await ask(ASK)
    assert profiles.calls[0].deadline == math.inf


@pytest.mark.parametrize("kind", [*BY_CODE.values(), IdempotencyConflict])
async def test_errors_keep_what_they_say(stub: Any, profiles: Profiles, kind: type[MessengerError]) -> None:
    """An error arrives with its type, text, reason and pause."""
    profiles.behave = raising(kind("what happened"))
    with pytest.raises(kind) as plain:
        await stub.BatchGetProfiles(ASK)
    assert type(plain.value) is kind
    assert (plain.value.detail, plain.value.reason) == ("what happened", kind.default_reason)
    assert plain.value.retry_after_ms is None


async def test_an_error_keeps_its_own_reason_and_pause(stub: Any, profiles: Profiles) -> None:
    """A reason of its own and a pause travel in the status details."""
    profiles.behave = raising(ResourceExhausted("later", reason="SHED", retry_after_ms=1250))
    with pytest.raises(ResourceExhausted) as refused:
        await stub.BatchGetProfiles(ASK)
    assert (refused.value.reason, refused.value.retry_after_ms) == ("SHED", 1250)


@pytest.mark.parametrize(
    "error", [RuntimeError("password=hunter2"), KeyError("hunter2"), ValueError("hunter2")]
)
async def test_the_unexpected_says_nothing(
    stub: Any, plain: Any, profiles: Profiles, error: Exception
) -> None:
    """An exception that leaves a handler shows nothing of itself, neither to our channel nor to another's."""
    profiles.behave = raising(error)
    with pytest.raises(Internal) as ours:
        await stub.BatchGetProfiles(ASK)
    with pytest.raises(grpc.aio.AioRpcError) as theirs:
        await profiles_pb2_grpc.ProfilesServiceStub(plain).BatchGetProfiles(ASK)
    shown = f"{ours.value.detail} {theirs.value} {theirs.value.trailing_metadata()}"
    assert "hunter2" not in shown
    assert type(error).__name__ not in shown


async def test_bad_requests_are_refused_by_name(stub: Any, profiles: Profiles) -> None:
    """A request that breaks its proto's limits is refused before the handler, naming the field."""
    with pytest.raises(InvalidArgument, match=r"^user_ids: "):
        await stub.BatchGetProfiles(Request())
    assert profiles.calls == []


async def test_what_is_not_served(server: Server) -> None:
    """A method that the server lacks, and a server that is not there, are told without names."""
    async with Channel(server.address) as ours:
        method = ours.unary_unary("/no.Such/Method", Request.SerializeToString, Response.FromString)
        with pytest.raises(Unimplemented):
            await method(ASK)
    async with Channel(f"{server.address}.nowhere") as nowhere:
        stub: Any = profiles_pb2_grpc.ProfilesServiceStub(nowhere)
        with pytest.raises(Unavailable) as refused:
            await stub.BatchGetProfiles(ASK, timeout=5)
    assert "sock" not in refused.value.detail


async def test_health(server: Server, plain: grpc.aio.Channel) -> None:
    """Health answers for the process and for each service, and follows set_serving."""
    check = health_pb2_grpc.HealthStub(plain).Check
    for serving in (True, False):
        await server.set_serving(serving)
        for name in ("", "messenger.profiles.v1.ProfilesService"):
            status = (await check(health_pb2.HealthCheckRequest(service=name))).status
            assert (status == health_pb2.HealthCheckResponse.SERVING) == serving


async def test_reflection(plain: grpc.aio.Channel) -> None:
    """Tools find the services without having the protos."""
    stub = reflection_pb2_grpc.ServerReflectionStub(plain)
    asked = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    answer = await asked.read()
    names = {service.name for service in answer.list_services_response.service}
    assert {"messenger.profiles.v1.ProfilesService", "grpc.health.v1.Health"} <= names


async def test_a_channel_that_goes_away_leaves_others_alone(server: Server, profiles: Profiles) -> None:
    """Closing one channel to an address does not disturb another one to it."""
    async with Channel(server.address) as one:
        async with Channel(server.address) as other:
            await profiles_pb2_grpc.ProfilesServiceStub(other).BatchGetProfiles(ASK)
        await profiles_pb2_grpc.ProfilesServiceStub(one).BatchGetProfiles(ASK)
    assert len(profiles.calls) == 2
