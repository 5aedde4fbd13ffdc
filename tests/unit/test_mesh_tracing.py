"""What is recorded of a trace, and that the rest costs nothing and goes through unchanged."""

from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from mesh import call, tracing
from mesh.errors import NotFound

UNSAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
SAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """Takes what is recorded; every root is sampled."""
    exporter = InMemorySpanExporter()
    with tracing.exported("test", SimpleSpanProcessor(exporter), 1.0):
        yield exporter


def spans(exporter: InMemorySpanExporter) -> list[tuple[str, str]]:
    """Name and parent's span id of what was recorded, in order of ending."""
    return [(span.name, _hex(span)) for span in exporter.get_finished_spans()]


def _hex(span: ReadableSpan) -> str:
    return f"{span.parent.span_id:016x}" if span.parent else ""


@pytest.mark.parametrize(
    ("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("fe", False)]
)
def test_the_lowest_bit_decides(flags: str, sampled: bool) -> None:
    """Of the flags only the lowest bit says whether a trace is sampled (W3C Trace Context, 3.3)."""
    assert tracing.sampled(SAMPLED[:-2] + flags) is sampled


@pytest.mark.parametrize("nothing", ["", UNSAMPLED, "nonsense"])
def test_what_is_not_sampled_passes_through(exporter: InMemorySpanExporter, nothing: str) -> None:
    """Nothing is recorded, and the context stays the caller's."""
    with call.within(call.Call(traceparent=nothing)), tracing.span("hop") as span:
        assert call.current().traceparent == span.traceparent == nothing
    with tracing.batch("hop", SpanKind.PRODUCER, [nothing, nothing]) as batch:
        assert list(batch.traceparents) == [nothing, nothing]
    assert spans(exporter) == []


def test_spans_are_each_other_s_parents(exporter: InMemorySpanExporter) -> None:
    """Within a span the call's context is the span's; after it, its caller's again."""
    with call.within(call.Call(traceparent=SAMPLED, user_id="alice")):
        with tracing.span("outer") as outer, tracing.span("inner") as inner:
            assert call.current() == call.Call(traceparent=inner.traceparent, user_id="alice")
        assert call.current().traceparent == SAMPLED
    assert call.trace_id(inner.traceparent) == call.trace_id(SAMPLED)
    assert spans(exporter) == [("inner", outer.traceparent[36:52]), ("outer", SAMPLED[36:52])]


def test_a_root_is_what_its_trace_id_says(exporter: InMemorySpanExporter) -> None:
    """A sampled root has no parent, and the trace id that errors will name."""
    with tracing.root("messages.send") as root:
        pass
    [span] = exporter.get_finished_spans()
    assert span.parent is None
    assert f"{span.context.trace_id:032x}" == call.trace_id(root.traceparent)
    assert tracing.sampled(root.traceparent)


def test_without_a_collector_nothing_is_sampled() -> None:
    """Where spans go nowhere, roots are not sampled, and a sampled context from elsewhere passes through."""
    with tracing.exported("test", None, 1.0):
        assert not tracing.sampled(tracing.root("messages.send").traceparent)
        assert tracing.span("hop", parent=SAMPLED).traceparent == SAMPLED


def test_an_error_is_marked_by_its_reason_alone(exporter: InMemorySpanExporter) -> None:
    """The text of an error may hold what a trace must not."""
    with pytest.raises(NotFound), tracing.span("hop", parent=SAMPLED):
        raise NotFound("There is no chat about the secret.", reason="NO_CHAT")
    with pytest.raises(ValueError, match="secret"), tracing.span("hop", parent=SAMPLED):
        raise ValueError("secret")
    recorded = exporter.get_finished_spans()
    assert [span.status.description for span in recorded] == ["NO_CHAT", "ValueError"]
    assert not any(span.events or "secret" in span.to_json() for span in recorded)


def test_a_batch_gives_each_sampled_item_its_own_span(exporter: InMemorySpanExporter) -> None:
    """Sampled items go on under their own spans, the others unchanged; the first sampled one leads."""
    other = SAMPLED.replace("4bf9", "5bf9")
    with tracing.batch("publish", SpanKind.PRODUCER, [UNSAMPLED, SAMPLED, "", other]) as batch:
        behind = list(batch.traceparents)
    assert [behind[0], behind[2]] == [UNSAMPLED, ""]
    assert [call.trace_id(behind[n]) for n in (1, 3)] == [call.trace_id(SAMPLED), call.trace_id(other)]
    assert batch.traceparent == behind[1]
    assert spans(exporter) == [("publish", SAMPLED[36:52]), ("publish", other[36:52])]


def test_libraries_spans_become_children(exporter: InMemorySpanExporter) -> None:
    """A span that a library makes with OpenTelemetry's own API is a child of ours."""
    with tracing.span("hop", parent=SAMPLED) as ours:
        inner = trace.get_current_span().get_span_context()
    assert f"{inner.span_id:016x}" == ours.traceparent[36:52]
