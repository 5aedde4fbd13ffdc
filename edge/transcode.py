"""JSON to protobuf and back, compiled once from descriptors; pure.

The mapping is ProtoJSON with the proto's field names; fields without presence are always written. msgspec
does the reading (types and unknown fields), protovalidate the limits. protobuf's own json_format is some four
to ten times slower (`python -m bench transcode` measures both).
Source: https://protobuf.dev/programming-guides/json/
"""

import base64
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from keyword import iskeyword
from typing import Annotated, Any

import msgspec
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from mesh.errors import InvalidArgument

Convert = Callable[[Any], Any]

_SCALARS: dict[int, Any] = {
    FieldDescriptor.CPPTYPE_STRING: str,
    FieldDescriptor.CPPTYPE_BOOL: bool,
    FieldDescriptor.CPPTYPE_DOUBLE: float,
    FieldDescriptor.CPPTYPE_FLOAT: float,
    FieldDescriptor.CPPTYPE_INT32: Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)],
    FieldDescriptor.CPPTYPE_UINT32: Annotated[int, msgspec.Meta(ge=0, lt=2**32)],
    FieldDescriptor.CPPTYPE_INT64: int | str,  # the message itself holds 64 bits
    FieldDescriptor.CPPTYPE_UINT64: int | str,
    FieldDescriptor.CPPTYPE_ENUM: int | str,
}
_WELL_KNOWN: dict[str, Any] = {
    "google.protobuf.Timestamp": str,
    "google.protobuf.Duration": str,
    "google.protobuf.Struct": dict[str, Any],
}
"""What json_format reads these from; it finds out by itself what others of that package are in JSON."""
_EPOCH = datetime.fromtimestamp(0, UTC)
_WIDE = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)


# ── JSON → protobuf ─────────────────────────────────────────────────────────────────────────────────────────


class Reader:
    """Reads the params of one method into its request message.

    Params may stand by name or, in the order of the proto's fields, by position. `null` is absent.

    Args:
        descriptor: of the request message.
    """

    def __init__(self, descriptor: Descriptor) -> None:
        self._message = message_factory.GetMessageClass(descriptor)
        self._names = [field.name for field in descriptor.fields]
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_struct_of(descriptor, {}))
        self._fill = _filler(descriptor, {})

    def read(self, params: bytes) -> Message:
        """The request for raw JSON params; empty params are an empty object.

        Raises:
            InvalidArgument: names the field and the rule.
        """
        try:
            values = self._decoder.decode(self._by_name(params) if params[:1] == b"[" else params or b"{}")
            message: Message = self._message(**self._fill(values))
        except msgspec.DecodeError as error:
            raise InvalidArgument(_explain(str(error))) from None
        except (ValueError, TypeError) as error:
            raise InvalidArgument(f"params: {error}") from None
        return message

    def _by_name(self, params: bytes) -> bytes:
        values = msgspec.json.decode(params, type=list[msgspec.Raw])
        if len(values) > len(self._names):
            raise InvalidArgument(f"params: at most {len(self._names)} by position: {', '.join(self._names)}")
        return msgspec.json.encode(dict(zip(self._names, values, strict=False)))


_PLACE = re.compile(r"^(?P<rule>.*) - at `\$\.(?P<path>.+)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`(?: - at `.*`)?$")


def _explain(text: str) -> str:
    """Puts the field before the rule, as protovalidate's messages have it."""
    if found := _UNKNOWN.match(text):
        return f"{found['name']}: unknown field"
    if found := _PLACE.match(text):
        return f"{found['path']}: {found['rule'].lower()}"
    return f"params: {text}"


def _struct_of(descriptor: Descriptor, known: dict[str, Any]) -> Any:  # a class made here
    if descriptor.full_name not in known:
        known[descriptor.full_name] = None
        fields = [(field.name, _json_type(field, known) | None, None) for field in descriptor.fields]
        known[descriptor.full_name] = msgspec.defstruct(
            descriptor.name, fields, forbid_unknown_fields=True, kw_only=True, gc=False
        )
    if known[descriptor.full_name] is None:
        raise ValueError(f"{descriptor.full_name} holds itself; requests of clients cannot")
    return known[descriptor.full_name]


def _json_type(field: FieldDescriptor, known: dict[str, Any]) -> Any:  # a type
    if _is_map(field):
        return dict[str, _single_type(_nested(field).fields_by_name["value"], known)]  # type: ignore[misc]
    single = _single_type(field, known)
    return list[single] if field.is_repeated else single  # type: ignore[valid-type]


def _single_type(field: FieldDescriptor, known: dict[str, Any]) -> Any:  # a type
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes  # msgspec reads base64
    if field.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE:
        return _SCALARS[field.cpp_type]
    nested = _nested(field)
    if nested.full_name.startswith("google.protobuf."):
        return _WELL_KNOWN.get(nested.full_name, Any)
    return _struct_of(nested, known)


def _filler(descriptor: Descriptor, known: dict[str, Convert]) -> Convert:
    """A function from the decoded struct to the message's keyword arguments."""
    if descriptor.full_name in known:
        return known[descriptor.full_name]
    converts = [(field.name, _into(field, known)) for field in descriptor.fields]

    def fill(values: Any) -> dict[str, Any]:  # a struct made here
        arguments = {}
        for name, convert in converts:
            value = getattr(values, name)
            if value is not None:
                try:
                    arguments[name] = value if convert is None else convert(value)
                except (ValueError, TypeError, json_format.ParseError) as error:
                    raise InvalidArgument(f"{name}: {error}") from None
        return arguments

    known[descriptor.full_name] = fill
    return fill


def _into(field: FieldDescriptor, known: dict[str, Convert]) -> Convert | None:
    if _is_map(field):
        single = _into_single(_nested(field).fields_by_name["value"], known)
        return _over_values(single) if single else None
    single = _into_single(field, known)
    if single and field.is_repeated:
        return lambda values: [single(value) for value in values]
    return single


def _into_single(field: FieldDescriptor, known: dict[str, Convert]) -> Convert | None:
    if field.cpp_type in _WIDE:
        return int
    if field.enum_type is not None:
        return _number_of(field.enum_type)
    if field.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE:
        return None
    nested = _nested(field)
    message = message_factory.GetMessageClass(nested)
    if nested.full_name.startswith("google.protobuf."):
        return lambda value: json_format.ParseDict(value, message())
    fill = _filler(nested, known)
    return lambda values: message(**fill(values))


def _number_of(enum: EnumDescriptor) -> Convert:
    numbers = {value.name: value.number for value in enum.values}

    def convert(value: int | str) -> int:
        if isinstance(value, str) and value not in numbers:
            raise ValueError(f"must be one of {', '.join(numbers)}")
        return numbers[value] if isinstance(value, str) else value

    return convert


# ── protobuf → JSON ─────────────────────────────────────────────────────────────────────────────────────────


def writer(descriptor: Descriptor, known: dict[str, Convert] | None = None) -> Convert:
    """A function from a message of this type to what a JSON encoder takes: dicts, lists, numbers, text.

    Its source is written out, a line a field: a loop over the fields takes half as long again.
    """
    known = {} if known is None else known
    if descriptor.full_name in known:
        return known[descriptor.full_name]
    if descriptor.full_name == "google.protobuf.Timestamp":
        return _rfc3339
    if descriptor.full_name == "google.protobuf.Duration":
        return lambda message: message.ToJsonString()
    if descriptor.full_name.startswith("google.protobuf."):
        return lambda message: json_format.MessageToDict(message, preserving_proto_field_name=True)
    scope: dict[str, Any] = {}
    known[descriptor.full_name] = lambda message: scope["write"](message)  # for types that nest in themselves
    lines = ["def write(message):", "  out = {}"]
    for field in descriptor.fields:
        convert, value = _out_of(field, known), f"getattr(message, {field.name!r})"
        if not iskeyword(field.name):
            value = f"message.{field.name}"
        if convert is not None:
            scope[f"convert_{field.number}"] = convert
            value = f"convert_{field.number}({value})"
        there = f"if message.HasField({field.name!r}): " if field.has_presence else ""
        lines.append(f"  {there}out[{field.name!r}] = {value}")
    exec("\n".join([*lines, "  return out"]), scope)  # noqa: S102  # of the names in our own descriptors
    write: Convert = scope["write"]
    known[descriptor.full_name] = write
    return write


@lru_cache(maxsize=4096)
def _rfc3339_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]


def _rfc3339(stamp: Any) -> str:
    """A Timestamp as its own ToJsonString has it; most of a push's times fall into a few seconds."""
    whole, nanos = _rfc3339_second(stamp.seconds), stamp.nanos
    if not nanos:
        return f"{whole}Z"
    if not nanos % 1_000_000:
        return f"{whole}.{nanos // 1_000_000:03d}Z"
    return str(stamp.ToJsonString())


def _out_of(field: FieldDescriptor, known: dict[str, Convert]) -> Convert | None:
    if _is_map(field):
        single = _out_of_single(_nested(field).fields_by_name["value"], known)
        return _over_values(single) if single else dict
    single = _out_of_single(field, known)
    if field.is_repeated:
        return (lambda values: [single(value) for value in values]) if single else list
    return single


def _out_of_single(field: FieldDescriptor, known: dict[str, Convert]) -> Convert | None:
    if field.cpp_type in _WIDE:
        return str
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda value: base64.b64encode(value).decode()
    if field.enum_type is not None:
        names = {number: value.name for number, value in field.enum_type.values_by_number.items()}
        return lambda number: names.get(number, number)
    if field.message_type is not None:
        return writer(field.message_type, known)
    return None


def _over_values(convert: Convert) -> Convert:
    return lambda values: {key: convert(value) for key, value in values.items()}


def _nested(field: FieldDescriptor) -> Descriptor:
    assert field.message_type is not None  # noqa: S101  # the caller looked
    return field.message_type


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)
