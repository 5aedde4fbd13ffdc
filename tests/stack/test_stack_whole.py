"""The session's stack itself: what every other test with real servers relies on."""

import urllib.request

from pymongo import MongoClient
from redis import Redis

from mesh.stack import Stack, Stage


def test_every_shard_is_a_primary_of_its_own_set(servers: Stack) -> None:
    """MONGO_SHARDS names eight replica sets, and each takes a majority write."""
    shards = servers.env()["MONGO_SHARDS"].split()
    assert len(shards) == 8
    for number, uri in enumerate(shards):
        with MongoClient[dict[str, object]](uri, w="majority") as client:
            client["stack"]["probe"].insert_one({"shard": number})
            assert client.admin.command("hello")["setName"] == f"shard{number}"
            client.drop_database("stack")


def test_redis_nodes_answer(servers: Stack) -> None:
    """REDIS_URLS names two nodes, and both answer."""
    for url in servers.env()["REDIS_URLS"].split():
        with Redis.from_url(url) as client:
            assert client.ping()


def test_servers_are_ready_by_their_own_account(servers: Stack) -> None:
    """After `up` each server is ready in the status."""
    early = {program.name for program in servers.plan.programs if program.stage <= Stage.SERVERS}
    assert all(row.ready for row in servers.status() if row.name in early)


def test_whole_stack_is_ready_through_nginx(stack: Stack) -> None:
    """After `up` every program is ready, and NGINX reaches an edge that says so."""
    assert [row for row in stack.status() if not row.ready] == []
    with urllib.request.urlopen(f"{stack.settings.messenger_url}/readyz", timeout=5) as answer:  # noqa: S310
        assert answer.status == 200
