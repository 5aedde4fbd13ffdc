"""Settings of every process that meets the queues; all of them must be told the same."""

from typing import Annotated

from pydantic import BeforeValidator, Field, PositiveFloat
from pydantic_settings import BaseSettings, NoDecode

from mesh.amqp.topology import Topology

Seconds = Annotated[
    tuple[PositiveFloat, ...],
    NoDecode,
    BeforeValidator(lambda value: tuple(value.split()) if isinstance(value, str) else value),
]
"""Several times in one variable, separated by white space."""


class QueueSettings(BaseSettings):
    """Where the queues are, and their numbers."""

    amqp_url: str = Field(
        pattern=r"^amqps?://\S+(\s+amqps?://\S+)*$",
        description="RabbitMQ, amqp://user:password@host:port/vhost; nodes separated by white space.",
    )
    queue_prefix: str = Field(
        default="", description="Put before every exchange and queue on a shared broker."
    )
    antispam_window_ms: int = Field(
        default=2_000, gt=0, description="How long a message waits for antispam before it goes on unchecked."
    )
    retry_ladder_seconds: Seconds = Field(
        default=(1, 10, 60),
        min_length=1,
        description="Pauses before further attempts, separated by white space; the last one repeats.",
    )
    retry_max_attempts: int = Field(default=10, gt=0, description="Attempts until an event is parked.")

    def topology(self) -> Topology:
        """Names and numbers of the queues."""
        return Topology(
            prefix=self.queue_prefix,
            window=self.antispam_window_ms / 1000,
            ladder=self.retry_ladder_seconds,
            max_attempts=self.retry_max_attempts,
        )
