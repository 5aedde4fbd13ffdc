"""How a program of the stack shows that it is ready. Each check asks once; who asks again is stack.py."""

import asyncio
import http.client
import logging
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from mesh.stack.ca import OPERATOR, Authority

if TYPE_CHECKING:
    from pymongo import MongoClient

PROBE_TIMEOUT_S = 2.0
ELECTION_TIMEOUT_MS = 2000


class Check(Protocol):
    """Asks a program once whether it does its work."""

    def probe(self) -> str:
        """Empty when ready, else why not, in a few words. Blocks for a few seconds at most; never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortOpen:
    """Ready when something accepts connections."""

    port: int

    def probe(self) -> str:
        """See Check."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=PROBE_TIMEOUT_S).close()
        except OSError as error:
            return f"port {self.port}: {error.strerror or error}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MongoMember:
    """Ready when this member belongs to a replica set that has a primary, and lets the services' user in.

    MongoDB takes the first user from the machine itself (its localhost exception); the primary is given it.

    Args:
        port: where the member is asked.
        replica_set: its name.
        founds: addresses of all members, as they and clients reach them, where this one makes the set; two
            that did would each wait for the other. Empty for the others.
        user, password: the services' user.
    """

    port: int
    replica_set: str
    founds: tuple[str, ...]
    user: str
    password: str = field(repr=False)

    def probe(self) -> str:
        """See Check."""
        if closed := PortOpen(port=self.port).probe():
            return closed
        from pymongo.errors import OperationFailure, PyMongoError

        try:
            try:
                return self._ask()
            except OperationFailure:  # there is no such user yet
                return self._set_up()
        except PyMongoError as error:
            return f"mongod: {error.__class__.__name__}"

    def _ask(self) -> str:
        with self._open(username=self.user, password=self.password) as client:
            hello = client.admin.command("hello")
        return "" if hello.get("isWritablePrimary") or hello.get("primary") else "no primary yet"

    def _set_up(self) -> str:
        with self._open() as client:
            hello = client.admin.command("hello")
            if "setName" not in hello and self.founds:
                client.admin.command("replSetInitiate", self._config())
            elif hello.get("isWritablePrimary"):
                # Data of all kinds, and no administration; the exception grants roles of `admin` alone.
                roles = ["readWriteAnyDatabase", "dbAdminAnyDatabase"]
                client.admin.command("createUser", self.user, pwd=self.password, roles=roles)
        return "it is being set up"

    def _open(self, **credentials: Any) -> "MongoClient[dict[str, object]]":
        from pymongo import MongoClient

        return MongoClient(
            "127.0.0.1",
            self.port,
            directConnection=True,
            serverSelectionTimeoutMS=int(PROBE_TIMEOUT_S * 1000),
            **credentials,
        )

    def _config(self) -> dict[str, object]:
        members = [{"_id": index, "host": host} for index, host in enumerate(self.founds)]
        return {
            "_id": self.replica_set,
            "members": members,
            "settings": {"electionTimeoutMillis": ELECTION_TIMEOUT_MS},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisPong:
    """Ready when PING is answered to the services' user, thus when the data is loaded."""

    url: str = field(repr=False)

    def probe(self) -> str:
        """See Check."""
        from redis import Redis, RedisError

        try:
            with Redis.from_url(self.url, socket_timeout=PROBE_TIMEOUT_S) as client:
                client.ping()
        except RedisError as error:
            return f"redis: {error}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AmqpOpen:
    """Ready when the broker opens a connection to the virtual host: its node has booted then."""

    url: str = field(repr=False)
    port: int

    def probe(self) -> str:
        """See Check."""
        if closed := PortOpen(port=self.port).probe():
            return closed
        import aiormq

        async def connect() -> None:
            connection = await aiormq.connect(self.url)
            await connection.close()

        logging.getLogger("aiormq").setLevel(logging.CRITICAL)
        try:
            asyncio.run(asyncio.wait_for(connect(), PROBE_TIMEOUT_S))
        except (aiormq.AMQPError, OSError, TimeoutError) as error:
            return f"amqp: {error.__class__.__name__}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcServing:
    """Ready when the gRPC health service says SERVING, under the certificate of this service.

    Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
    """

    target: str
    service: str
    authority: Authority

    def probe(self) -> str:
        """See Check."""
        import grpc
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        from mesh.tls import channel_credentials

        credentials = channel_credentials(self.authority.tls_of(OPERATOR).material)
        options = (("grpc.ssl_target_name_override", self.service),)
        with grpc.secure_channel(self.target, credentials, options) as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=PROBE_TIMEOUT_S
                )
            except grpc.RpcError as error:
                return f"gRPC health: {error.code().name}"
        status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        return "" if status == "SERVING" else f"gRPC health: {status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOk:
    """Ready when a GET is answered with 200."""

    port: int
    path: str

    def probe(self) -> str:
        """See Check."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PROBE_TIMEOUT_S)
        try:
            connection.request("GET", self.path)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            return f"GET {self.path}: {error}"
        finally:
            connection.close()
        return "" if status == http.HTTPStatus.OK else f"GET {self.path}: {status}"
