"""What traces and metrics cost: `python -m bench.telemetry`. CPU per operation, the best of some rounds."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from mesh import call, metrics, tracing
from mesh.channel import Channel
from mesh.server import Server
from messenger.items.v1 import items_pb2, items_pb2_grpc

ROUNDS = 5


class Nowhere(SpanExporter):
    """Takes spans and forgets them."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See SpanExporter."""
        return SpanExportResult.SUCCESS


class Items(items_pb2_grpc.ItemsServiceServicer):
    """Answers with nothing."""

    async def BatchGetItems(self, request: object, context: object) -> items_pb2.BatchGetItemsResponse:  # noqa: N802
        """No items."""
        return items_pb2.BatchGetItemsResponse()


def best(operation: Callable[[], object], times: int = 50_000) -> float:
    """CPU of one call in µs."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(times):
            operation()
        rounds.append((time.process_time() - began) / times)
    return min(rounds) * 1e6


@contextlib.contextmanager
def traced(ratio: float) -> Iterator[None]:
    """Tracing as in production, but for where the spans go."""
    with tracing.exported("bench", BatchSpanProcessor(Nowhere()), ratio):
        yield


def show(what: str, microseconds: float) -> None:
    """Prints one figure."""
    print(f"{what:60} {microseconds:8.2f} µs")  # noqa: T201  # a benchmark


def instruments() -> None:
    """One measurement."""
    meter = sdk.MeterProvider([InMemoryMetricReader()]).get_meter("bench")
    theirs, labels = meter.create_histogram("bench"), {"method": "a", "code": "OK"}
    ours = metrics.histogram("bench", "", ("method", "code"), bounds=metrics.SECONDS).labels("a", "OK")
    show("histogram, OpenTelemetry's own", best(lambda: theirs.record(0.01, labels)))
    show("histogram, bound series", best(lambda: ours.record(0.01)))
    show("counter, bound series", best(metrics.counter("bench_counter", "").labels().add))


def spans() -> None:
    """One span."""

    def one() -> None:
        with tracing.span("bench"):
            pass

    unsampled, sampled = call.new_traceparent(), call.new_traceparent()[:-1] + "1"
    with traced(1), call.within(call.Call(traceparent=unsampled)):
        show("span, not sampled", best(one))
        many = [unsampled] * 64
        show("batch of 64, none sampled", best(lambda: tracing.batch("bench", 0, many), 5_000))  # type: ignore[arg-type]
    with traced(1), call.within(call.Call(traceparent=sampled)):
        show("span, sampled", best(one, 5_000))


async def hops() -> None:
    """One gRPC call, both sides, on a unix socket."""
    with tempfile.TemporaryDirectory() as directory:
        server = Server(f"unix:{directory}/socket")
        server.add(items_pb2_grpc.add_ItemsServiceServicer_to_server, Items())
        await server.start()
        await server.set_serving(True)
        async with Channel(server.address) as channel:
            await channel.ready()
            stub = items_pb2_grpc.ItemsServiceStub(channel)
            figures: dict[float, list[float]] = {0: [], 0.01: [], 1: []}
            for _ in range(ROUNDS):
                for ratio, found in figures.items():
                    with traced(ratio):
                        found.append(await _hop(stub))
            for ratio, found in figures.items():
                show(f"gRPC call, client and server, sampled {ratio:.0%}", min(found))
        await server.stop(0)


async def _hop(stub: items_pb2_grpc.ItemsServiceStub, times: int = 1_000) -> float:
    request = items_pb2.BatchGetItemsRequest(item_ids=["a"])
    began = time.process_time()
    for _ in range(times):
        root = tracing.root("bench")
        with root, call.within(call.Call(traceparent=root.traceparent)):
            await stub.BatchGetItems(request)
    return (time.process_time() - began) / times * 1e6


if __name__ == "__main__":
    instruments()
    spans()
    asyncio.run(hops())
