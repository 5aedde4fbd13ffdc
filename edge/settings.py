"""What an edge process can be told."""

from functools import cached_property
from pathlib import Path

from pydantic import Field, model_validator

from edge import table, teams
from edge.addresses import Proxies
from edge.keys import key_set
from mesh.settings import CommonSettings, RedisSettings, Words


class Settings(CommonSettings, RedisSettings):
    """The edge: clients' WebSockets and HTTP."""

    ws_listen: str = Field(default="127.0.0.1:0", description="host:port of the WebSocket listener.")
    http_listen: str = Field(default="127.0.0.1:0", description="host:port of the HTTP listener.")
    public_url: str = Field(default="http://127.0.0.1:8000", description="The address that clients use.")
    aggregator_address: str = Field(description="gRPC target of the aggregator.")
    dbapi_address: str = Field(
        description="gRPC target of dbapi, which fills a client's gap past the hot cache."
    )
    team_services: Words = Field(
        default=(), description="Teams' services that clients may call: package.Service=gRPC target …"
    )
    team_protos: Words = Field(
        default=(), description="Files of descriptor sets, with imports, that have these services."
    )
    jwt_secret: str = Field(default="", description="Shared secret of HS256 tokens; at least 32 bytes.")
    jwt_jwks: str = Field(
        default="", description="JWKS of RS256/ES256/EdDSA tokens: a file's path or an https URL."
    )
    dev_sign_in: bool = Field(
        default=False, description="Whoever asks gets anybody's token (POST /dev/token). Never on a cluster."
    )
    assertion_signing_key: Path | None = Field(
        default=None, description="PEM file of the Ed25519 key with which this edge vouches for its users."
    )
    allowed_origins: Words = Field(
        default=(),
        description="Origins of pages that may open a WebSocket, beside PUBLIC_URL's and the host's own.",
    )
    connect_seconds: float = Field(
        default=10.0, gt=0, description="How long a socket may stay unauthenticated."
    )
    expiring_seconds: float = Field(
        default=60.0, gt=0, description="How long before its token's end a session is told."
    )
    ping_seconds: float = Field(
        default=25.0, gt=0, description="Interval of WebSocket pings; two missed end a session."
    )
    limit_rate: float = Field(
        default=100.0, gt=0, description="Tokens that a user's bucket of one method gets a second."
    )
    limit_burst: float = Field(default=300.0, gt=0, description="Tokens that such a bucket holds.")
    limit_concurrent: int = Field(default=100, gt=0, description="Calls of one user under way at once.")
    calls_per_edge: int = Field(
        default=500,
        gt=0,
        description="Calls that an edge can work on at once; a fifth is kept for critical ones.",
    )
    user_sessions: int = Field(
        default=1_000,
        gt=0,
        description="Sessions of one user on one edge; the oldest is closed with 4503 for one more.",
    )
    trusted_proxies: Words = Field(
        default=("127.0.0.0/8", "::1/128"),
        description="Networks of the proxies in front, whose X-Forwarded-For says where a client comes from.",
    )
    address_connections: int = Field(
        default=10_000, gt=0, description="Sockets and requests of one address at once, on one edge."
    )
    address_handshakes: float = Field(
        default=500.0,
        gt=0,
        description="WebSockets that one address may open a second; ten seconds' worth at once.",
    )
    address_failures: float = Field(
        default=100.0,
        gt=0,
        description="Tokens that are none of ours, of one address a second; ten seconds' worth at once.",
    )
    patience_seconds: float = Field(
        default=15.0, gt=0, description="How long a client may take for one request, or one message."
    )
    outbound_bytes: int = Field(
        default=1_048_576,
        gt=0,
        description="Bytes that may wait for one slow client before it is closed with 4001.",
    )

    @model_validator(mode="after")
    def _can_authenticate(self) -> "Settings":
        if not self.jwt_secret and not self.jwt_jwks:
            raise ValueError("set JWT_SECRET or JWT_JWKS; without one nobody can sign in")
        if self.jwt_secret and len(self.jwt_secret.encode()) < 32:  # RFC 7518, 3.2
            raise ValueError("JWT_SECRET must have at least 32 bytes (RFC 7518, section 3.2)")
        if self.dev_sign_in and not self.jwt_secret:
            raise ValueError("DEV_SIGN_IN needs JWT_SECRET, which signs the tokens")
        Proxies(self.trusted_proxies)  # it says which one is no network
        if self.jwt_jwks:
            key_set(self.jwt_jwks)  # it says what is wrong with a URL
        return self

    @cached_property
    def teams(self) -> teams.Teams:
        """The services of other teams, as TEAM_SERVICES and TEAM_PROTOS name them."""
        return teams.load(self.team_services, map(Path, self.team_protos))

    @model_validator(mode="after")
    def _can_offer_teams_methods(self) -> "Settings":
        table.methods((*table.OWN, *self.teams.services))  # it says what cannot be offered
        return self
