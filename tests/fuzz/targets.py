"""What must hold of the parsers at the door for any bytes; each target raises where it does not."""

import json

from google.protobuf import json_format
from google.protobuf.message import Message

from edge import jsonrpc, table
from edge.table import Method
from mesh.errors import InvalidArgument
from mesh.server import check
from mesh.streams import EventId, parse_push

METHODS: dict[str, Method] = table.methods(table.OWN)
PARSE_ERRORS = {jsonrpc.PARSE_ERROR, jsonrpc.INVALID_REQUEST}


def frame(text: bytes) -> None:
    """Any frame is read; every call of it can be answered, with an answer that is JSON."""
    parsed = jsonrpc.parse(text)
    assert 1 <= len(parsed.parts) <= jsonrpc.MAX_BATCH
    assert parsed.is_batch or len(parsed.parts) == 1
    answers = []
    for part in parsed.parts:
        if isinstance(part, jsonrpc.Malformed):
            assert part.code in PARSE_ERRORS
            answers.append(jsonrpc.error(None, part.code, part.message, {}))
            continue
        answers.append(jsonrpc.result(part.request_id, {"method": part.method}))
        for method in (METHODS.get(part.method), METHODS["messages.send"]):
            if method is not None:
                params(method, part.params)
    answer = json.loads(jsonrpc.join(answers, is_batch=parsed.is_batch))
    for one in answer if parsed.is_batch else [answer]:
        assert one["jsonrpc"] == "2.0"
        assert ("result" in one) != ("error" in one)


def params(method: Method, text: bytes) -> None:
    """Any params are refused by name, or become a request that survives the wire and means what they say."""
    refusal, request = "", None
    try:
        request = method.reader.read(text)
    except InvalidArgument as error:
        refusal = error.detail
    if request is None:
        assert ": " in refusal
        return
    assert method.request.FromString(request.SerializeToString()) == request
    _agrees_with_json_format(method, text, request)
    try:
        check(request)
    except InvalidArgument:
        return
    again = method.reader.read(json_format.MessageToJson(request, preserving_proto_field_name=True).encode())
    assert again == request


def _agrees_with_json_format(method: Method, text: bytes, request: Message) -> None:
    """Where protobuf's own reader takes an object too, it reads the same."""
    if not text.lstrip().startswith(b"{"):
        return
    try:
        theirs = json_format.Parse(text, method.request())
    except (json_format.ParseError, UnicodeDecodeError, RecursionError, ValueError):
        return  # it is stricter, or knows less of our params
    assert theirs == request


def event_id(text: str) -> None:
    """Any text is an event id or refused; an id that is read is written as the same place."""
    try:
        place = EventId.parse(text)
    except InvalidArgument:
        return
    assert EventId.parse(str(place)) == place
    assert not place.follows(place)
    assert all(letter.isascii() and letter.isprintable() for letter in text)
    assert tuple(map(int, text.partition(".")[0].split("-"))) == (place.epoch, place.n, place.ms)


def push(data: bytes) -> None:
    """What an edge hears over PUB/SUB is an entry or ephemeral, or not ours; nothing else happens."""
    try:
        parse_push(data)
    except InvalidArgument:
        return
