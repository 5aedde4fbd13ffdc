"""What is logged: who and in which trace, and never what people write or what lets them in."""

import json
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx

from mesh.stack import Stack
from tests.contract.device import open_socket
from tests.observability.support import Collector, Connect, eventually

SPAM = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


def everything(stack: Stack) -> str:
    """All logs of all programs."""
    logs = (stack.settings.directory / "logs").glob("*.log*")
    return "\n".join(log.read_text(errors="replace") for log in logs)


def lines(stack: Stack, event: str) -> list[dict[str, Any]]:
    """The log lines of an event."""
    found = (json.loads(line) for line in everything(stack).splitlines() if line.startswith('{"'))
    return [line for line in found if line.get("event") == event]


async def test_lines_name_the_user_and_the_trace(
    connect: Connect, name: Callable[[str], str], observed: Stack, collector: Collector
) -> None:
    """A line that is written while a call is worked on names its user, and a trace of the same id exists."""
    alice = await connect(name("alice"))
    await alice.call("chats.open", peer_id=name("bob"))
    await alice.call("chats.list")

    async def look() -> list[dict[str, Any]]:
        without = lines(observed, "an answer goes without a part")
        return [line for line in without if line.get("user_id") == alice.user_id]

    [*_, line] = await eventually(look, lambda found: len(found) >= 2)
    assert line["service"] == "aggregator"
    hops = {"edge", "aggregator", "dbapi"}
    await collector.trace(line["trace_id"], lambda spans: {span.service for span in spans} >= hops)


async def test_a_message_s_trace_is_in_the_logs_behind_the_queue(
    connect: Connect, name: Callable[[str], str], observed: Stack, collector: Collector
) -> None:
    """What dbstore logs of a message names the trace that its frame began."""
    alice = await connect(name("alice"))
    chat_id = (await alice.call("chats.open", peer_id=name("bob")))["chat"]["chat_id"]
    sent = await alice.call("messages.send", chat_id=chat_id, text=SPAM, client_msg_id="1")

    async def look() -> list[dict[str, Any]]:
        rejected = lines(observed, "message rejected")
        return [line for line in rejected if line["message_id"] == sent["message"]["message_id"]]

    [line] = await eventually(look)
    await collector.trace(line["trace_id"], lambda spans: "messages.send" in {span.name for span in spans})


async def test_no_texts_and_no_tokens_in_logs_or_traces(
    connect: Connect,
    name: Callable[[str], str],
    token: Callable[[str], str],
    observed: Stack,
    collector: Collector,
) -> None:
    """Whatever people do, well or badly, at LOG_LEVEL=DEBUG: neither logs nor traces hold texts or tokens."""
    secret = f"sesame-{uuid.uuid4().hex}"
    alice, bob = await connect(name("alice")), await connect(name("bob"))
    chat_id = (await alice.call("chats.open", peer_id=bob.user_id))["chat"]["chat_id"]
    sent = await alice.call("messages.send", chat_id=chat_id, text=f"a {secret}", client_msg_id="1")
    await bob.next("message.new")
    message_id = sent["message"]["message_id"]
    await alice.call("messages.edit", chat_id=chat_id, message_id=message_id, text=f"b {secret}")
    await bob.next("message.updated")
    await bob.call("messages.search", query=secret)
    await alice.call("messages.send", chat_id=chat_id, text=f"{secret} {SPAM}", client_msg_id="2")
    await alice.error("messages.send", chat_id=chat_id, text=f"other {secret}", client_msg_id="1")
    await alice.error("messages.send", chat_id=chat_id, text=secret * 200, client_msg_id="3")
    await alice.error("messages.send", chat_id=secret, text=secret, client_msg_id="4")
    await alice.error(f"messages.{secret}")
    await alice.error("session.refresh", token=f"{token(alice.user_id)}{secret}")
    await alice.exchange(f'{{"jsonrpc": "2.0", "text": "{secret}')
    url = observed.settings.messenger_url
    stranger = await open_socket(url, "")
    await stranger.error("session.connect", token=f"{secret}.{secret}.{secret}")
    await stranger.close()
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        bearer = {"Authorization": f"Bearer {secret}"}
        assert (await http.post("/rpc", content=f"[{secret}", headers=bearer)).status_code == 401
        bearer = {"Authorization": f"Bearer {token(alice.user_id)}"}
        assert (await http.post("/rpc", content=f"[{secret}", headers=bearer)).status_code == 200
    trace = await alice.error("chats.get", chat_id="00000000-0000-5000-8000-000000000000")
    await collector.trace(trace.data["trace_id"], lambda spans: len(spans) >= 5)  # and all that came before

    logged = everything(observed)
    assert "message rejected" in logged
    told = [span.text for span in collector.spans]
    signature = token(alice.user_id).rpartition(".")[2]
    env = observed.env()
    urls = " ".join(env[name] for name in ("MONGO_SHARDS", "AMQP_URL", "REDIS_URLS")).split()
    passwords = [urlsplit(url.replace(",", "-")).password or "-" * 80 for url in urls]
    for hidden in (secret, signature, observed.settings.secret(), token(alice.user_id), *passwords):
        assert hidden not in logged
        assert not any(hidden in text for text in told)
