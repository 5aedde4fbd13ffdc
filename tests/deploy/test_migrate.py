"""`python -m mesh migrate`, a program that is older than its data, and the Job that makes replica sets."""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from socket import socket

import aio_pika
import pytest
from pymongo import MongoClient

from mesh.amqp import CHECKED, MESSAGES, PARKED
from mesh.mailbox.schema import META, VERSION
from mesh.stack import Stack
from mesh.stack.binaries import find
from tests.deploy.manifests import ROOT

INITIATE = ROOT / "deploy/components/servers/mongo/initiate.py"
TIMEOUT_S = 60.0


@pytest.fixture
def environment(servers: Stack) -> Iterator[dict[str, str]]:
    """Where a system of its own is: a database on two shards, and queues with a prefix."""
    name = f"m{uuid.uuid4().hex[:12]}"
    uris = servers.env()["MONGO_SHARDS"].split()[:2]
    shards = [uri.replace("/?", f"/{name}?") for uri in uris]
    values = servers.env() | {"MONGO_SHARDS": " ".join(shards), "QUEUE_PREFIX": f"{name}."}
    yield os.environ | values | {"LISTEN": "127.0.0.1:0", "LOG_FORMAT": "json"}
    for uri in shards:
        with MongoClient[dict[str, object]](uri) as client:
            client.drop_database(name)


def run(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs a module of ours to its end."""
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(  # noqa: S603
        command, env=environment, check=False, capture_output=True, text=True, timeout=TIMEOUT_S
    )


def migrate(environment: dict[str, str]) -> dict[str, dict[str, object]]:
    """Migrates, and what became of each part."""
    result = run(environment, "mesh", "migrate", "--json")
    return {step["part"]: step for step in json.loads(result.stdout)}


def note_version(environment: dict[str, str], version: int) -> None:
    """Leaves on the second shard what a program with that schema leaves."""
    with MongoClient[dict[str, object]](environment["MONGO_SHARDS"].split()[1]) as client:
        noted = client.get_default_database()[META]
        noted.update_one({"_id": "schema"}, {"$set": {"version": version}}, upsert=True)


async def queue_is_there(url: str, name: str) -> None:
    """Fails where the broker has no queue of that name."""
    connection = await aio_pika.connect(url)
    async with connection, connection.channel() as channel:
        await channel.declare_queue(name, passive=True)


async def test_migration_is_idempotent(environment: dict[str, str]) -> None:
    """The first run lays indexes on all shards and the queues, the second finds everything there."""
    first, second = [await asyncio.to_thread(migrate, environment) for _ in range(2)]
    assert set(first) == {"shard-0", "shard-1", "queues"}
    assert first["shard-0"]["detail"] == f"schema 0 → {VERSION}"
    assert second["shard-0"]["detail"] == f"schema {VERSION}"
    assert all(step["ok"] for step in (*first.values(), *second.values()))
    for uri in environment["MONGO_SHARDS"].split():
        with MongoClient[dict[str, object]](uri) as client:
            assert len(client.get_default_database()["messages"].index_information()) > 1
    for base in (MESSAGES, CHECKED, PARKED):
        await queue_is_there(environment["AMQP_URL"], environment["QUEUE_PREFIX"] + base)


def test_migration_shows_each_part(environment: dict[str, str]) -> None:
    """Without --json a line a part tells how far it is."""
    result = run(environment, "mesh", "migrate")
    assert result.returncode == 0
    assert sorted(line.split()[1] for line in result.stdout.splitlines()) == ["queues", "shard-0", "shard-1"]


def test_other_parts_are_migrated_when_one_fails(environment: dict[str, str]) -> None:
    """A broker that is away is named, the shards are migrated all the same, and the exit status is 1."""
    with closing(socket()) as closed:
        closed.bind(("127.0.0.1", 0))
        away = environment | {"AMQP_URL": f"amqp://guest:guest@127.0.0.1:{closed.getsockname()[1]}/"}
        result = run(away, "mesh", "migrate")
    assert result.returncode == 1
    assert "failed queues" in result.stdout
    assert "done   shard-1" in result.stdout


def test_migration_refuses_a_newer_schema(environment: dict[str, str]) -> None:
    """A shard that a newer program migrated is left alone, and the text says what to do."""
    note_version(environment, VERSION + 1)
    steps = migrate(environment)
    assert steps["shard-0"]["ok"]
    assert not steps["shard-1"]["ok"]
    assert "Deploy the newer program" in str(steps["shard-1"]["detail"])


@pytest.mark.parametrize("service", ["dbapi", "dbstore"])
def test_services_refuse_a_newer_schema(environment: dict[str, str], service: str) -> None:
    """A service that is older than its data ends at once, with status 1 and the reason in its log."""
    note_version(environment, VERSION + 1)
    result = run(environment, service)
    assert result.returncode == 1
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    (refusal,) = [line for line in lines if line["event"] == "refuses to start"]
    assert refusal["reason"] == "SCHEMA_NEWER"
    assert f"schema version {VERSION + 1}" in refusal["detail"]


def test_initiate_makes_a_replica_set(servers: Stack, port_base: int, tmp_path: Path) -> None:
    """The Job's script makes one replica set of three fresh mongods, and a second run changes nothing."""
    mongod = find(servers.settings).mongod
    ports = [port_base + 20 + member for member in range(3)]
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    uri = f"mongodb://{hosts}/?replicaSet=fresh"
    with ExitStack() as stack:
        for port in ports:
            data = tmp_path / str(port)
            data.mkdir()
            command = [
                mongod, "--replSet", "fresh", "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket",
                "--dbpath", str(data), "--quiet", "--oplogSize", "16", "--wiredTigerCacheSizeGB", "0.25",
                "--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=16MB)",
            ]  # fmt: skip
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603
            stack.callback(process.wait)
            stack.callback(process.kill)
        for _ in range(2):
            told = subprocess.run(  # noqa: S603
                [sys.executable, INITIATE],
                env={"MONGO_SHARDS": uri, "INITIATE_WAIT_S": "60"},
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            assert told.stdout == f"{uri}: has a primary\n"
        with MongoClient[dict[str, object]](uri) as client:
            status = client.admin.command("replSetGetStatus")
        assert {member["name"] for member in status["members"]} == {f"127.0.0.1:{port}" for port in ports}
