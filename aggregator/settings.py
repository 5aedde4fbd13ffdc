"""What an aggregator process can be told."""

from pydantic import Field

from mesh.settings import CommonSettings, RedisSettings


class Settings(CommonSettings, RedisSettings):
    """The aggregator: business rules over the other services."""

    dbapi_address: str = Field(description="gRPC target of dbapi.")
    profiles_address: str = Field(
        default="", description="gRPC target of the profiles service; dbapi's by default."
    )
    items_address: str = Field(
        default="", description="gRPC target of the items service; dbapi's by default."
    )
    mailbox_shards: int = Field(
        default=8, ge=1, description="How many shards dbapi has: messages of one wait for no other's."
    )
    optional_seconds: float = Field(
        default=0.15, gt=0, description="What an optional part may cost an answer, in seconds."
    )
    remembered_seconds: float = Field(
        default=10.0, ge=0, description="How long profiles and items are taken for current; 0: always asked."
    )
