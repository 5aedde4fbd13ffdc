"""deploy/envoy/envoy.yaml in a real Envoy, between our channel and our server."""

import asyncio
import subprocess
from pathlib import Path

import pytest
import yaml

from mesh import call
from mesh.errors import DeadlineExceeded, Unavailable
from tests.envoy.support import CONFIG, REQUEST, Gateway, Replica, envoy, eventually


def test_the_configuration_as_it_is_shipped(tmp_path: Path) -> None:
    """Envoy accepts the very file that stands in deploy/."""
    command = (envoy(), "--mode", "validate", "-c", str(CONFIG), "--use-dynamic-base-id")
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)  # noqa: S603
    assert done.returncode == 0, done.stderr


def test_what_holds_for_one_holds_for_all() -> None:
    """Calls go through one route to one cluster here; all others differ from them in their names alone."""
    resources = yaml.safe_load(CONFIG.read_text())["static_resources"]
    clusters = {one.pop("name"): one for one in resources["clusters"]}
    assert len(clusters) > 1
    assert {name: one.pop("load_assignment")["cluster_name"] for name, one in clusters.items()} == {
        name: name for name in clusters
    }
    assert all(cluster == clusters["dbapi"] for cluster in clusters.values())
    [manager] = resources["listeners"][0]["filter_chains"][0]["filters"]
    [host] = manager["typed_config"]["route_config"]["virtual_hosts"]
    assert set(host) == {"name", "domains", "routes"}
    routes = [one["route"] for one in host["routes"] if "route" in one]
    assert {route.pop("cluster") for route in routes} == set(clusters)
    callers_own = {"timeout": "0s", "max_stream_duration": {"grpc_timeout_header_max": "0s"}}
    assert all(route == callers_own for route in routes)


async def test_calls_go_round_and_keep_what_they_carry(gateway: Gateway, replicas: list[Replica]) -> None:
    """Calls reach both replicas, with their user and with what is left of their deadline."""
    stub = gateway.stub()
    with call.on_behalf_of("alice"), call.budget(2.0):
        for _ in range(20):
            await stub.BatchGetItems(REQUEST)
    assert all(replica.calls for replica in replicas)
    for user_id, left in replicas[0].calls + replicas[1].calls:
        assert user_id == "alice"
        assert 1.0 < left < 2.0


async def test_the_caller_s_deadline_ends_a_call(gateway: Gateway, replicas: list[Replica]) -> None:
    """A call that hangs ends with its deadline, on both sides of Envoy."""
    given_up = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    for replica in replicas:
        replica.behave = hang
    with pytest.raises(DeadlineExceeded):
        await gateway.stub().BatchGetItems(REQUEST, timeout=0.3)
    await asyncio.wait_for(given_up.wait(), 5)


async def test_a_dead_replica_costs_no_call(gateway: Gateway, replicas: list[Replica]) -> None:
    """While one of two replicas dies, every call succeeds; it is left out, and is back when it is back."""
    dead, alive = replicas
    stub = gateway.stub()
    await dead.server.stop(0)
    for _ in range(100):
        await stub.BatchGetItems(REQUEST)
    await gateway.healthy(1)
    seen = len(alive.calls)
    for _ in range(20):
        await stub.BatchGetItems(REQUEST)
    assert len(alive.calls) == seen + 20

    back = await Replica(dead.server.address).start()
    try:
        await gateway.healthy(2)

        async def called() -> bool:
            await stub.BatchGetItems(REQUEST)
            return bool(back.calls)

        await eventually(called)
    finally:
        await back.server.stop(0)


async def test_a_draining_replica_is_left(gateway: Gateway, replicas: list[Replica]) -> None:
    """A replica that says NOT_SERVING gets no more calls while it still answers those that it has."""
    draining, staying = replicas
    await draining.server.set_serving(False)
    await gateway.healthy(1)
    draining.calls.clear()
    stub = gateway.stub()
    for _ in range(20):
        await stub.BatchGetItems(REQUEST)
    assert not draining.calls
    assert len(staying.calls) == 20


async def test_a_replica_that_fails_is_ejected(gateway: Gateway, replicas: list[Replica]) -> None:
    """A replica whose health is well but that answers UNAVAILABLE is ejected; callers see none of it."""
    broken, _ = replicas

    async def refuse() -> None:
        raise Unavailable("It is not my day.")

    broken.behave = refuse
    stub = gateway.stub()

    async def left_alone() -> bool:
        failures = len(broken.calls)
        for _ in range(20):
            await stub.BatchGetItems(REQUEST)
        return len(broken.calls) == failures

    await eventually(left_alone)
    assert await gateway.stat("outlier_detection.ejections_enforced_consecutive_gateway_failure") == 1
    assert await gateway.stat("membership_total") == 2


async def test_only_one_layer_retries(gateway: Gateway, replicas: list[Replica]) -> None:
    """A call that finds UNAVAILABLE everywhere is tried three times, as our channel does, and not nine."""

    async def refuse() -> None:
        raise Unavailable("It is not my day.")

    for replica in replicas:
        replica.behave = refuse
    with pytest.raises(Unavailable, match="not my day"):
        await gateway.stub().BatchGetItems(REQUEST)
    assert sum(len(replica.calls) for replica in replicas) == 3
    assert await gateway.stat("upstream_rq_retry") == 0


async def test_nothing_is_cut_off_after_15_seconds(long_call: "asyncio.Task[None]") -> None:
    """What has no deadline, like a stream, may outlive the 15 s that Envoy gives a route by default."""
    await long_call
