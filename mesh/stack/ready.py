"""How a program of the stack shows that it is ready. Each check asks once; who asks again is stack.py."""

import asyncio
import http.client
import logging
import socket
from dataclasses import dataclass
from typing import Protocol

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
    """Ready when this member belongs to a replica set that has a primary.

    Args:
        port: where the member is asked.
        replica_set: its name.
        founds: addresses of all members, as they and clients reach them, where this one makes the set; two
            that did would each wait for the other. Empty for the others.
    """

    port: int
    replica_set: str
    founds: tuple[str, ...]

    def probe(self) -> str:
        """See Check."""
        if closed := PortOpen(port=self.port).probe():
            return closed
        from pymongo import MongoClient
        from pymongo.errors import PyMongoError

        host = f"127.0.0.1:{self.port}"
        timeout_ms = int(PROBE_TIMEOUT_S * 1000)
        try:
            with MongoClient[dict[str, object]](
                host, directConnection=True, serverSelectionTimeoutMS=timeout_ms
            ) as client:
                hello = client.admin.command("hello")
                if "setName" not in hello and self.founds:
                    client.admin.command("replSetInitiate", self._config())
                    hello = client.admin.command("hello")
        except PyMongoError as error:
            return f"mongod: {error.__class__.__name__}"
        return "" if hello.get("isWritablePrimary") or hello.get("primary") else "no primary yet"

    def _config(self) -> dict[str, object]:
        members = [{"_id": index, "host": host} for index, host in enumerate(self.founds)]
        return {
            "_id": self.replica_set,
            "members": members,
            "settings": {"electionTimeoutMillis": ELECTION_TIMEOUT_MS},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisPong:
    """Ready when PING is answered, thus when the data is loaded."""

    port: int

    def probe(self) -> str:
        """See Check."""
        from redis import Redis, RedisError

        try:
            with Redis(port=self.port, socket_timeout=PROBE_TIMEOUT_S) as client:
                client.ping()
        except RedisError as error:
            return f"redis: {error}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AmqpOpen:
    """Ready when the broker opens a connection to the virtual host: its node has booted then."""

    url: str
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
    """Ready when the gRPC health service says SERVING.

    Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
    """

    target: str

    def probe(self) -> str:
        """See Check."""
        import grpc
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        with grpc.insecure_channel(self.target) as channel:
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
