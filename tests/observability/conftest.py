"""Services that are traced, measured and told to log everything, on the session's servers."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mesh import tokens
from mesh.stack import Stack, StackSettings
from mesh.stack.ports import reserve_block
from tests.contract.device import Device, open_device
from tests.observability.support import METHOD_TOKENS, Collector, Connect, Prometheus, eventually, prometheus


@pytest.fixture(scope="package")
def collector() -> Iterator[Collector]:
    """Takes the traces."""
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="package")
def observed(
    servers: Stack, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A second set of services and an NGINX: every call traced, no profiles service, few tokens a user."""
    env = servers.env()
    telling = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "TRACE_SAMPLE_RATIO": "1",
        "LOG_LEVEL": "DEBUG",
        "QUEUE_PREFIX": f"{uuid.uuid4().hex}.",
        "PROFILES_ADDRESS": "127.0.0.1:1",
        "LIMIT_RATE": "1",
        "LIMIT_BURST": str(METHOD_TOKENS),
    }
    block = reserve_block()
    with block.guard, pytest.MonkeyPatch.context() as patch:
        for key, value in telling.items():
            patch.setenv(key, value)
        settings = StackSettings(
            stack_dir=tmp_path_factory.mktemp("observed"),
            stack_port_base=block.base,
            messenger_port=block.base + 90,
            mongo_shards=tuple(env["MONGO_SHARDS"].split()),
            redis_urls=tuple(env["REDIS_URLS"].split()),
            amqp_url=env["AMQP_URL"],
        )
        stack = Stack(settings)
        try:
            stack.up(attached=True)
            yield stack
        finally:
            stack.down()
            stack.remove()


@pytest.fixture(scope="package")
def token(observed: Stack) -> Callable[[str], str]:
    """Makes tokens for users."""
    secret = observed.settings.secret()
    return lambda user: tokens.issue(user, secret=secret, now=datetime.now(UTC), ttl=timedelta(hours=1))


@pytest.fixture
async def connect(observed: Stack, token: Callable[[str], str]) -> AsyncIterator[Connect]:
    """Opens devices, of a user and on a transport; a WebSocket by default."""
    opened: list[Device] = []

    async def open_one(user: str, transport: str = "ws") -> Device:
        opened.append(await open_device(transport, observed.settings.messenger_url, user, token(user)))
        return opened[-1]

    yield open_one
    for device in opened:
        await device.close()


@pytest.fixture
def name() -> Callable[[str], str]:
    """User ids that no other test has: `name("alice")`."""
    suffix = uuid.uuid4().hex[:12]
    return lambda person: f"{person}-{suffix}"


@pytest.fixture(scope="package")
async def scraper(observed: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    """A Prometheus over these services."""
    port = observed.settings.stack_port_base + 95
    with prometheus(observed, port, Path(tmp_path_factory.mktemp("prometheus"))) as url:
        scraper = Prometheus(url)
        await eventually(scraper.ready)
        yield scraper
        await scraper.aclose()
