"""Traces through OpenTelemetry: decided once at the root, and free where they are not sampled.

The trace context travels in `call.Call`, and from process to process in gRPC metadata, in each queued event
and in the bus's entries. Only a sampled call reaches OpenTelemetry's SDK; for the others a span is an object
that does nothing. A batch gives each of its sampled items a span of its own, so that every trace is whole;
calls made for a batch as a whole belong to its first sampled item.
Source: https://www.w3.org/TR/trace-context/
"""

import contextlib
import random
from collections.abc import Iterator, Sequence
from contextvars import Token
from typing import Any

from msgspec.structs import replace
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mesh import call
from mesh.errors import MessengerError

_SAMPLED = frozenset("13579bdf")  # the lowest bit of the flags

_propagator = TraceContextTextMapPropagator()
_tracer: trace.Tracer | None = None
_ratio = 0.0


@contextlib.contextmanager
def exported(service: str, processor: SpanProcessor | None, ratio: float) -> Iterator[None]:
    """Samples and exports traces for as long as the block runs.

    Args:
        service: the process's logical name.
        processor: takes the spans; None: nothing is traced here, and contexts pass through.
        ratio: share of the roots made here that are sampled, 0..1; what comes in is as its root decided.
    """
    global _tracer, _ratio
    if processor is None:
        yield
        return
    # Who comes here is sampled: `root` and the caller's root have decided.
    provider = TracerProvider(
        sampler=ALWAYS_ON,
        resource=Resource.create({SERVICE_NAME: service}),
        span_limits=SpanLimits(max_span_attribute_length=256),
    )
    provider.add_span_processor(processor)
    _tracer, _ratio = provider.get_tracer("messenger"), ratio
    try:
        yield
    finally:
        _tracer, _ratio = None, 0.0
        provider.shutdown()


def to_collector(endpoint: str) -> SpanProcessor | None:
    """Sends spans to a collector by OTLP/gRPC, in the background and in batches; None for no endpoint."""
    return BatchSpanProcessor(OTLPSpanExporter(endpoint)) if endpoint else None


def sampled(traceparent: str) -> bool:
    """Whether spans of this trace are recorded."""
    return traceparent[-1:] in _SAMPLED


class Span:
    """A piece of a trace, to be entered once; this one records nothing.

    Attributes:
        traceparent: the context for what is done within it.
    """

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str) -> None:
        self.traceparent = traceparent

    def __enter__(self) -> "Span":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Ends it; an error marks it as failed, by its reason alone."""


class _Recorded(Span):
    """A span in the SDK. While entered it is the current call's trace context."""

    __slots__ = ("_otel", "_span", "_within")

    def __init__(self, span: trace.Span) -> None:
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, trace.set_span_in_context(span, Context()))
        super().__init__(carrier[call.TRACE_KEY])
        self._span = span
        self._within: Any = None
        self._otel: Token[Context] | None = None

    def __enter__(self) -> Span:
        self._within = call.within(replace(call.current(), traceparent=self.traceparent))
        self._within.__enter__()
        # For spans of libraries and of teams' own code.
        self._otel = otel_context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if self._otel is not None:
            otel_context.detach(self._otel)
            self._within.__exit__(None, None, None)
        self.end(error)

    def end(self, error: BaseException | None) -> None:
        """Ends it in the SDK. Texts of errors may hold what a trace must not: only the reason is kept."""
        if error is not None:
            reason = error.reason if isinstance(error, MessengerError) else type(error).__name__
            self._span.set_status(trace.StatusCode.ERROR, reason)
        self._span.end()


def root(name: str, **attributes: str) -> Span:
    """Begins a trace: sampled or not, its id stands in `traceparent` at once.

    Args:
        name: of the span; one of few.
        attributes: what else is known; no texts of users, no tokens.
    """
    if _tracer is None or random.random() >= _ratio:  # noqa: S311  # samples, guards nothing
        return Span(call.new_traceparent())
    return _Recorded(_tracer.start_span(name, Context(), SpanKind.SERVER, attributes))


def span(
    name: str, kind: SpanKind = SpanKind.INTERNAL, *, parent: str | None = None, **attributes: str
) -> Span:
    """A piece of the current call's trace, or of the trace `parent` (a traceparent)."""
    traceparent = call.current().traceparent if parent is None else parent
    if _tracer is None or not sampled(traceparent):
        return Span(traceparent)
    return _start(_tracer, name, kind, traceparent, attributes)


def _start(
    tracer: trace.Tracer, name: str, kind: SpanKind, traceparent: str, attributes: dict[str, Any]
) -> _Recorded:
    parent = _propagator.extract({call.TRACE_KEY: traceparent}, Context())
    return _Recorded(tracer.start_span(name, parent, kind, attributes))


class Batch:
    """One piece of work for many calls, to be entered once.

    Attributes:
        traceparents: the context of each item behind this piece, in order.
        traceparent: the context for what is done for all of them.
    """

    __slots__ = ("_spans", "traceparent", "traceparents")

    def __init__(self, name: str, kind: SpanKind, traceparents: Sequence[str]) -> None:
        self.traceparents = traceparents
        self._spans: list[_Recorded] = []
        if _tracer is not None and any(map(sampled, traceparents)):
            self._record(_tracer, name, kind)
        first = self._spans[0].traceparent if self._spans else next(filter(None, traceparents), "")
        self.traceparent = first or call.new_traceparent()

    def _record(self, tracer: trace.Tracer, name: str, kind: SpanKind) -> None:
        attributes = {"messaging.batch.message_count": len(self.traceparents)}
        behind = list(self.traceparents)
        for index, traceparent in enumerate(behind):
            if sampled(traceparent):
                self._spans.append(_start(tracer, name, kind, traceparent, attributes))
                behind[index] = self._spans[-1].traceparent
        self.traceparents = behind

    def __enter__(self) -> "Batch":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Ends the spans."""
        for one in self._spans:
            one.end(error)


def batch(name: str, kind: SpanKind, traceparents: Sequence[str]) -> Batch:
    """A piece of each of these traces, and of none where none is sampled."""
    return Batch(name, kind, traceparents)
