"""The transcoder against protobuf's own json_format, on a message that has a field of every kind."""

import json
from typing import Any

import msgspec
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import DoubleValue
from hypothesis import given
from hypothesis import strategies as st

from edge.transcode import Reader, writer
from mesh.errors import InvalidArgument
from messenger.aggregator.v1 import aggregator_pb2
from messenger.common.v1 import types_pb2
from messenger.dbapi.v1 import dbapi_pb2

Field = descriptor_pb2.FieldDescriptorProto

SCALARS: dict[str, tuple[int, st.SearchStrategy[Any]]] = {
    "string": (Field.TYPE_STRING, st.text()),
    "bool": (Field.TYPE_BOOL, st.booleans()),
    "double": (Field.TYPE_DOUBLE, st.floats(allow_nan=False, allow_infinity=False)),
    "int32": (Field.TYPE_INT32, st.integers(-(2**31), 2**31 - 1)),
    "sint32": (Field.TYPE_SINT32, st.integers(-(2**31), 2**31 - 1)),
    "uint32": (Field.TYPE_UINT32, st.integers(0, 2**32 - 1)),
    "int64": (Field.TYPE_INT64, st.integers(-(2**63), 2**63 - 1)),
    "uint64": (Field.TYPE_UINT64, st.integers(0, 2**64 - 1)),
    "bytes": (Field.TYPE_BYTES, st.binary()),
    "enum": (Field.TYPE_ENUM, st.sampled_from([0, 1, 2])),
}


def everything() -> type[Message]:
    """A message type with each scalar: plain, optional and repeated; nested, mapped and well-known ones."""
    file = descriptor_pb2.FileDescriptorProto(name="kinds.proto", package="kinds", syntax="proto3")
    file.dependency.extend(f"google/protobuf/{name}.proto" for name in ("timestamp", "wrappers", "empty"))
    colour = file.enum_type.add(name="Colour")
    for number, name in enumerate(("COLOUR_UNSPECIFIED", "COLOUR_RED", "COLOUR_BLUE")):
        colour.value.add(name=name, number=number)
    inner = file.message_type.add(name="Inner")
    inner.field.add(name="name", number=1, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
    kinds = file.message_type.add(name="Kinds")
    number = 0

    def add(name: str, kind: int, label: int = Field.LABEL_OPTIONAL, type_name: str = "") -> None:
        nonlocal number
        number += 1
        kinds.field.add(name=name, number=number, type=kind, label=label, type_name=type_name or None)

    for name, (kind, _) in SCALARS.items():
        type_name = ".kinds.Colour" if kind == Field.TYPE_ENUM else ""
        add(f"one_{name}", kind, type_name=type_name)
        add(f"many_{name}", kind, Field.LABEL_REPEATED, type_name)
        add(f"maybe_{name}", kind, type_name=type_name)
        kinds.field[-1].proto3_optional = True
        kinds.field[-1].oneof_index = len(kinds.oneof_decl)
        kinds.oneof_decl.add(name=f"_maybe_{name}")
    add("from", Field.TYPE_STRING)  # a word of Python's
    add("inner", Field.TYPE_MESSAGE, type_name=".kinds.Inner")
    add("inners", Field.TYPE_MESSAGE, Field.LABEL_REPEATED, ".kinds.Inner")
    add("at", Field.TYPE_MESSAGE, type_name=".google.protobuf.Timestamp")
    add("share", Field.TYPE_MESSAGE, type_name=".google.protobuf.DoubleValue")
    add("nothing", Field.TYPE_MESSAGE, type_name=".google.protobuf.Empty")
    tree = file.message_type.add(name="Tree")
    tree.field.add(name="name", number=1, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
    tree.field.add(
        name="below", number=2, type=Field.TYPE_MESSAGE, label=Field.LABEL_REPEATED, type_name=".kinds.Tree"
    )
    pool = descriptor_pool.Default()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("kinds.Kinds"))


KINDS = everything()
DESCRIPTOR: Any = KINDS.DESCRIPTOR
READER = Reader(DESCRIPTOR)
WRITE = writer(DESCRIPTOR)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Any message of the type."""
    fields: dict[str, Any] = {}
    for name, (_, values) in SCALARS.items():
        fields[f"one_{name}"] = draw(values)
        fields[f"many_{name}"] = draw(st.lists(values, max_size=2))
        if draw(st.booleans()):
            fields[f"maybe_{name}"] = draw(values)
    fields["from"] = draw(st.text())
    if draw(st.booleans()):
        fields["inner"] = {"name": draw(st.text())}
    fields["inners"] = [{"name": text} for text in draw(st.lists(st.text(), max_size=2))]
    if draw(st.booleans()):
        fields["share"], fields["nothing"] = DoubleValue(value=draw(SCALARS["double"][1])), Empty()
        fields["at"] = Timestamp(seconds=draw(st.integers(-62135596800, 253402300799)), nanos=123_000_000)
    return KINDS(**fields)


@given(messages())
def test_writing_is_protojson(message: Message) -> None:
    """What is written is what json_format writes, with proto names and defaults in place."""
    expected = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    assert json.loads(msgspec.json.encode(WRITE(message))) == expected


@given(messages())
def test_reading_is_protojson(message: Message) -> None:
    """What json_format writes is read into the same message, and so is what is written here."""
    theirs = json_format.MessageToJson(message, preserving_proto_field_name=True)
    assert READER.read(theirs.encode()) == message
    assert READER.read(msgspec.json.encode(WRITE(message))) == message


def test_a_message_of_the_contract() -> None:
    """Absent optional fields are not written, fields without presence always are."""
    chat = types_pb2.Chat(chat_id="c", peer=types_pb2.Peer(user_id="bob"))
    chat.updated_at.FromMilliseconds(1_500)
    assert writer(types_pb2.Chat.DESCRIPTOR)(chat) == {
        "chat_id": "c", "peer": {"user_id": "bob"}, "unread": 0, "seq": 0,
        "updated_at": "1970-01-01T00:00:01.500Z",
    }  # fmt: skip


def test_a_message_that_nests_in_itself() -> None:
    """A type that holds its own kind is written to any depth."""
    descriptor: Any = descriptor_pool.Default().FindMessageTypeByName("kinds.Tree")
    tree = {"name": "a", "below": [{"name": "b", "below": [{"name": "c", "below": []}]}]}
    message = json_format.ParseDict(tree, message_factory.GetMessageClass(descriptor)())
    assert writer(descriptor)(message) == tree


def test_a_struct_is_plain_json() -> None:
    """A google.protobuf.Struct is written as the object that it holds."""
    document = {"a": [1, "x", None, {"b": True}]}
    assert writer(Struct.DESCRIPTOR)(json_format.ParseDict(document, Struct())) == document


@pytest.mark.parametrize(
    ("params", "text"),
    [
        (b'{"one_enum": "COLOUR_GREEN"}', "one_enum: must be one of COLOUR_UNSPECIFIED, COLOUR_RED, "),
        (b'{"many_enum": ["RED"]}', "many_enum: must be one of"),
        (b'{"one_int64": "many"}', "one_int64: "),
        (b'{"at": "yesterday"}', "at: "),
        (b'{"share": "much"}', "share: "),
        (b'{"one_bytes": "?"}', "one_bytes: "),
    ],
)  # fmt: skip
def test_values_of_no_such_kind(params: bytes, text: str) -> None:
    """What has the right type and is no value of the field is refused by the field's name."""
    with pytest.raises(InvalidArgument, match=text):
        READER.read(params)


def test_a_number_of_an_enum() -> None:
    """ProtoJSON takes an enum's number as well as its name."""
    assert READER.read(b'{"one_enum": 1}') == READER.read(b'{"one_enum": "COLOUR_RED"}')


SEND = Reader(aggregator_pb2.SendMessageRequest.DESCRIPTOR)


@given(st.binary())
def test_any_params_are_read_or_refused(params: bytes) -> None:
    """Whatever the params are, there is a message or an InvalidArgument."""
    for reader in (READER, SEND):
        try:
            reader.read(params)
        except InvalidArgument:
            continue


@pytest.mark.parametrize(
    ("params", "field"),
    [
        (b'{"chat_id": 1}', "chat_id"), (b'{"text": ["x"]}', "text"), (b'{"text": {}}', "text"),
        (b'{"nonsense": 1}', "nonsense"), (b'{"chatId": "x"}', "chatId"), (b"[1]", "chat_id"),
        (b'["a", "b", "c", "d"]', "params"), (b"{", "params"), (b"3", "params"), (b"null", "params"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(params: bytes, field: str) -> None:
    """Wrong types and unknown fields are refused by name, and too many positions by their number."""
    with pytest.raises(InvalidArgument) as refused:
        SEND.read(params)
    assert refused.value.detail.startswith(f"{field}: ")


@pytest.mark.parametrize(
    "params", [b'{"chat_id": "c", "text": "t", "client_msg_id": "k"}', b'["c", "t", "k"]']
)
def test_params_by_name_and_by_position(params: bytes) -> None:
    """Both styles fill the same fields, by position in the proto's order."""
    assert SEND.read(params) == aggregator_pb2.SendMessageRequest(chat_id="c", text="t", client_msg_id="k")


@pytest.mark.parametrize("params", [b"", b"{}", b"[]", b'{"text": null}', b"[null]"])
def test_what_is_not_given_is_absent(params: bytes) -> None:
    """No params, no members and nulls all mean absent."""
    assert SEND.read(params) == aggregator_pb2.SendMessageRequest()


def test_a_nested_list_is_read() -> None:
    """Repeated messages are read item by item, and a wrong item is named by its place."""
    reader = Reader(dbapi_pb2.AppendMessagesRequest.DESCRIPTOR)
    request: Any = reader.read(b'{"messages": [{"owner_id": "alice", "text": "x"}]}')
    assert request.messages[0].owner_id == "alice"
    with pytest.raises(InvalidArgument, match=r"^messages\[0\]\.text: "):
        reader.read(b'{"messages": [{"text": 5}]}')
