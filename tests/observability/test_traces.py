"""One trace from the client's frame to the receiver's push, by a real collector."""

import json
from collections.abc import Callable

from tests.observability.support import Collector, Connect, Span

MESSENGER = "messenger.aggregator.v1.MessengerService"
MAILBOX = "messenger.dbapi.v1.MailboxService"


def path_to(span: Span, spans: list[Span]) -> list[tuple[str, str]]:
    """Service and name of each span from the root to this one; queues without their prefix."""
    by_id = {one.span_id: one for one in spans}
    path = [span]
    while path[0].parent_id:
        path.insert(0, by_id[path[0].parent_id])
    return [(one.service, _plain(one.name)) for one in path]


def _plain(name: str) -> str:
    verb, _, queue = name.partition(" ")
    return f"{verb} {queue.rpartition('.')[2]}" if verb in ("publish", "process") else name


def has_pushed(user_id: str, pushes: int) -> Callable[[list[Span]], bool]:
    """Whether a trace has as many pushes to a user, and every span's parent."""

    def good(spans: list[Span]) -> bool:
        ids = {span.span_id for span in spans} | {""}
        told = [span for span in spans if span.name == "push" and user_id in span.text]
        return len(told) >= pushes and all(span.parent_id in ids for span in spans)

    return good


async def test_one_trace_from_the_frame_to_the_push(
    connect: Connect, name: Callable[[str], str], collector: Collector
) -> None:
    """A sent message is one connected trace with a span for every hop, to the receiver's push."""
    alice, bob = await connect(name("alice")), await connect(name("bob"))
    chat_id = (await alice.call("chats.open", peer_id=bob.user_id))["chat"]["chat_id"]
    await alice.call("messages.send", chat_id=chat_id, text="hello", client_msg_id="1")
    await bob.next("message.new")
    spans = await collector.trace_of(bob.user_id, has_pushed(bob.user_id, 2))
    assert {span.trace_id for span in spans} == {spans[0].trace_id}
    push = next(span for span in spans if span.name == "push" and bob.user_id in span.text)
    assert path_to(push, spans) == [
        ("edge", "messages.send"),
        ("edge", f"{MESSENGER}/SendMessage"),
        ("aggregator", f"{MESSENGER}/SendMessage"),
        ("dbapi", "publish messages"),
        ("antispam", "process messages"),
        ("antispam", "publish checked"),
        ("dbstore", "process checked"),
        ("edge", "push"),
    ]
    paths = [path_to(span, spans) for span in spans]
    assert [
        ("edge", "messages.send"),
        ("edge", f"{MESSENGER}/SendMessage"),
        ("aggregator", f"{MESSENGER}/SendMessage"),
        ("aggregator", "batch sends"),
        ("aggregator", f"{MAILBOX}/AppendMessages"),
        ("dbapi", f"{MAILBOX}/AppendMessages"),
        ("dbapi", "batch appends"),
        ("dbapi", "mongodb"),
    ] in paths
    assert any(path[-2:] == [("dbstore", "process checked"), ("dbstore", "publish bus")] for path in paths)


async def test_an_error_s_trace_id_names_its_trace(
    connect: Connect, name: Callable[[str], str], collector: Collector
) -> None:
    """The trace_id that a client gets with an error is that of the trace, down to where it failed."""
    alice = await connect(name("alice"))
    missing = "00000000-0000-5000-8000-000000000000"
    error = await alice.error("chats.get", chat_id=missing)
    failed = {
        ("edge", "chats.get", "NOT_FOUND"),
        ("aggregator", f"{MESSENGER}/GetChat", "NOT_FOUND"),
        ("dbapi", f"{MAILBOX}/GetChat", "NOT_FOUND"),
    }
    await collector.trace(
        error.data["trace_id"],
        lambda spans: {(span.service, span.name, span.status) for span in spans} >= failed,
    )


async def test_messages_of_one_batch_keep_their_own_traces(
    connect: Connect, name: Callable[[str], str], collector: Collector
) -> None:
    """Messages that share writes, queue bodies and handler calls each have a whole trace of their own."""
    alice, bob = await connect(name("alice")), await connect(name("bob"))
    chat_id = (await alice.call("chats.open", peer_id=bob.user_id))["chat"]["chat_id"]
    sends = [
        {
            "jsonrpc": "2.0", "id": n, "method": "messages.send",
            "params": {"chat_id": chat_id, "text": f"text {n}", "client_msg_id": f"{n}"},
        }
        for n in range(10)
    ]  # fmt: skip
    http = await connect(alice.user_id, "http")
    await http.exchange(json.dumps(sends))
    for _ in sends:
        await bob.next("message.new")

    def good(spans: list[Span]) -> bool:
        pushed = {span.trace_id for span in spans if span.name == "push" and bob.user_id in span.text}
        return len(pushed) >= len(sends) and has_pushed(bob.user_id, len(sends))(spans)

    spans = await collector.trace_of(bob.user_id, good)
    sent = {span.trace_id for span in spans if span.name == "messages.send"}
    assert len(sent) == len(sends)
    for trace_id in sent:
        own = [span for span in spans if span.trace_id == trace_id]
        push = next(span for span in own if span.name == "push" and bob.user_id in span.text)
        assert path_to(push, own)[-2:] == [("dbstore", "process checked"), ("edge", "push")]
