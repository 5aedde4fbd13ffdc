"""Queues between the services, on RabbitMQ: topology, publisher, consumer. The events' meaning is others'."""

from mesh.amqp.consumer import Consumer, Handler, Later, retry_of
from mesh.amqp.delivery import DONE, Delivery, Done, Outcome, Park, Received, Retry
from mesh.amqp.depths import watch_depths
from mesh.amqp.publisher import Publisher
from mesh.amqp.topology import CHECKED, LATE, MESSAGES, PARKED, PAUSE, RETRY, Topology

__all__ = [
    "CHECKED",
    "DONE",
    "LATE",
    "MESSAGES",
    "PARKED",
    "PAUSE",
    "RETRY",
    "Consumer",
    "Delivery",
    "Done",
    "Handler",
    "Later",
    "Outcome",
    "Park",
    "Publisher",
    "Received",
    "Retry",
    "Topology",
    "retry_of",
    "watch_depths",
]
