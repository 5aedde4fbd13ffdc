"""A broker that dies and comes back: one of this file's own.

RabbitMQ 3.10 may refuse new queues for long after its restart; at stake here are those that were there.
"""

import asyncio
import time
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from mesh.amqp import CHECKED, PARKED, Consumer, Publisher, Topology
from mesh.errors import Unavailable
from mesh.stack import Stack
from tests.amqp.conftest import broker_alone
from tests.amqp.support import Recorder, event


@pytest.fixture
def broker() -> Iterator[Stack]:
    """The broker that is stopped and started."""
    with broker_alone() as stack:
        yield stack


async def test_broker_outage(
    broker: Stack, amqp_url: str, topology: Topology, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    """A publish into an outage fails at once; afterwards all goes on by itself, with what was confirmed."""
    seen, late = Recorder(), Recorder()
    with capture_logs() as logs:
        async with Consumer(amqp_url, topology, CHECKED, seen, publisher) as consumer:
            await publisher.publish(CHECKED, "", [event("before")])
            await publisher.publish(PARKED, "", [event("confirmed")])
            assert await seen.names(1) == ["before"]
            await asyncio.to_thread(broker.stop, "rabbitmq")

            started = time.monotonic()
            with pytest.raises(Unavailable):
                await publisher.publish(CHECKED, "", [event("during")])
            assert time.monotonic() - started < 1
            assert not publisher.is_ready
            assert not consumer.is_ready

            async with Consumer(amqp_url, topology, PARKED, late, publisher) as without_broker:
                assert not without_broker.is_ready
                await asyncio.to_thread(broker.start, "rabbitmq")
                assert await late.names(1) == ["confirmed"]
            await asyncio.wait_for(publisher.ready(), 10)
            await publisher.publish(CHECKED, "", [event("after")])
            assert await seen.names(1) == ["after"]
    told = [line["event"] for line in logs if line.get("link") == "publisher"]
    assert told == ["broker lost", "broker connected"], "one line when it goes, one when it is back"
    assert len(caplog.records) < 10, "the driver makes no storm of it, either"
