"""The OpenRPC document, made from the protos: methods, notifications, errors and limits; pure.

Source: https://spec.open-rpc.org/
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from buf.validate import validate_pb2
from edge import faults, jsonrpc
from edge.table import Method
from mesh.errors import BY_CODE, IdempotencyConflict
from messenger.common.v1 import options_pb2
from messenger.events.v1 import notifications_pb2

_TYPES = {
    FieldDescriptor.CPPTYPE_STRING: "string",
    FieldDescriptor.CPPTYPE_BOOL: "boolean",
    FieldDescriptor.CPPTYPE_DOUBLE: "number",
    FieldDescriptor.CPPTYPE_FLOAT: "number",
    FieldDescriptor.CPPTYPE_INT32: "integer",
    FieldDescriptor.CPPTYPE_UINT32: "integer",
    FieldDescriptor.CPPTYPE_INT64: "string",
    FieldDescriptor.CPPTYPE_UINT64: "string",
    FieldDescriptor.CPPTYPE_ENUM: "string",
}

Schema = dict[str, Any]


def document(methods: Mapping[str, Method], *, url: str) -> dict[str, Any]:
    """The OpenRPC document.

    Args:
        methods: the edge's table.
        url: the address that clients use.
    """
    schemas: dict[str, Schema] = {}
    return {
        "openrpc": "1.3.2",
        "info": {"title": "Messenger", "version": version("messenger")},
        "servers": [
            {"name": "WebSocket", "url": url.replace("http", "ws", 1) + "/ws"},
            {"name": "HTTP", "url": url + "/rpc"},
        ],
        "methods": [_method(method, schemas) for method in methods.values()],
        "x-notifications": [
            _notification(descriptor, name, schemas)
            for descriptor in notifications_pb2.DESCRIPTOR.message_types_by_name.values()
            if (name := descriptor.GetOptions().Extensions[options_pb2.notification])
        ],
        "components": {"schemas": schemas, "errors": _errors()},
    }


def _method(method: Method, schemas: dict[str, Schema]) -> dict[str, Any]:
    option = method.descriptor.GetOptions().Extensions[options_pb2.jsonrpc]
    return {
        "name": method.name,
        "paramStructure": "either",
        "params": [
            {"name": field.name, "required": _rules(field).required, "schema": _field(field, schemas)}
            for field in method.descriptor.input_type.fields
        ],
        "result": {"name": "result", "schema": _message(method.descriptor.output_type, schemas)},
        "errors": [{"$ref": f"#/components/errors/{name}"} for name in _errors()],
        "x-deadline-ms": option.deadline_ms,
        "x-cost": option.cost,
        "x-idempotent": option.idempotent,
    }


def _notification(descriptor: Descriptor, name: str, schemas: dict[str, Schema]) -> dict[str, Any]:
    return {
        "name": name,
        "params": _message(descriptor, schemas),
        "x-kept": "event_id" in descriptor.fields_by_name,
    }


def _errors() -> dict[str, dict[str, Any]]:
    kinds = [*BY_CODE.values(), IdempotencyConflict]
    own = {
        "ParseError": {"code": jsonrpc.PARSE_ERROR, "message": "Not JSON."},
        "InvalidRequest": {
            "code": jsonrpc.INVALID_REQUEST,
            "message": "Not a request, or a batch out of bounds.",
        },
    }
    of_mesh = {
        kind.__name__: {"code": faults.code_of(kind("")), "message": (kind.__doc__ or "").splitlines()[0]}
        for kind in kinds
    }
    return own | of_mesh


def _message(descriptor: Descriptor, schemas: dict[str, Schema]) -> Schema:
    if descriptor.full_name == "google.protobuf.Timestamp":
        return {"type": "string", "format": "date-time"}
    if descriptor.full_name.startswith("google.protobuf."):
        return {"type": "object"}
    if descriptor.name not in schemas:
        schemas[descriptor.name] = {}  # before the fields, for types that nest in themselves
        schemas[descriptor.name] = {
            "type": "object",
            "properties": {field.name: _field(field, schemas) for field in descriptor.fields},
        }
    return {"$ref": f"#/components/schemas/{descriptor.name}"}


def _field(field: FieldDescriptor, schemas: dict[str, Schema]) -> Schema:
    single = (
        _message(field.message_type, schemas)
        if field.message_type is not None
        else {"type": _TYPES[field.cpp_type], **_limits(_rules(field))}
    )
    if not field.is_repeated:
        return single
    bounds = _rules(field).repeated
    limits = {"minItems": bounds.min_items, "maxItems": bounds.max_items}
    return {"type": "array", "items": single, **{name: value for name, value in limits.items() if value}}


def _rules(field: FieldDescriptor) -> validate_pb2.FieldRules:
    rules: validate_pb2.FieldRules = field.GetOptions().Extensions[validate_pb2.field]
    return rules


def _limits(rules: validate_pb2.FieldRules) -> Schema:
    text, number = rules.string, rules.uint32
    limits: Schema = {
        "minLength": text.min_len,
        "maxLength": text.max_len,
        "pattern": text.pattern,
        "format": "uuid" if text.uuid else "",
        "minimum": number.gte,
        "maximum": number.lte,
    }
    return {name: value for name, value in limits.items() if value}
