"""What transcoding costs, against protobuf's own json_format: `python -m bench.transcode`."""

import timeit
from collections.abc import Callable

import protovalidate
from google.protobuf import json_format
from rich.console import Console
from rich.table import Table

from edge import jsonrpc, table
from messenger.aggregator.v1 import aggregator_pb2

ROUNDS = 20_000
CHAT = "0190c3a5-7b1e-7c3a-9d5e-2f4b6a8c0d1e"
PARAMS = b'{"chat_id":"%s","text":"See you at nine.","client_msg_id":"m-17"}' % CHAT.encode()


def microseconds(work: Callable[[], object]) -> float:
    """The best of three rounds, in µs a call."""
    return min(timeit.repeat(work, number=ROUNDS, repeat=3)) / ROUNDS * 1e6


def main() -> None:
    """Measures and prints."""
    send = table.methods([aggregator_pb2.DESCRIPTOR])["messages.send"]
    request = send.reader.read(PARAMS)
    response = aggregator_pb2.SendMessageResponse()
    json_format.ParseDict(
        {"message_id": CHAT, "chat_id": CHAT, "sender_id": "alice", "seq": 7, "text": "See you at nine."}
        | {"client_msg_id": "m-17", "created_at": "2026-01-02T03:04:05.678Z"},
        response.message,
    )
    rows: list[tuple[str, Callable[[], object], Callable[[], object] | None]] = [
        (
            "params to request",
            lambda: send.reader.read(PARAMS),
            lambda: json_format.Parse(PARAMS, aggregator_pb2.SendMessageRequest()),
        ),
        (
            "response to JSON",
            lambda: jsonrpc.result(1, send.write(response)),
            lambda: json_format.MessageToJson(response, preserving_proto_field_name=True),
        ),
        ("limits (protovalidate)", lambda: protovalidate.collect_violations(request), None),
    ]
    shown = Table("messages.send, µs", "ours", "json_format")
    for name, ours, theirs in rows:
        shown.add_row(name, f"{microseconds(ours):.1f}", f"{microseconds(theirs):.1f}" if theirs else "")
    Console().print(shown)


if __name__ == "__main__":
    main()
