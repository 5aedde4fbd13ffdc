"""Declares the topology once, for `python -m mesh migrate`; services declare it on every connection."""

import asyncio

from mesh.amqp.link import CONNECT_TIMEOUT, CURE, connected, is_precondition
from mesh.amqp.topology import Topology, declare
from mesh.amqp.wire import DOWN
from mesh.errors import FailedPrecondition, Unavailable


async def migrate(url: str, topology: Topology) -> None:
    """Declares what is not there yet.

    Raises:
        FailedPrecondition: a queue of that name is there with other arguments, which a broker cannot change.
        Unavailable: the broker does not answer.
    """
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT), connected(url) as wire:
            await declare(wire, topology)
    except TimeoutError:
        raise Unavailable(DOWN) from None
    except Unavailable as error:
        if is_precondition(error.__cause__):
            raise FailedPrecondition(f"{error.__cause__}. {CURE}") from None
        raise
