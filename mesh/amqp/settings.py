"""Settings of every process that meets the queues; all of them must be told the same."""

from pydantic import Field
from pydantic_settings import BaseSettings

from mesh.amqp.topology import Topology


class QueueSettings(BaseSettings):
    """Where the queues are, and their numbers."""

    amqp_url: str = Field(pattern="^amqps?://", description="RabbitMQ, amqp://user:password@host:port/vhost.")
    queue_prefix: str = Field(
        default="", description="Put before every exchange and queue on a shared broker."
    )
    antispam_window_ms: int = Field(
        default=2_000, gt=0, description="How long a message waits for antispam before it goes on unchecked."
    )
    retry_max_attempts: int = Field(default=10, gt=0, description="Attempts until an event is parked.")

    def topology(self) -> Topology:
        """Names and numbers of the queues."""
        return Topology(
            prefix=self.queue_prefix,
            window=self.antispam_window_ms / 1000,
            max_attempts=self.retry_max_attempts,
        )
