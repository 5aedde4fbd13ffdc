"""JSON Schema of what protobuf messages are in JSON, with the limits that their fields declare; pure.

Source: https://protobuf.dev/programming-guides/json/, https://json-schema.org/draft-07
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from buf.validate import validate_pb2

Schema = dict[str, Any]

_TYPES: dict[int, Schema] = {
    FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number"},
    FieldDescriptor.CPPTYPE_FLOAT: {"type": "number"},
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer"},
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer"},
    FieldDescriptor.CPPTYPE_INT64: {"type": "string", "pattern": "^-?[0-9]+$"},
    FieldDescriptor.CPPTYPE_UINT64: {"type": "string", "pattern": "^[0-9]+$"},
}

_WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]+)?s$"},
    "google.protobuf.Struct": {"type": "object"},
}
"""Others of that package may be any JSON."""

_KEYWORDS = {
    "min_len": "minLength", "max_len": "maxLength", "pattern": "pattern",
    "gte": "minimum", "gt": "exclusiveMinimum", "lte": "maximum", "lt": "exclusiveMaximum",
    "min_items": "minItems", "max_items": "maxItems", "unique": "uniqueItems",
    "min_pairs": "minProperties", "max_pairs": "maxProperties",
    "const": "const",
}  # fmt: skip
"""Rules of buf.validate that JSON Schema has a word for. What has none is found out by calling."""

_FORMATS = {"uuid", "email", "hostname", "ipv4", "ipv6", "uri"}


class Schemas:
    """The schemas of messages, each once.

    Args:
        described: comments, by full name.

    Attributes:
        components: every message's schema so far, for `#/components/schemas`.
    """

    def __init__(self, described: Mapping[str, str]) -> None:
        self.components: dict[str, Schema] = {}
        self._described = described
        self._names: dict[str, str] = {}

    def message(self, descriptor: Descriptor) -> Schema:
        """A message's schema, or where it stands."""
        if descriptor.full_name.startswith("google.protobuf."):
            return dict(_WELL_KNOWN.get(descriptor.full_name, {}))
        if descriptor.full_name not in self._names:
            self._add(descriptor)
        return {"$ref": f"#/components/schemas/{self._names[descriptor.full_name]}"}

    def field(self, field: FieldDescriptor) -> Schema:
        """A field's schema."""
        rules = _rules_of(field)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = self._single(field.message_type.fields_by_name["value"], rules.map.values)
            return {"type": "object", "additionalProperties": value, **_limits(rules.map)}
        if field.is_repeated:
            items = self._single(field, rules.repeated.items)
            return {"type": "array", "items": items, **_limits(rules.repeated)}
        return self._single(field, rules)

    def _add(self, descriptor: Descriptor) -> None:
        # The short name, unless two packages have a message of that name.
        name = descriptor.full_name if descriptor.name in self.components else descriptor.name
        self._names[descriptor.full_name] = name
        self.components[name] = {}  # before the fields, for types that nest in themselves
        required = [field.name for field in descriptor.fields if is_required(field)]
        self.components[name] = {
            "type": "object",
            **self.description(descriptor.full_name),
            "properties": {
                field.name: self.description(field.full_name) | self.field(field)
                for field in descriptor.fields
            },
            **({"required": required} if required else {}),
        }

    def description(self, full_name: str) -> Schema:
        """What the comment says, for the keyword `description`; nothing where there is none."""
        text = self._described.get(full_name)
        return {"description": text} if text else {}

    def _single(self, field: FieldDescriptor, rules: validate_pb2.FieldRules) -> Schema:
        if field.message_type is not None:
            return self.message(field.message_type)
        if field.enum_type is not None:
            return {"type": "string", "enum": [value.name for value in field.enum_type.values]}
        if field.type == FieldDescriptor.TYPE_BYTES:
            return {"type": "string", "contentEncoding": "base64"}
        schema, kind = _TYPES[field.cpp_type], rules.WhichOneof("type")
        if kind is None or kind.endswith("64"):  # a limit of a number says nothing of a text
            return dict(schema)
        return schema | _limits(getattr(rules, kind))


def is_required(field: FieldDescriptor) -> bool:
    """Whether a message without the field breaks its limits."""
    rules = _rules_of(field)
    return rules.required or rules.repeated.min_items > 0 or rules.map.min_pairs > 0


def _rules_of(field: FieldDescriptor) -> validate_pb2.FieldRules:
    rules: validate_pb2.FieldRules = field.GetOptions().Extensions[validate_pb2.field]
    return rules


def _limits(rules: Any) -> Schema:  # the rules of one kind of fields
    limits: Schema = {}
    for field, value in rules.ListFields():
        if field.name in _KEYWORDS:
            limits[_KEYWORDS[field.name]] = value
        elif field.name in _FORMATS and value:
            limits["format"] = field.name
        elif field.name == "in":
            limits["enum"] = list(value)
    return limits
