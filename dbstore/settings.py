"""What a dbstore process can be told."""

from pydantic import Field

from mesh.amqp.settings import QueueSettings
from mesh.settings import CommonSettings, MongoSettings, RedisSettings


class Settings(CommonSettings, MongoSettings, QueueSettings, RedisSettings):
    """dbstore: carries events over into the peer's mailbox, and onto the bus."""

    prefetch: int = Field(default=256, gt=0, description="AMQP messages taken before the first is settled.")
    concurrency: int = Field(
        default=4, gt=0, description="Batches of events worked on at once, while they are small."
    )
