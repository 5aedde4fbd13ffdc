"""A trace collector, a Prometheus, and what asks them."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import httpx
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from mesh.stack import Stack
from tests.contract.device import Device

PATIENCE = 30.0
"""Seconds that anything may take here; only failures wait so long."""

DEPLOY = Path(__file__).parents[2] / "deploy"

METHOD_TOKENS = 30
"""Calls of one method that a user of the observed stack has at once."""

T = TypeVar("T")

Connect = Callable[..., Awaitable[Device]]


async def eventually(look: Callable[[], Awaitable[T]], good: Callable[[T], object] = bool) -> T:
    """What `look` answers as soon as it is good; fails with its last answer."""
    until = time.monotonic() + PATIENCE
    while not good(answer := await look()):
        assert time.monotonic() < until, answer
        await asyncio.sleep(0.1)
    return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A span as it was exported; ids in hex, `text` all of it."""

    trace_id: str
    span_id: str
    parent_id: str
    service: str
    name: str
    status: str
    text: str


class Collector(TraceServiceServicer):
    """Takes traces by OTLP, as a real collector does.

    Attributes:
        endpoint: for OTEL_EXPORTER_OTLP_ENDPOINT.
        spans: all that came.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._server = grpc.server(ThreadPoolExecutor(2))
        add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> "Collector":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()

    def Export(  # noqa: N802  # the proto's name
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        """Keeps the spans."""
        for resource in request.resource_spans:
            about = {one.key: one.value.string_value for one in resource.resource.attributes}
            self.spans += [
                Span(
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    service=about["service.name"],
                    name=span.name,
                    status=span.status.message,
                    text=str(span),
                )
                for scope in resource.scope_spans
                for span in scope.spans
            ]
        return ExportTraceServiceResponse()

    async def trace(self, trace_id: str, good: Callable[[list[Span]], object]) -> list[Span]:
        """The spans of a trace, when they are good."""

        async def look() -> list[Span]:
            return [span for span in self.spans if span.trace_id == trace_id]

        return await eventually(look, good)

    async def trace_of(self, text: str, good: Callable[[list[Span]], object]) -> list[Span]:
        """The spans of the trace in which some span holds a text, when they are good."""

        async def look() -> list[Span]:
            found = {span.trace_id for span in self.spans if text in span.text}
            return [span for span in self.spans if span.trace_id in found]

        return await eventually(look, good)


class Prometheus:
    """A Prometheus that scrapes a stack and evaluates the alert rules of deploy/."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, trust_env=False, timeout=PATIENCE)

    async def get(self, path: str, **params: str) -> Any:
        """The data of an answer of its API."""
        response = await self._http.get(f"/api/v1/{path}", params=params)
        answer = response.json()
        assert answer["status"] == "success", answer
        return answer["data"]

    async def value(self, query: str) -> float | None:
        """The value of a query that has one series; None where there is none."""
        result = (await self.get("query", query=query))["result"]
        assert len(result) <= 1, result
        return float(result[0]["value"][1]) if result else None

    async def reaches(self, query: str, least: float) -> float:
        """The value of a query, as soon as it is as great as that."""
        found = await eventually(
            lambda: self.value(query), lambda value: value is not None and value >= least
        )
        assert found is not None
        return found

    async def ready(self) -> bool:
        """Whether it answers."""
        try:
            return (await self._http.get("/-/ready")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    async def aclose(self) -> None:
        """Forgets its connections."""
        await self._http.aclose()


def program(name: str) -> str:
    """Where one of Prometheus' programs is."""
    found = shutil.which(name)
    assert found, f"{name} is not on PATH. Install it: deploy/local/setup.sh metrics"
    return found


def targets(stack: Stack) -> dict[str, list[str]]:
    """Where /metrics is served, by service."""
    found: dict[str, list[str]] = {}
    for program in stack.plan.programs:
        if listen := program.env.get("METRICS_LISTEN"):
            found.setdefault(program.command[-1], []).append(listen)
    return found


@contextmanager
def prometheus(stack: Stack, port: int, directory: Path) -> Iterator[str]:
    """Runs a Prometheus over a stack; its URL."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(DEPLOY / "prometheus" / "rules.yml")],
        "scrape_configs": [
            {"job_name": service, "static_configs": [{"targets": listens}]}
            for service, listens in targets(stack).items()
        ],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(  # noqa: S603  # our own words
            (
                program("prometheus"),
                f"--config.file={directory}/prometheus.yml",
                f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ),
            stderr=log,
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()
