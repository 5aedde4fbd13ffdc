"""Calls that share a stream keep what gRPC promises each: deadline, cancellation, status, metadata."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from mesh.shared import client, frames, server
from mesh.shared.client import SharedChannel
from mesh.shared.server import Sharing
from messenger.profiles.v1 import profiles_pb2, profiles_pb2_grpc

Request, Response = profiles_pb2.BatchGetProfilesRequest, profiles_pb2.BatchGetProfilesResponse


class Profiles(profiles_pb2_grpc.ProfilesServiceServicer):
    """Answers the ids that it is asked for, after what the test does in between."""

    def __init__(self) -> None:
        self.contexts: list[Any] = []
        self.behave: Callable[[Any, Any], Awaitable[None]] = _nothing

    async def BatchGetProfiles(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.contexts.append(context)
        await self.behave(request, context)
        return Response(profiles=[profiles_pb2.Profile(user_id=user_id) for user_id in request.user_ids])


async def _nothing(request: Any, context: Any) -> None:
    pass


class Side:
    """A server on a unix socket, with shared streams or without."""

    def __init__(self, address: str, *, shares: bool = True) -> None:
        self.profiles, self.sharing, self.address = Profiles(), Sharing(), address
        self.server = grpc.aio.server()
        self.server.add_insecure_port(address)
        add = profiles_pb2_grpc.add_ProfilesServiceServicer_to_server
        add(self.profiles, self.server)
        if shares:
            add(self.profiles, self.sharing)
            self.server.add_generic_rpc_handlers((self.sharing.handler,))


@pytest.fixture
async def side(tmp_path: Path) -> AsyncIterator[Side]:
    """The called side."""
    side = Side(f"unix:{tmp_path}/rpc.sock")
    await side.server.start()
    yield side
    await side.server.stop(0)


@pytest.fixture
async def ask(side: Side) -> AsyncIterator[Callable[..., Awaitable[list[str]]]]:
    """Asks for profiles; the ids that came back."""
    async with grpc.aio.insecure_channel(side.address) as plain:
        shared = SharedChannel(plain)
        stub = profiles_pb2_grpc.ProfilesServiceStub(shared)

        async def ask(*user_ids: str, **options: Any) -> list[str]:
            response = await stub.BatchGetProfiles(Request(user_ids=user_ids), **options)
            return [profile.user_id for profile in response.profiles]

        yield ask
        shared.cancel()


Ask = Callable[..., Awaitable[list[str]]]


async def test_each_call_has_its_own_answer(side: Side, ask: Ask) -> None:
    """Many at once: every caller gets what it asked for, and they came on shared streams."""
    answers = await asyncio.gather(*(ask(f"user-{n}", timeout=5) for n in range(300)))
    assert answers == [[f"user-{n}"] for n in range(300)]
    assert all(isinstance(context, server._Context) for context in side.profiles.contexts)


async def test_a_slow_call_holds_nobody_up(side: Side, ask: Ask) -> None:
    """Others are answered while one is still worked on."""
    go_on = asyncio.Event()

    async def slow(request: Any, _: Any) -> None:
        if request.user_ids[0] == "slow":
            await go_on.wait()

    side.profiles.behave = slow
    waiting = asyncio.ensure_future(ask("slow", timeout=5))
    assert await asyncio.gather(*(ask("fast", timeout=5) for _ in range(8))) == [["fast"]] * 8
    assert not waiting.done()
    go_on.set()
    assert await waiting == ["slow"]


async def test_deadline(side: Side, ask: Ask) -> None:
    """A call ends at its own deadline on both sides, and its handler sees how much is left."""
    ended = asyncio.Event()

    async def never(_: Any, context: Any) -> None:
        assert 0 < context.time_remaining() <= 0.1
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    side.profiles.behave = never
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await ask("late", timeout=0.1)
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(ended.wait(), 5)


async def test_a_silent_stream_is_left(side: Side, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a call that timed out in silence the next one goes on another stream; a lively one is kept."""
    monkeypatch.setattr(client, "STREAMS", 1)

    async def hang(request: Any, _: Any) -> None:
        if request.user_ids[0] == "hangs":
            await asyncio.Event().wait()

    side.profiles.behave = hang
    hanging = asyncio.ensure_future(ask("hangs", timeout=0.3))
    await ask("lively", timeout=5)
    with pytest.raises(grpc.aio.AioRpcError):
        await hanging
    await ask("same", timeout=5)
    with pytest.raises(grpc.aio.AioRpcError):
        await ask("hangs", timeout=0.1)
    await ask("other", timeout=5)
    first, *_, last = (context._stream for context in side.profiles.contexts)
    assert side.profiles.contexts[-3]._stream is first
    assert last is not first


async def test_cancellation(side: Side, ask: Ask) -> None:
    """Who gives up ends the work on the other side, and no other call."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def never(request: Any, _: Any) -> None:
        if request.user_ids[0] == "given up":
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

    side.profiles.behave = never
    waiting = asyncio.ensure_future(ask("given up", timeout=60))
    await asyncio.wait_for(began.wait(), 5)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.wait_for(ended.wait(), 5)
    assert await ask("next", timeout=5) == ["next"]


async def test_status_details_and_trailers(side: Side, ask: Ask) -> None:
    """What a handler aborts with arrives whole, and its neighbours' answers, too."""

    async def refuse(request: Any, context: Any) -> None:
        if request.user_ids[0] == "refused":
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now", (("why-bin", b"\x00\xff"),))

    side.profiles.behave = refuse
    refused, good = await asyncio.gather(
        ask("refused", timeout=5), ask("good", timeout=5), return_exceptions=True
    )
    assert isinstance(refused, grpc.aio.AioRpcError)
    assert (refused.code(), refused.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "not now")
    assert dict(refused.trailing_metadata() or ()) == {"why-bin": b"\x00\xff"}
    assert good == ["good"]


async def test_an_unexpected_failure_says_nothing(side: Side, ask: Ask) -> None:
    """What escapes from a handler is Internal, without a word of the inside."""

    async def broken(request: Any, _: Any) -> None:
        raise ValueError("a secret")

    side.profiles.behave = broken
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await ask("x", timeout=5)
    assert failed.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(failed.value)


async def test_metadata(side: Side, ask: Ask) -> None:
    """Each call has its own."""
    await asyncio.gather(*(ask("x", timeout=5, metadata=(("x-user-id", f"u{n}"),)) for n in range(8)))
    seen = [dict(context.invocation_metadata())["x-user-id"] for context in side.profiles.contexts]
    assert sorted(seen) == [f"u{n}" for n in range(8)]


async def test_unknown_method(side: Side) -> None:
    """A method that nobody serves is UNIMPLEMENTED, alone."""
    async with grpc.aio.insecure_channel(side.address) as plain:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await SharedChannel(plain).unary_unary("/none.Such/Method")(b"", timeout=5)
    assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_server_without_streams_is_called_plainly(tmp_path: Path) -> None:
    """Another team's server, which knows nothing of this, is called as ever."""
    side = Side(f"unix:{tmp_path}/plain.sock", shares=False)
    await side.server.start()
    async with grpc.aio.insecure_channel(side.address) as plain:
        stub = profiles_pb2_grpc.ProfilesServiceStub(SharedChannel(plain))
        for _ in range(2):
            assert (await stub.BatchGetProfiles(Request(user_ids=["a"]), timeout=5)).profiles
    assert not any(isinstance(context, server._Context) for context in side.profiles.contexts)
    await side.server.stop(0)


class Hiding:
    """A channel whose streams all end as gRPC reports it where a write found the stream ended."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.unary_unary, self.streams = channel.unary_unary, 0

    def stream_stream(self, _method: str) -> Callable[[], "Hiding"]:
        self.streams += 1
        return lambda: self

    async def write(self, _data: bytes) -> None:
        pass

    async def read(self) -> Any:
        return grpc.aio.EOF

    async def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.INTERNAL

    async def details(self) -> str:
        return "Internal error from Core"


async def test_a_stream_that_hides_why_it_ended_costs_no_attempt(side: Side) -> None:
    """Where gRPC says INTERNAL, perhaps for UNIMPLEMENTED, the call goes plainly and the next tries again."""
    async with grpc.aio.insecure_channel(side.address) as plain:
        hiding: Any = Hiding(plain)
        stub = profiles_pb2_grpc.ProfilesServiceStub(SharedChannel(hiding))
        for streams in (1, 2):
            assert (await stub.BatchGetProfiles(Request(user_ids=["a"]), timeout=5)).profiles
            assert hiding.streams == streams


async def test_a_server_that_leaves_loses_no_call(side: Side, ask: Ask) -> None:
    """What is under way is answered on the old stream, what comes later goes by a new one."""
    go_on, began = asyncio.Event(), asyncio.Event()

    async def slow(request: Any, _: Any) -> None:
        if request.user_ids[0] == "slow":
            began.set()
            await go_on.wait()

    side.profiles.behave = slow
    waiting = asyncio.ensure_future(ask("slow", timeout=10))
    await asyncio.wait_for(began.wait(), 5)
    [old] = side.sharing._streams
    side.sharing.leave()
    assert await asyncio.gather(*(ask("later", timeout=5) for _ in range(8))) == [["later"]] * 8
    go_on.set()
    assert await waiting == ["slow"]
    async with asyncio.timeout(5):
        while old in side.sharing._streams:  # noqa: ASYNC110  # it ends by itself
            await asyncio.sleep(0.01)


async def test_a_channel_that_leaves_loses_no_call(side: Side) -> None:
    """What is under way is answered, and then the channel closes without waiting for its grace."""
    go_on, began = asyncio.Event(), asyncio.Event()

    async def slow(_: Any, __: Any) -> None:
        began.set()
        await go_on.wait()

    side.profiles.behave = slow
    plain = grpc.aio.insecure_channel(side.address)
    shared = SharedChannel(plain)
    stub = profiles_pb2_grpc.ProfilesServiceStub(shared)
    waiting = asyncio.ensure_future(stub.BatchGetProfiles(Request(user_ids=["x"]), timeout=10))
    await asyncio.wait_for(began.wait(), 5)
    shared.leave()
    closing = asyncio.ensure_future(plain.close(60))
    go_on.set()
    assert (await waiting).profiles
    await asyncio.wait_for(closing, 5)


async def test_a_dead_server_is_unavailable(side: Side, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call on a stream that broke fails as UNAVAILABLE once its repetitions did, too."""
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.001)
    began = asyncio.Event()

    async def never(_: Any, __: Any) -> None:
        began.set()
        await asyncio.Event().wait()

    side.profiles.behave = never
    waiting = asyncio.ensure_future(ask("x", timeout=5))
    await asyncio.wait_for(began.wait(), 5)
    await side.server.stop(0)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await waiting
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_too_many_calls(side: Side, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its bound a stream refuses, instead of keeping ever more."""
    monkeypatch.setattr(server, "MAX_CALLS", 2)
    go_on = asyncio.Event()

    async def slow(_: Any, __: Any) -> None:
        await go_on.wait()

    side.profiles.behave = slow
    asked = [asyncio.ensure_future(ask("x", timeout=5)) for _ in range(2 * client.STREAMS + 2)]
    done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED, timeout=5)
    go_on.set()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    refused = [one for one in outcomes if isinstance(one, grpc.aio.AioRpcError)]
    assert done
    assert {one.code() for one in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert len(outcomes) - len(refused) >= 2


async def test_answers_of_many_calls_share_frames(
    side: Side, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where many calls are under way, answers that are ready one after the other go together."""
    monkeypatch.setattr(frames, "LINGER", 0.3)
    decode, heard, arrived = frames.decode_answers, list[int](), asyncio.Semaphore(0)
    places = {f"user-{n}": asyncio.Event() for n in range(2 * frames.MANY * client.STREAMS)}

    def count(data: bytes) -> frames.Answers:
        frame = decode(data)
        heard.append(len(frame.answers))
        return frame

    async def in_turn(request: Any, _: Any) -> None:
        arrived.release()
        await places[request.user_ids[0]].wait()

    monkeypatch.setattr(frames, "decode_answers", count)
    side.profiles.behave = in_turn
    asked = [asyncio.ensure_future(ask(user_id, timeout=20)) for user_id in places]
    for _ in places:
        await arrived.acquire()
    for place in places.values():
        place.set()
        await asyncio.sleep(0.002)
    assert await asyncio.gather(*asked) == [[user_id] for user_id in places]
    assert len(heard) <= 2 * client.STREAMS, "the first may find too few under way"


async def test_few_calls_wait_for_nothing(side: Side, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """With few calls under way neither they nor their answers wait for others."""
    monkeypatch.setattr(frames, "LINGER", 60.0)
    few = frames.MANY - 1
    assert await asyncio.gather(*(ask("x", timeout=5) for _ in range(few))) == [["x"]] * few


@pytest.mark.parametrize(
    ("ready", "under_way", "waits"),
    [
        (1, 1, False),
        (1, frames.MANY - 1, False),
        (1, frames.MANY, True),
        (4, 9, True),
        (4, 8, False),
        (9, 9, False),
    ],
)
def test_a_frame_waits_where_most_are_yet_to_come(ready: int, under_way: int, waits: bool) -> None:
    """With few calls, or most of them ready, a frame goes at once."""
    assert frames.waits(ready, under_way) is waits


def test_frames_have_a_size() -> None:
    """A frame takes calls while there is room, and one that is larger than a frame goes alone."""
    asks = [frames.Ask(number, "/a/B", b"x" * size, 1.0, []) for number, size in enumerate((60, 30, 30, 500))]
    assert [[ask.number for ask in frames.take(asks, 100)] for _ in range(3)] == [[0, 1], [2], [3]]
    assert asks == []
