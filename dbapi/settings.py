"""What a dbapi process can be told."""

from pydantic import Field

from mesh.amqp.settings import QueueSettings
from mesh.settings import CommonSettings, MongoSettings


class Settings(CommonSettings, MongoSettings, QueueSettings):
    """dbapi: the wrapper over the mailboxes."""

    relay_after_seconds: float = Field(
        default=5.0, gt=0, description="Age at which an unconfirmed event is published again."
    )
    relay_every_seconds: float = Field(
        default=1.0, gt=0, description="How often the relay looks for such events."
    )
    audit_every_seconds: float = Field(
        default=3600.0,
        ge=0,
        description="How often one dbapi looks whether all has arrived, and sends it again; 0: never.",
    )
    audit_settled_seconds: float = Field(
        default=600.0, gt=0, description="Age below which something may still be on its way, for the audit."
    )
