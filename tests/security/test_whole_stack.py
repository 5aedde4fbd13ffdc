"""The running stack: who gets into its services and servers, and where its secrets are."""

import asyncio
import ssl
import stat
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiormq
import pytest
from cryptography import x509
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from mesh import call, tokens
from mesh.assertion import Signer
from mesh.channel import nobody
from mesh.errors import PermissionDenied, Unauthenticated, Unavailable
from mesh.stack import Stack, plan
from messenger.aggregator.v1 import aggregator_pb2, aggregator_pb2_grpc
from messenger.dbapi.v1 import dbapi_pb2, dbapi_pb2_grpc
from tests.contract.device import Device, open_device

CHATS = dbapi_pb2.ListChatsRequest(owner_id="alice", limit=10)


@pytest.fixture
def mailbox(stack: Stack, dial: Any) -> Callable[..., Any]:
    """Stubs of the running dbapi for a caller: `await mailbox("aggregator", assertion)`."""  # noqa: D402

    async def make(caller: str, assertion: str = "") -> dbapi_pb2_grpc.MailboxServiceStub:
        tls = plan.authority(stack.settings).tls_of(caller) if caller else None
        vouch = (lambda: assertion) if assertion else nobody
        channel = await dial(stack.env()["DBAPI_ADDRESS"], "dbapi", tls=tls, assertion=vouch)
        return dbapi_pb2_grpc.MailboxServiceStub(channel)

    return make


@pytest.fixture
def signer(stack: Stack) -> Signer:
    """The edges' hand."""
    return Signer(plan.assertion_keys(stack.settings)[0])


async def test_who_reads_a_chat_list(mailbox: Callable[..., Any], signer: Signer) -> None:
    """Only a service that may, with the call of the very user, reads chats from the running dbapi."""
    mine, others = signer.sign("alice"), signer.sign("mallory")
    for caller, assertion, kind in (
        ("", mine, Unavailable),
        ("antispam", mine, PermissionDenied),
        ("dbstore", mine, PermissionDenied),
        ("operator", mine, PermissionDenied),
        ("aggregator", "", PermissionDenied),
        ("aggregator", others, PermissionDenied),
        ("edge", others, PermissionDenied),
    ):
        with pytest.raises(kind):
            await (await mailbox(caller, assertion)).ListChats(CHATS, timeout=5)
    assert (await (await mailbox("aggregator", mine)).ListChats(CHATS, timeout=5)).next_cursor == ""
    assert (await (await mailbox("edge", mine)).ListChats(CHATS, timeout=5)).next_cursor == ""


async def test_who_asks_the_aggregator(stack: Stack, dial: Any, signer: Signer) -> None:
    """The aggregator works for the edge alone, and there only for the user whose call the edge holds."""

    async def ask(caller: str, assertion: str) -> aggregator_pb2.ListChatsResponse:
        tls = plan.authority(stack.settings).tls_of(caller)
        vouch = (lambda: assertion) if assertion else nobody
        channel = await dial(stack.env()["AGGREGATOR_ADDRESS"], "aggregator", tls=tls, assertion=vouch)
        stub = aggregator_pb2_grpc.MessengerServiceStub(channel)
        with call.within(call.Call(user_id="alice")):  # which only claims
            answer: aggregator_pb2.ListChatsResponse = await stub.ListChats(
                aggregator_pb2.ListChatsRequest(), timeout=5
            )
        return answer

    for caller in ("antispam", "dbstore", "dbapi", "operator"):
        with pytest.raises(PermissionDenied, match=f"{caller} may not call"):
            await ask(caller, signer.sign("alice"))
    for assertion in ("", "garbage"):
        with pytest.raises(Unauthenticated):
            await ask("edge", assertion)
    assert (await ask("edge", signer.sign("alice"))).next_cursor == ""


async def test_the_edge_writes_nothing(mailbox: Callable[..., Any], signer: Signer) -> None:
    """Not even with the user's own call does an edge write past the aggregator's rules."""
    request = dbapi_pb2.OpenChatRequest(owner_id="alice", peer_id="bob")
    with pytest.raises(PermissionDenied, match="edge may not call"):
        await (await mailbox("edge", signer.sign("alice"))).OpenChat(request, timeout=5)


@pytest.fixture
async def device(stack: Stack) -> Any:
    """A device of a new user, on a WebSocket."""
    user = f"alice-{uuid.uuid4().hex[:12]}"
    token = tokens.issue(
        user, secret=stack.settings.secret(), now=datetime.now(UTC), ttl=timedelta(minutes=5)
    )
    device = await open_device("ws", stack.settings.messenger_url, user, token)
    yield device
    await device.close()


def shown_by(address: str) -> int:
    """Serial number of the certificate that a server shows."""
    host, _, port = address.rpartition(":")
    return x509.load_pem_x509_certificate(
        ssl.get_server_certificate((host, int(port))).encode()
    ).serial_number


async def test_new_certificates_under_running_services(stack: Stack, device: Device) -> None:
    """Every service takes up new certificates without a restart, and clients notice nothing."""
    authority, env = plan.authority(stack.settings), stack.env()
    opened = await device.call("chats.open", peer_id="bob", item_id="red-bike")
    pids = {row.name: row.pid for row in stack.status()}

    authority.issue(plan.NEEDS)

    for service in plan.SERVICE_PORTS:
        issued = x509.load_pem_x509_certificate(authority.certificate_of(service).read_bytes())
        assert await asyncio.to_thread(shown_by, env[f"{service.upper()}_ADDRESS"]) == issued.serial_number
    for number in range(20):  # over the second in which channels look at their files
        sent = await device.call(
            "messages.send", chat_id=opened["chat"]["chat_id"], text="Hi", client_msg_id=f"{number}"
        )
        assert sent["message"]["seq"] == number + 1
        await asyncio.sleep(0.1)
    assert {row.name: row.pid for row in stack.status() if row.ready} == pids


def test_mongodb_wants_a_password(servers: Stack) -> None:
    """Every shard refuses who has none, and its user administrates nothing."""
    for uri in servers.env()["MONGO_SHARDS"].split():
        hosts = uri.rpartition("@")[2].partition("/")[0]
        with (
            MongoClient[dict[str, object]](f"mongodb://{hosts}/", directConnection=True) as stranger,
            MongoClient[dict[str, object]](uri) as user,
        ):
            with pytest.raises(OperationFailure, match="requires authentication"):
                stranger["messenger"].list_collection_names()
            with pytest.raises(OperationFailure, match="not authorized"):
                user.admin.command("createUser", "mallory", pwd="x", roles=["root"])


def test_redis_wants_a_password(servers: Stack) -> None:
    """Every node refuses who has none, and its user does not set it up."""
    for url in servers.env()["REDIS_URLS"].split():
        with Redis.from_url("redis://" + url.rpartition("@")[2]) as stranger, Redis.from_url(url) as user:
            with pytest.raises(AuthenticationError):
                stranger.ping()
            assert user.ping()
            with pytest.raises(NoPermissionError):
                user.config_get("*")


async def test_rabbitmq_wants_a_password(servers: Stack) -> None:
    """The broker takes neither guest nor a wrong password."""
    address = servers.env()["AMQP_URL"].split()[0].rpartition("@")[2]
    for credentials in ("guest:guest", "guest:", "messenger:guest"):
        with pytest.raises(aiormq.exceptions.AMQPConnectionError):
            await aiormq.connect(f"amqp://{credentials}@{address}")


def secrets_of(stack: Stack) -> dict[str, str]:
    """Every secret of a stack by its file."""
    return {path.name: path.read_text() for path in stack.settings.directory.glob("*.secret")}


def test_secrets_are_their_owners_alone(stack: Stack) -> None:
    """Whatever file of the stack holds a secret or a key, but for the servers' own data, is nobody else's."""
    directory, secrets = stack.settings.directory, secrets_of(stack)
    assert len(secrets) == 6
    configuration = [path for path in directory.glob("data/*/*") if path.is_file()]
    found = set()
    for path in (
        *directory.glob("*"),
        *directory.glob("tls/*"),
        *directory.glob("data/*.key"),
        *configuration,
    ):
        if path.is_file():
            content = path.read_text(errors="replace")
            if "PRIVATE KEY" in content or any(secret in content for secret in secrets.values()):
                assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
                found.add(path.name)
    assert {*secrets, "mongo.key", "supervisord.conf", "ca.key", "assertion.key", "dbapi.key"} <= found


def test_secrets_are_in_no_log_and_on_no_command_line(stack: Stack) -> None:
    """Neither a log nor the command line of any process of the stack has a secret."""
    secrets = secrets_of(stack)
    logs = list((stack.settings.directory / "logs").iterdir())
    lines = [Path(f"/proc/{row.pid}/cmdline") for row in stack.status() if row.pid]
    assert logs
    assert lines
    for path in (*logs, *lines):
        content = path.read_text(errors="replace")
        assert not [name for name, secret in secrets.items() if secret in content], path


def test_services_know_what_they_need_alone(stack: Stack) -> None:
    """Antispam cannot get at MongoDB or sign a token: nobody told it how; each service has its own key."""
    secrets = secrets_of(stack)
    pids = {row.name: row.pid for row in stack.status()}
    known = {
        name: {
            secret
            for secret, value in secrets.items()
            if value in Path(f"/proc/{pids[name]}/environ").read_text()
        }
        for name in ("dbapi", "antispam", "dbstore", "aggregator", "edge-1", "nginx", "redis-0")
    }
    assert known == {
        "dbapi": {"mongo.secret", "rabbitmq.secret"},
        "antispam": {"rabbitmq.secret"},
        "dbstore": {"mongo.secret", "rabbitmq.secret", "redis.secret"},
        "aggregator": {"redis.secret"},
        "edge-1": {"redis.secret", "jwt.secret"},
        "nginx": set(),
        "redis-0": set(),
    }


async def test_foreign_pages_are_refused_through_the_proxy(stack: Stack) -> None:
    """NGINX hands on what the edge needs to tell its own pages from others."""
    url = stack.settings.messenger_url.replace("http", "ws", 1) + "/ws"
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, additional_headers={"Origin": "https://evil.example"}, proxy=None):
            pass
    assert refused.value.response.status_code == 403
    own = {"Origin": stack.settings.messenger_url}
    async with connect(url, additional_headers=own, proxy=None):
        pass
