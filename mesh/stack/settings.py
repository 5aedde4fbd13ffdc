"""What the local stack may be told, from the environment. Where programs go follows in plan.py."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from mesh.settings import Words
from mesh.stack.ca import write_secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """What a stack's parts know each other by. Hexadecimal, so that they fit into any URL and file.

    Attributes:
        jwt: signs clients' tokens, HS256.
        mongo: password of the services' user on every shard.
        mongo_key: by which a replica set's members know each other.
        redis: password of the services' user on every node.
        rabbitmq: password of the services' user.
        erlang: by which a broker's nodes know each other.
    """

    jwt: str
    mongo: str
    mongo_key: str
    redis: str
    rabbitmq: str
    erlang: str


class StackSettings(BaseSettings):
    """The local stack's settings; each field is the environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    stack_dir: Path = Field(default=Path(".stack"), description="Data, logs and generated configuration.")
    stack_port_base: int = Field(
        default=21000, ge=1024, le=65400, description="All ports but MESSENGER_PORT follow."
    )
    stack_shards: int = Field(default=8, ge=1, le=8, description="How many MongoDB replica sets to start.")
    stack_members: int = Field(default=1, ge=1, le=3, description="Members of each MongoDB replica set.")
    stack_brokers: int = Field(default=1, ge=1, le=3, description="Nodes of the RabbitMQ cluster.")
    stack_replicas: int = Field(
        default=1, ge=1, le=2, description="Processes of each service; there are two edges in any case."
    )
    stack_detour: int = Field(
        default=0,
        description="Added to each port at which servers and services are reached, for a proxy in between.",
    )
    stack_timeout_s: float = Field(
        default=90.0, gt=0, description="How long one stage may take to become ready."
    )
    messenger_port: int = Field(
        default=8000, ge=1, le=65535, description="NGINX: the only address that clients need."
    )
    mongo_shards: Words = Field(
        default=(), description="URIs of existing replica sets; none are started then."
    )
    amqp_url: str = Field(default="", description="URL of an existing RabbitMQ; none is started then.")
    redis_urls: Words = Field(default=(), description="URLs of existing Redis nodes; none are started then.")
    jwt_secret: str = Field(
        default="", description="HS256 secret; kept in STACK_DIR and made there by default."
    )

    @property
    def directory(self) -> Path:
        """The stack's directory, absolute."""
        return self.stack_dir.absolute()

    @property
    def messenger_url(self) -> str:
        """The address of the web client and of the client contract."""
        return f"http://127.0.0.1:{self.messenger_port}"

    def secret(self) -> str:
        """The HS256 secret of this stack; makes and keeps one where there is none yet."""
        return self.jwt_secret or self._kept("jwt")

    def secrets(self) -> Secrets:
        """All secrets of this stack; makes and keeps those that there are not yet."""
        return Secrets(
            jwt=self.secret(),
            mongo=self._kept("mongo"),
            mongo_key=self._kept("mongo-key"),
            redis=self._kept("redis"),
            rabbitmq=self._kept("rabbitmq"),
            erlang=self._kept("erlang"),
        )

    def _kept(self, name: str) -> str:
        path = self.directory / f"{name}.secret"
        if not path.exists():
            write_secret(path, secrets.token_hex(32).encode())
        return path.read_text()
