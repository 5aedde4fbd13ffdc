"""The one lifecycle of every process: settings, logs, gRPC server with health, readiness, signals, drain.

run(name, Settings, wire)
  wire(settings, app)     builds the parts, serves and starts them through `app`
  … SERVING as soon as every readiness check answers, NOT_SERVING whenever one fails …
  SIGTERM or SIGINT       NOT_SERVING, `on_drain` hooks, server grace, background work cancelled, parts closed
"""

import asyncio
import contextlib
import contextvars
import gc
import resource
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import structlog
import uvloop

from mesh import call, logs, metrics, tracing
from mesh.assertion import Verifier
from mesh.channel import Channel, nobody
from mesh.server import Security, Server
from mesh.settings import CommonSettings, load
from mesh.tls import Tls

log = structlog.get_logger()

S = TypeVar("S", bound=CommonSettings)
Check = Callable[[], Awaitable[object]]
Wire = Callable[[S, "App"], Awaitable[None]]

YOUNG_OBJECTS = 20_000
"""New containers after which the cyclic collector looks at them; Python's own 700 are one message's."""

CHECK_SECONDS = 2.0
"""How long one readiness check may take."""


class App:
    """What a service's `wire` works with.

    Attributes:
        stack: closes what is entered here, in reverse order, at the very end.
        ready: whether every readiness check answered when last asked.
    """

    def __init__(self, name: str, settings: CommonSettings) -> None:
        self.name = name
        self.stack = contextlib.AsyncExitStack()
        self.ready = False
        self._settings = settings
        self._security = _security(settings)
        self._server = Server(settings.listen, security=self._security, plain_health=settings.plain_health)
        self._checks: dict[str, Check] = {}
        self._lasting: set[str] = set()
        self._drains: list[Callable[[], Awaitable[None]]] = []
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._stopping = asyncio.Event()
        self._failed = False
        metrics.watch("messenger_ready", "1 while every readiness check answers.", lambda: float(self.ready))

    @property
    def address(self) -> str:
        """Where the gRPC server listens."""
        return self._server.address

    @property
    def verifier(self) -> Verifier:
        """Proves the users of calls."""
        return self._security.verifier

    async def channel(
        self, address: str, service: str = "", *, assertion: Callable[[], str] = nobody
    ) -> Channel:
        """A gRPC channel with this process's certificates, closed at the end; see Channel."""
        channel = Channel(address, service=service, tls=self._security.tls, assertion=assertion)
        return await self.stack.enter_async_context(channel)

    def serve(self, add_to_server: Callable[[Any, Any], None], servicer: object) -> None:
        """Serves a gRPC servicer, by its generated `add_…Servicer_to_server`."""
        self._server.add(add_to_server, servicer)

    def background(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Runs `work` for as long as the process lives; its failure ends the process with status 1."""
        task = asyncio.get_running_loop().create_task(work, name=name, context=contextvars.Context())
        self._tasks[task] = name
        task.add_done_callback(self._ended)

    def check(self, name: str, answers: Check, *, lasting: bool = False) -> None:
        """Adds a readiness check: raises, or takes over 2 s, where the process cannot serve.

        Args:
            name: of the part, for logs and `/readyz`.
            answers: asks the part.
            lasting: the process cannot serve anything without the part. Any other is waited for at the start
                only: a process that can do half of its work must not be taken out of service.
        """
        self._checks[name] = answers
        if lasting:
            self._lasting.add(name)

    def on_drain(self, hook: Callable[[], Awaitable[None]]) -> None:
        """Adds what is done first when the process is told to stop, in order of adding."""
        self._drains.append(hook)

    def stop(self) -> None:
        """Tells the process to stop, as SIGTERM does."""
        self._stopping.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self._stopping.is_set():
            return
        log.error(
            "background work ended; the process stops", work=self._tasks[task], exc_info=task.exception()
        )
        self._failed = True
        self._stopping.set()

    async def main(self, wire: "Wire[Any]") -> int:
        """Runs the process; returns its exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        metrics.watch("messenger_tasks", "Tasks of the event loop.", lambda: len(asyncio.all_tasks(loop)))
        async with self.stack:
            await wire(self._settings, self)
            await self._server.start()
            _leave_to_refcounts()
            log.info("started", listen=self._server.address)
            watch = loop.create_task(self._watch_readiness())
            await self._stopping.wait()
            watch.cancel()
            await self._drain()
        log.info("stopped")
        return int(self._failed)

    async def _watch_readiness(self) -> None:
        while True:
            failing = await self.failing()
            if (ready := not failing) != self.ready:
                self.ready = ready
                log.info("ready" if ready else "not ready", waiting_for=failing)
                await self._server.set_serving(ready)
            await asyncio.sleep(1.0 if ready else 0.1)

    async def failing(self) -> list[str]:
        """Names of the readiness checks that fail now."""
        names = list(self._checks)
        outcomes = await asyncio.gather(*(self._answers(self._checks[name]) for name in names))
        for name, good in zip(names, outcomes, strict=True):
            if good and name not in self._lasting:
                self._checks.pop(name, None)
        return [name for name, good in zip(names, outcomes, strict=True) if not good]

    async def _answers(self, check: Check) -> bool:
        try:
            with call.budget(CHECK_SECONDS):
                await asyncio.wait_for(check(), CHECK_SECONDS)
        except Exception as error:  # whatever the part raises, it cannot serve
            log.debug("readiness check failed", error=repr(error))
            return False
        return True

    async def _drain(self) -> None:
        self.ready = False
        log.info("draining")
        await self._server.set_serving(False)
        for hook in self._drains:
            try:
                await asyncio.wait_for(hook(), self._settings.drain_seconds)
            except Exception:
                log.exception("a drain hook failed")
        await self._server.stop(self._settings.drain_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _leave_to_refcounts() -> None:
    """Has the cyclic collector look at what is new, and seldom: calls and events make no cycles to speak of.

    What is there by now stays until the end, so it is never looked at again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 20)


def _open_all_files_allowed() -> None:
    """Takes as many descriptors as the process may have: a container may begin with 1,024, one a socket."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _security(settings: CommonSettings) -> Security:
    tls = None
    if settings.tls_ca and settings.tls_cert and settings.tls_key:
        tls = Tls(settings.tls_ca, settings.tls_cert, settings.tls_key)
    return Security(tls=tls, extra_callers=settings.extra_callers, verifier=Verifier(settings.assertion_keys))


def run(name: str, settings: type[S], wire: Wire[S]) -> None:
    """Runs a service process until it is told to stop.

    Args:
        name: the service's logical name, in logs and health.
        settings: its settings class, read from the environment.
        wire: builds its parts.

    Raises:
        SystemExit: always; 0 after a graceful stop, 1 where background work failed, 2 for bad settings.
    """
    values = load(settings, name)
    logs.configure(name, level=values.log_level, style=values.log_format)
    _open_all_files_allowed()

    async def main() -> int:
        return await App(name, values).main(wire)

    collector = tracing.to_collector(values.otel_exporter_otlp_endpoint)
    with (
        metrics.served(name, values.metrics_listen),
        tracing.exported(name, collector, values.trace_sample_ratio),
    ):
        status = uvloop.run(main())
    raise SystemExit(status)
