"""The OpenRPC document, out of the protos."""

from importlib.resources import files
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, text_format

from edge import jsonrpc, table
from edge.comments import comments
from edge.openrpc import document
from edge.schema import Schemas
from messenger.common.v1 import types_pb2
from messenger.events.v1 import notifications_pb2
from tests.contract.meta_schema import violations

COMPILED = descriptor_pb2.FileDescriptorSet.FromString(
    files("messenger").joinpath("descriptors.binpb").read_bytes()
)
DOCUMENT: Any = document(
    table.methods(table.OWN),
    url="https://chat.example",
    described=comments(COMPILED.file),
    limits={"calls_at_once": 100},
)
METHODS = {method["name"]: method for method in DOCUMENT["methods"]}


def test_it_is_an_openrpc_document() -> None:
    """The meta-schema finds nothing wrong with it, and does find what is."""
    assert violations(DOCUMENT) == []
    assert violations(DOCUMENT | {"methods": [{"name": "x"}]}) != []
    assert violations(DOCUMENT | {"components": {"schemas": {"X": {"type": "nonsense"}}}}) != []


def test_every_reference_leads_somewhere() -> None:
    """No schema and no error is named that the document does not hold."""

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if "$ref" in value else []
            return own + [found for inner in value.values() for found in references(inner)]
        return [found for inner in value for found in references(inner)] if isinstance(value, list) else []

    found = set(references(DOCUMENT))
    held = {f"#/components/{kind}/{name}" for kind, of in DOCUMENT["components"].items() for name in of}
    assert found <= held
    assert len(found) > 20


def test_a_method_says_what_the_proto_says() -> None:
    """Comment, params with their limits, deadline, cost and the rest of the option."""
    send = METHODS["messages.send"]
    assert send["summary"].startswith("Stores a message for both sides")
    assert [param["name"] for param in send["params"]] == ["chat_id", "text", "client_msg_id"]
    assert all(param["required"] for param in send["params"])
    assert send["params"][0]["schema"] == {"type": "string", "format": "uuid"}
    assert send["params"][1]["schema"] == {"type": "string", "minLength": 1, "maxLength": 4096}
    assert send["params"][2]["description"].startswith("Idempotency key")
    assert {name: value for name, value in send.items() if name.startswith("x-")} == {
        "x-deadline-ms": 5000, "x-criticality": "critical", "x-cost": 1, "x-idempotent": True,
        "x-ordered-by": "chat_id",
    }  # fmt: skip


def test_limits_of_what_a_list_holds() -> None:
    """A list says how many it may hold and what each of them may be; at least one makes it required."""
    [param] = METHODS["presence.get"]["params"]
    assert param["required"]
    items = {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"}
    assert param["schema"] == {"type": "array", "items": items, "minItems": 1, "maxItems": 100}


def test_every_method_and_message_is_described() -> None:
    """Whatever a client can call, and whatever it is told of, has a sentence about it."""
    assert [name for name, method in METHODS.items() if not method["summary"]] == []
    assert [note["name"] for note in DOCUMENT["x-notifications"] if not note["summary"]] == []


def test_notifications_are_all_there() -> None:
    """Each message of the events' proto but the envelope, and whether it is kept for catch-up."""
    kept = {note["name"]: note["x-kept"] for note in DOCUMENT["x-notifications"]}
    assert len(kept) == len(notifications_pb2.DESCRIPTOR.message_types_by_name) - 1
    assert kept["message.new"]
    assert not kept["typing"]


def test_limits_of_every_call() -> None:
    """The size of a text, the calls in a batch, and what the process was told of its users."""
    assert DOCUMENT["x-limits"] == {
        "text_bytes": jsonrpc.MAX_BYTES, "batch_calls": jsonrpc.MAX_BATCH, "calls_at_once": 100,
    }  # fmt: skip


KINDS = """
name: "kinds.proto" package: "teams.kinds" syntax: "proto3" dependency: "buf/validate/validate.proto"
enum_type { name: "Colour" value { name: "COLOUR_UNSPECIFIED" number: 0 } value { name: "RED" number: 1 } }
message_type {
  name: "Message"
  field { name: "colour" number: 1 type: TYPE_ENUM type_name: ".teams.kinds.Colour" }
  field { name: "blob" number: 2 type: TYPE_BYTES }
  field { name: "wide" number: 3 type: TYPE_INT64 options { [buf.validate.field] { int64 { gt: 5 } } } }
  field { name: "share" number: 4 type: TYPE_DOUBLE
          options { [buf.validate.field] { double { gt: 0 lte: 1 } } } }
  field { name: "mail" number: 5 type: TYPE_STRING
          options { [buf.validate.field] { string { email: true } } } }
  field { name: "size" number: 6 type: TYPE_STRING
          options { [buf.validate.field] { string { in: ["S", "M"] } } } }
  field { name: "scores" number: 7 type: TYPE_MESSAGE label: LABEL_REPEATED
          type_name: ".teams.kinds.Message.ScoresEntry"
          options { [buf.validate.field] { map { max_pairs: 9 values { int32 { gte: 0 } } } } } }
  field { name: "inner" number: 8 type: TYPE_MESSAGE type_name: ".teams.kinds.Message" }
  nested_type {
    name: "ScoresEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
    field { name: "value" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL }
  }
}
"""


@pytest.fixture
def kinds() -> Any:
    """A message of another package with fields of many kinds."""
    pool = descriptor_pool.DescriptorPool()
    for file in COMPILED.file:
        pool.Add(file)
    pool.Add(text_format.Parse(KINDS, descriptor_pb2.FileDescriptorProto()))
    return pool.FindMessageTypeByName("teams.kinds.Message")


def test_kinds_of_fields(kinds: Any) -> None:
    """Each kind of field is described as ProtoJSON writes it, with the limits that it declares."""
    schemas = Schemas({})
    schemas.message(kinds)
    assert schemas.components["Message"]["properties"] == {
        "colour": {"type": "string", "enum": ["COLOUR_UNSPECIFIED", "RED"]},
        "blob": {"type": "string", "contentEncoding": "base64"},
        "wide": {"type": "string", "pattern": "^-?[0-9]+$"},
        "share": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "mail": {"type": "string", "format": "email"},
        "size": {"type": "string", "enum": ["S", "M"]},
        "scores": {
            "type": "object", "maxProperties": 9, "additionalProperties": {"type": "integer", "minimum": 0},
        },
        "inner": {"$ref": "#/components/schemas/Message"},
    }  # fmt: skip


def test_messages_of_one_name(kinds: Any) -> None:
    """Two packages' messages of the same name keep apart; the first keeps the short name."""
    schemas = Schemas({})
    first = schemas.message(types_pb2.Message.DESCRIPTOR)
    assert first == {"$ref": "#/components/schemas/Message"}
    assert schemas.message(kinds) == {"$ref": "#/components/schemas/teams.kinds.Message"}
