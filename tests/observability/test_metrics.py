"""The numbers that alerts and dashboard rest on, scraped from real processes by a real Prometheus."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path

from mesh.stack import Stack
from tests.observability.support import DEPLOY, METHOD_TOKENS, Connect, Prometheus, eventually, targets

DASHBOARD = DEPLOY / "grafana" / "messenger.json"
REFERENCE = Path(__file__).parents[2] / "docs" / "observability.md"


async def talk(connect: Connect, name: Callable[[str], str]) -> None:
    """Two people talk: some messages, a list of chats, an error, and more calls than anybody may make."""
    alice, bob = await connect(name("alice")), await connect(name("bob"))
    chat_id = (await alice.call("chats.open", peer_id=bob.user_id))["chat"]["chat_id"]
    for n in range(5):
        await alice.call("messages.send", chat_id=chat_id, text="hello", client_msg_id=f"{n}")
        await bob.next("message.new")
    await bob.call("chats.list")
    await bob.error("chats.get", chat_id="00000000-0000-5000-8000-000000000000")
    history = {"jsonrpc": "2.0", "method": "messages.history", "params": {"chat_id": chat_id}}
    answers = await bob.exchange(json.dumps([history | {"id": n} for n in range(METHOD_TOKENS + 10)]))
    assert any(answer["error"]["data"]["reason"] == "THROTTLED" for answer in answers if "error" in answer)


async def test_a_prometheus_sees_what_happens(
    connect: Connect, name: Callable[[str], str], scraper: Prometheus, observed: Stack
) -> None:
    """After a conversation Prometheus has RED by method and hop, queues, outbox, bus, delivery, reasons."""
    await eventually(
        lambda: scraper.value("sum(up)"), lambda up: up == sum(map(len, targets(observed).values()))
    )
    await talk(connect, name)
    send = 'method=~".*/SendMessage"'
    for query, least in {
        'messenger_edge_call_duration_seconds_count{method="messages.send", code="OK"}': 5,
        'messenger_edge_call_duration_seconds_count{method="chats.get", code="NOT_FOUND"}': 1,
        f'messenger_rpc_client_duration_seconds_count{{job="edge", {send}, code="OK"}}': 5,
        f'messenger_rpc_server_duration_seconds_count{{job="aggregator", {send}, code="OK"}}': 5,
        'messenger_rpc_server_duration_seconds_count{job="dbapi", method=~".*/GetChat", code="NOT_FOUND"}': 1,
        'messenger_rpc_client_duration_seconds_count{job="aggregator", method=~".*Profiles", code!="OK"}': 1,
        'messenger_edge_refused_total{method="messages.history", reason="THROTTLED"}': 1,
        'messenger_edge_degraded_total{method="chats.list", part="profiles"}': 1,
        "messenger_delivery_latency_seconds_count": 10,
        "messenger_bus_lag_seconds_count": 10,
        'messenger_queue_age_seconds_count{job="antispam"}': 5,
        'messenger_queue_age_seconds_count{job="dbstore"}': 5,
        'messenger_queue_duration_seconds_count{job="antispam"}': 1,
        'messenger_queue_duration_seconds_count{job="dbstore"}': 1,
        'messenger_queue_events_total{job="dbstore", outcome="done"}': 5,
        'messenger_messages_total{verdict="PASS"}': 5,
        'messenger_batch_size_count{batch="sends"}': 5,
        'messenger_batch_size_count{batch="appends"}': 5,
        'messenger_queue_consumers{queue=~".*messages"}': 1,
    }.items():
        assert await scraper.reaches(f"sum({query})", least)
    assert await scraper.value("sum(messenger_edge_connections)") == 2
    assert await scraper.value('max(messenger_queue_depth{queue=~".*parked"})') == 0
    assert await scraper.value("count(messenger_outbox_age_seconds)") == 8
    assert await scraper.value("max(messenger_outbox_age_seconds)") == 0
    slowest = "histogram_quantile(1, sum by (le) (messenger_delivery_latency_seconds_bucket))"
    assert 0 < (await scraper.value(slowest) or 0) < 10


async def test_what_waits_is_seen(
    connect: Connect, name: Callable[[str], str], scraper: Prometheus, observed: Stack
) -> None:
    """With dbstore stopped its queue grows and has no consumer; the events' age shows afterwards."""
    alice, bob = await connect(name("alice")), await connect(name("bob"))
    chat_id = (await alice.call("chats.open", peer_id=bob.user_id))["chat"]["chat_id"]
    await asyncio.to_thread(observed.stop, "dbstore")
    try:
        for n in range(3):
            await alice.call("messages.send", chat_id=chat_id, text="hello", client_msg_id=f"{n}")
        await scraper.reaches('max(messenger_queue_depth{queue=~".*checked"})', 1)
        assert await scraper.value('max(messenger_queue_consumers{queue=~".*checked"})') == 0
    finally:
        await asyncio.to_thread(observed.start, "dbstore")
    await bob.next("message.new")
    late = 'sum(messenger_queue_age_seconds_count{job="dbstore"}) - '
    late += 'sum(messenger_queue_age_seconds_bucket{job="dbstore", le="1.0"})'
    await scraper.reaches(late, 1)


async def test_alerts_and_dashboard_ask_for_what_there_is(
    connect: Connect, name: Callable[[str], str], scraper: Prometheus
) -> None:
    """Every metric that a rule or a panel names is exported by some process; every query can be evaluated."""
    await talk(connect, name)
    await scraper.reaches('sum(messenger_edge_degraded_total{method="chats.list"})', 1)
    groups = (await scraper.get("rules"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert rules
    await eventually(lambda: unhealthy(scraper), lambda found: found == [])
    known = set(await scraper.get("label/__name__/values"))
    queries = [rule["query"] for rule in rules] + expressions(json.loads(DASHBOARD.read_text()))
    assert {named for query in queries for named in re.findall(r"messenger_\w+", query)} <= known
    for query in expressions(json.loads(DASHBOARD.read_text())):
        await scraper.get("query", query=query.replace("$__rate_interval", "1m").replace("$job", ".*"))


async def unhealthy(scraper: Prometheus) -> list[str]:
    """Names of the rules that could not be evaluated, or not yet."""
    groups = (await scraper.get("rules"))["groups"]
    return [rule["name"] for group in groups for rule in group["rules"] if rule["health"] != "ok"]


def expressions(part: object) -> list[str]:
    """Every query in a dashboard."""
    if isinstance(part, list):
        return [query for one in part for query in expressions(one)]
    if not isinstance(part, dict):
        return []
    own = [part["expr"]] if "expr" in part else []
    return own + [query for one in part.values() for query in expressions(one)]


async def test_the_reference_lists_every_metric(
    connect: Connect, name: Callable[[str], str], scraper: Prometheus
) -> None:
    """docs/observability.md names every metric of ours that Prometheus sees, and no other."""
    listed = set(re.findall(r"^\| `(messenger_\w+)", REFERENCE.read_text(), flags=re.MULTILINE))

    async def seen() -> set[str]:
        names = await scraper.get("label/__name__/values")
        return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names if name.startswith("messenger_")}

    await talk(connect, name)
    await eventually(seen, lambda ours: ours >= listed)
    assert await seen() == listed
