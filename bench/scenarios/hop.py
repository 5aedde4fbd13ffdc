"""`hop`: one internal call between two processes.

Plain, as gRPC comes; on a shared stream; with the mesh's channel and server around it; and as sending uses
it, many messages in one call.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any

import grpc

from bench.accounts import per_item
from bench.fleet import Fleet
from bench.measure import Sample
from bench.report import Context, Result
from bench.stats import Figures, latencies
from mesh import call
from mesh.batching import Batcher
from mesh.channel import Channel
from mesh.server import Server
from mesh.shared.client import SharedChannel
from mesh.shared.server import Sharing
from messenger.dbapi.v1 import dbapi_pb2, dbapi_pb2_grpc

AT_ONCE = (1, 16, 64)
WAYS = ("plain", "shared", "mesh", "batched")
MESSAGE = dbapi_pb2.NewMessage(
    owner_id="alice",
    chat_id="4b0e4c8a-6a52-5a0e-9f4e-8f1d1f0b6a11",
    text="#17 kilo mike oscar",
    client_msg_id="alice-17",
)


class Echo(dbapi_pb2_grpc.MailboxServiceServicer):
    """Answers at once; nothing else of the service is called."""

    async def AppendMessages(  # noqa: N802  # the proto's name
        self, request: dbapi_pb2.AppendMessagesRequest, context: Any
    ) -> dbapi_pb2.AppendMessagesResponse:
        """As many results as messages."""
        stored = dbapi_pb2.AppendResult(appended=dbapi_pb2.Appended())
        return dbapi_pb2.AppendMessagesResponse(results=[stored] * len(request.messages))


def echo() -> dbapi_pb2_grpc.MailboxServiceServicer:
    """The servicer, all of whose other methods are missing."""
    return Echo()  # type: ignore[abstract]


class Answering:
    """Driver: the called process, once as gRPC comes and once with the mesh's guard."""

    async def serve(self) -> tuple[str, str]:
        """Opens both ports; their addresses."""
        plain = grpc.aio.server()
        dbapi_pb2_grpc.add_MailboxServiceServicer_to_server(echo(), plain)
        sharing = Sharing()
        dbapi_pb2_grpc.add_MailboxServiceServicer_to_server(echo(), sharing)
        plain.add_generic_rpc_handlers((sharing.handler,))
        port = plain.add_insecure_port("127.0.0.1:0")
        await plain.start()
        guarded = Server("127.0.0.1:0")
        guarded.add(dbapi_pb2_grpc.add_MailboxServiceServicer_to_server, echo())
        await guarded.start()
        await guarded.set_serving(True)
        self._servers = plain, guarded
        return f"127.0.0.1:{port}", guarded.address


class Asking:
    """Driver: the calling process.

    Args:
        plain: address of the server as gRPC comes.
        guarded: address of the mesh's.
    """

    def __init__(self, plain: str, guarded: str) -> None:
        channel = grpc.aio.insecure_channel(plain)
        self._stubs = {
            "plain": dbapi_pb2_grpc.MailboxServiceStub(channel),
            "shared": dbapi_pb2_grpc.MailboxServiceStub(SharedChannel(channel)),
            "mesh": dbapi_pb2_grpc.MailboxServiceStub(Channel(guarded)),
        }
        self._batched: Batcher[dbapi_pb2.NewMessage, object] = Batcher(self._flush, concurrency=4)

    async def ask(self, way: str, at_once: int, seconds: float) -> Sample:
        """Calls in that many loops, for so long; counts calls, or messages where they are batched."""
        sample, until = Sample(), time.monotonic() + seconds

        async def loop() -> None:
            while (began := time.monotonic()) < until:
                with call.within(call.Call(deadline=began + 5, user_id="alice", traceparent=TRACE)):
                    await self._once(way)
                sample.seconds["call"].append(time.monotonic() - began)

        await asyncio.gather(*(loop() for _ in range(at_once)))
        return sample

    async def _once(self, way: str) -> None:
        if way == "batched":
            await self._batched.submit(MESSAGE)
        else:
            request = dbapi_pb2.AppendMessagesRequest(messages=[MESSAGE])
            await self._stubs[way].AppendMessages(request, timeout=5)

    async def _flush(self, messages: Sequence[dbapi_pb2.NewMessage]) -> Sequence[object]:
        request = dbapi_pb2.AppendMessagesRequest(messages=messages)
        response = await self._stubs["mesh"].AppendMessages(request)
        return list(response.results)


TRACE = call.new_traceparent()


def hop(context: Context) -> Result:
    """Measures a hop.

    Args:
        context: length of runs, progress.
    """
    runs: list[Figures] = []
    with contextlib.ExitStack() as leave:
        answering = leave.enter_context(Fleet(Answering, [()]))
        [addresses] = answering.each("serve")
        asking = leave.enter_context(Fleet(Asking, [addresses]))
        seconds = context.seconds / len(AT_ONCE) / len(WAYS)
        for number in range(1, context.runs + 1):
            context.told(f"run {number} of {context.runs}")
            runs.append(
                {
                    f"{way}_{at_once}": _measure(asking, answering, way, at_once, seconds)
                    for way in WAYS
                    for at_once in AT_ONCE
                }
            )
    return Result.of(
        "hop", runs, settings={"seconds_each": round(seconds, 2)}, headlines=("mesh_1.cpu_us_per_call.total",)
    )


def _measure(asking: Fleet, answering: Fleet, way: str, at_once: int, seconds: float) -> Figures:
    asking.each("ask", way, at_once, seconds / 5)
    before = asking.seconds(), answering.seconds()
    [sample] = asking.each("ask", way, at_once, seconds)
    used = {"client": asking.seconds() - before[0], "server": answering.seconds() - before[1]}
    times = sample.seconds["call"]
    return {
        "calls_per_s": round(len(times) / seconds, 1),
        **latencies(times),
        "cpu_us_per_call": per_item(used, len(times)),
    }
