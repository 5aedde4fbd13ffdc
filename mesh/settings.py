"""Settings: one frozen class a service, from the environment; every problem is reported at once, by name."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Words = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(lambda value: tuple(value.split()) if isinstance(value, str) else value),
]
"""Several values in one variable, separated by white space."""


class CommonSettings(BaseSettings):
    """What every process of the mesh can be told."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    listen: str = Field(
        default="127.0.0.1:0",
        description="gRPC address of this process: host:port or unix:/path; port 0 picks a free one.",
    )
    log_level: str = Field(
        default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least level logged."
    )
    log_format: str = Field(
        default="json", pattern="^(json|console)$", description="Lines for machines or for people."
    )
    drain_seconds: float = Field(
        default=10.0, gt=0, description="How long a stopping process may finish what it has begun."
    )
    metrics_listen: str = Field(
        default="", pattern="^$|:[0-9]+$", description="host:port of /metrics for Prometheus; empty for none."
    )
    otel_exporter_otlp_endpoint: str = Field(
        default="",
        pattern="^$|^https?://",
        description="Where traces go by OTLP/gRPC, http://host:port; empty: nothing is traced.",
    )
    trace_sample_ratio: float = Field(
        default=0.01, ge=0, le=1, description="Share of clients' calls that are traced."
    )
    tls_ca: Path | None = Field(
        default=None,
        description="PEM file of the mesh's CA; with TLS_CERT and TLS_KEY all gRPC is mutual TLS.",
    )
    tls_cert: Path | None = Field(
        default=None, description="PEM file of this process's certificate, which names it to the others."
    )
    tls_key: Path | None = Field(default=None, description="PEM file of the certificate's private key.")
    plain_health: str = Field(
        default="",
        description="A second address, without TLS, for probes: it answers health and nothing else.",
    )
    extra_callers: Words = Field(
        default=(),
        description="Who may call this process beyond the protos' lists: caller=package.Service[/Method] …",
    )
    assertion_keys: Path | None = Field(
        default=None,
        description="JWKS file of the edges' public keys; calls must then prove the user that they are for.",
    )

    @model_validator(mode="after")
    def _whole_identity(self) -> "CommonSettings":
        files = (self.tls_ca, self.tls_cert, self.tls_key)
        if any(files) and not all(files):
            raise ValueError("set all of TLS_CA, TLS_CERT and TLS_KEY, or none of them")
        return self


class MongoSettings(BaseSettings):
    """Where the mailboxes are."""

    mongo_shards: Words = Field(min_length=1, description="MongoDB URIs, one a shard, in shard order.")
    mesh_mongo_driver: Literal["motor", "pymongo"] = Field(default="motor", description="The asyncio driver.")


class RedisSettings(BaseSettings):
    """Where the real-time bus is."""

    redis_urls: Words = Field(min_length=1, description="Redis nodes of the bus, in node order.")
    bus_retention_seconds: int = Field(
        default=86_400, gt=0, description="How long a user's stream outlives its last event."
    )
    bus_stream_length: int = Field(
        default=1_000, gt=0, description="About how many events a user's stream keeps."
    )


T = TypeVar("T", bound=CommonSettings)


def load(kind: type[T], name: str, **values: Any) -> T:
    """Reads a service's settings from the environment.

    Args:
        kind: the settings class.
        name: the service's name, for the message.
        values: fields that are not to be read from the environment.

    Raises:
        SystemExit: status 2, after every problem was printed with its variable and what it takes.
    """
    try:
        return kind(**values)
    except ValidationError as problems:
        print(f"{name}: the settings are not usable:", file=sys.stderr)  # noqa: T201  # logging is not set up yet
        for problem in problems.errors():
            field = str(problem["loc"][0]) if problem["loc"] else ""  # none: several together are wrong
            about = kind.model_fields[field].description if field in kind.model_fields else ""
            print(f"  {field.upper()}: {problem['msg']}. {about}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None
