"""The OpenRPC document, made from the protos: methods, notifications, errors and limits; pure.

Source: https://spec.open-rpc.org/
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from google.protobuf.descriptor import Descriptor

from edge import faults, jsonrpc
from edge.schema import Schema, Schemas, is_required
from edge.table import Method
from mesh.errors import BY_CODE, IdempotencyConflict, MessengerError
from messenger.common.v1 import options_pb2
from messenger.events.v1 import notifications_pb2

_ERROR_DATA: Schema = {
    "type": "object",
    "description": "`data` of every error.",
    "properties": {
        "reason": {"type": "string", "pattern": "^[A-Z0-9_]+$", "description": "For programs; stable."},
        "retryable": {"type": "boolean", "description": "The same call may succeed later."},
        "retry_after_ms": {"type": "integer", "description": "When, where that is known."},
        "trace_id": {"type": "string", "description": "Finds the call in the server's logs."},
    },
    "required": ["reason", "retryable", "trace_id"],
}


def document(
    methods: Mapping[str, Method], *, url: str, described: Mapping[str, str], limits: Mapping[str, float]
) -> dict[str, Any]:
    """The OpenRPC document.

    Args:
        methods: the edge's table.
        url: the address that clients use.
        described: the protos' comments, by full name.
        limits: what a user may do at once and in a second, beside the limits of a text.
    """
    schemas, errors = Schemas(described), _errors()
    return {
        "openrpc": "1.3.2",
        "info": {"title": "Messenger", "version": version("messenger")},
        "servers": [
            {"name": "WebSocket", "url": url.replace("http", "ws", 1) + "/ws"},
            {"name": "HTTP", "url": url + "/rpc"},
        ],
        "methods": [_method(method, schemas, described, errors) for method in methods.values()],
        "x-notifications": [
            _notification(descriptor, name, schemas, described)
            for descriptor in notifications_pb2.DESCRIPTOR.message_types_by_name.values()
            if (name := descriptor.GetOptions().Extensions[options_pb2.notification])
        ],
        "x-limits": {"text_bytes": jsonrpc.MAX_BYTES, "batch_calls": jsonrpc.MAX_BATCH, **limits},
        "x-error-data": _ERROR_DATA,
        "components": {"schemas": schemas.components, "errors": errors},
    }


def _method(
    method: Method, schemas: Schemas, described: Mapping[str, str], errors: Mapping[str, Schema]
) -> dict[str, Any]:
    option = method.descriptor.GetOptions().Extensions[options_pb2.jsonrpc]
    criticality = options_pb2.Criticality.Name(option.criticality).removeprefix("CRITICALITY_").lower()
    return {
        "name": method.name,
        "summary": described.get(method.descriptor.full_name, ""),
        "paramStructure": "either",
        "params": [
            {
                "name": field.name,
                **schemas.description(field.full_name),
                "required": is_required(field),
                "schema": schemas.field(field),
            }
            for field in method.descriptor.input_type.fields
        ],
        "result": {"name": "result", "schema": schemas.message(method.descriptor.output_type)},
        "errors": [{"$ref": f"#/components/errors/{name}"} for name in errors],
        "x-deadline-ms": option.deadline_ms,
        "x-criticality": criticality,
        "x-cost": option.cost,
        "x-idempotent": option.idempotent,
        "x-ordered-by": option.ordered_by,
    }


def _notification(
    descriptor: Descriptor, name: str, schemas: Schemas, described: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "name": name,
        "summary": described.get(descriptor.full_name, ""),
        "params": schemas.message(descriptor),
        "x-kept": "event_id" in descriptor.fields_by_name,
    }


def _errors() -> dict[str, Schema]:
    kinds: list[type[MessengerError]] = [*BY_CODE.values(), IdempotencyConflict]
    own = {
        "ParseError": {"code": jsonrpc.PARSE_ERROR, "message": "Not JSON."},
        "InvalidRequest": {
            "code": jsonrpc.INVALID_REQUEST,
            "message": "Not a request, or a batch out of bounds.",
        },
    }
    of_mesh = {
        kind.__name__: {
            "code": faults.code_of(kind("")),
            "message": (kind.__doc__ or "").splitlines()[0],
            "data": {"retryable": kind.retryable},
        }
        for kind in kinds
    }
    return own | of_mesh
