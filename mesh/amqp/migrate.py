"""Declares the topology once, for `python -m mesh migrate`; services declare it on every connection."""

import asyncio

from aio_pika.exceptions import ChannelPreconditionFailed

from mesh.amqp.link import CONNECT_TIMEOUT, connected, translated
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
        async with asyncio.timeout(CONNECT_TIMEOUT):
            with translated():
                async with connected(url) as connection, connection.channel() as channel:
                    await declare(channel, topology)
    except TimeoutError:
        raise Unavailable(DOWN) from None
    except Unavailable as error:
        if isinstance(error.__cause__, ChannelPreconditionFailed):
            raise FailedPrecondition(
                f"{error.__cause__}. Give every process the same queue settings, or delete the queue once"
                " it has run empty."
            ) from None
        raise
