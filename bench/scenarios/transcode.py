"""`transcode`: JSON to protobuf and back, against protobuf's own json_format; needs no stack."""

import timeit
from collections.abc import Callable

import protovalidate
from google.protobuf import json_format

from bench.report import Context, Result
from bench.stats import Figures
from edge import jsonrpc, table
from messenger.aggregator.v1 import aggregator_pb2

CHAT = "0190c3a5-7b1e-7c3a-9d5e-2f4b6a8c0d1e"
PARAMS = b'{"chat_id":"%s","text":"See you at nine.","client_msg_id":"m-17"}' % CHAT.encode()

Work = Callable[[], object]


def microseconds(work: Work, calls: int) -> float:
    """The best of three rounds, in µs a call."""
    return round(min(timeit.repeat(work, number=calls, repeat=3)) / calls * 1e6, 2)


def works() -> dict[str, Work]:
    """What is timed, on `messages.send`."""
    send = table.methods([table.MESSENGER])["messages.send"]
    request = send.reader.read(PARAMS)
    response = aggregator_pb2.SendMessageResponse()
    json_format.ParseDict(
        {"message_id": CHAT, "chat_id": CHAT, "sender_id": "alice", "seq": 7, "text": "See you at nine."}
        | {"client_msg_id": "m-17", "created_at": "2026-01-02T03:04:05.678Z"},
        response.message,
    )
    return {
        "request_us": lambda: send.reader.read(PARAMS),
        "request_json_format_us": lambda: json_format.Parse(PARAMS, aggregator_pb2.SendMessageRequest()),
        "response_us": lambda: jsonrpc.result(1, send.write(response)),
        "response_json_format_us": lambda: json_format.MessageToJson(
            response, preserving_proto_field_name=True
        ),
        "limits_us": lambda: protovalidate.collect_violations(request),
    }


def transcode(context: Context, *, calls: int) -> Result:
    """Measures transcoding.

    Args:
        context: runs.
        calls: calls a round.
    """
    timed = works()
    runs: list[Figures] = []
    for number in range(1, context.runs + 1):
        context.told(f"run {number} of {context.runs}")
        runs.append({name: microseconds(work, calls) for name, work in timed.items()})
    return Result.of("transcode", runs, settings={"calls": calls}, headlines=("request_us", "response_us"))
