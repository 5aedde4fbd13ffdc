"""The edge's table of methods and notifications, read out of the protos' options; pure.

A team that annotates an RPC has it on the WebSocket, in the OpenRPC document and in the limits
without a line here: which services there are beside our own is a setting (teams.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from edge.transcode import Convert, Reader, writer
from messenger.aggregator.v1 import aggregator_pb2
from messenger.common.v1 import options_pb2
from messenger.edge.v1 import session_pb2
from messenger.events.v1 import notifications_pb2

SESSION: ServiceDescriptor = session_pb2.DESCRIPTOR.services_by_name["SessionService"]
MESSENGER: ServiceDescriptor = aggregator_pb2.DESCRIPTOR.services_by_name["MessengerService"]
OWN = (SESSION, MESSENGER)
"""The services whose methods every client of ours knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method that clients can call.

    Attributes:
        name: on JSON-RPC, e.g. `messages.send`.
        path: on gRPC, `/package.Service/Method`.
        service: full name of the gRPC service.
        deadline: seconds for the whole call.
        criticality, cost, idempotent, ordered_by: as the proto's option says.
        takes_request_id: the request has a `request_id`, which the edge makes where the client gave none.
        reader: params to request.
        write: response message to JSON value.
        descriptor: of the gRPC method, for documents.
        request, response: classes of the messages.
    """

    name: str
    path: str
    service: str
    deadline: float
    criticality: int
    cost: int
    idempotent: bool
    ordered_by: str
    takes_request_id: bool
    reader: Reader
    write: Convert
    descriptor: MethodDescriptor
    request: type[Message]
    response: type[Message]


def methods(services: Iterable[ServiceDescriptor]) -> dict[str, Method]:
    """The annotated methods of these services, by JSON-RPC name.

    Raises:
        ValueError: two methods have the same name, or one cannot be offered as its option says.
    """
    found: dict[str, Method] = {}
    for service in services:
        for descriptor in service.methods:
            if not descriptor.GetOptions().HasExtension(options_pb2.jsonrpc):
                continue
            method = _method(descriptor)
            if method.name in found:
                raise ValueError(
                    f"{descriptor.full_name}: {method.name} is taken by {found[method.name].path}"
                )
            found[method.name] = method
    return found


def _method(descriptor: MethodDescriptor) -> Method:
    option = descriptor.GetOptions().Extensions[options_pb2.jsonrpc]
    if not (option.name and option.deadline_ms and option.criticality):
        raise ValueError(
            f"{descriptor.full_name}: the jsonrpc option needs a name, a deadline_ms and a criticality"
        )
    if descriptor.client_streaming or descriptor.server_streaming:
        raise ValueError(f"{descriptor.full_name}: streams are not offered to clients")
    if option.ordered_by and option.ordered_by not in descriptor.input_type.fields_by_name:
        raise ValueError(f"{descriptor.full_name}: its request has no field {option.ordered_by} to order by")
    service = descriptor.containing_service.full_name
    return Method(
        name=option.name,
        path=f"/{service}/{descriptor.name}",
        service=service,
        deadline=option.deadline_ms / 1000,
        criticality=option.criticality,
        cost=option.cost,
        idempotent=option.idempotent,
        ordered_by=option.ordered_by,
        takes_request_id="request_id" in descriptor.input_type.fields_by_name,
        reader=Reader(descriptor.input_type),
        write=writer(descriptor.output_type),
        descriptor=descriptor,
        request=message_factory.GetMessageClass(descriptor.input_type),
        response=message_factory.GetMessageClass(descriptor.output_type),
    )


class Notifications:
    """Writes notifications: which JSON-RPC name each message has, and its params."""

    def __init__(self) -> None:
        self._by_type: dict[str, tuple[str, Convert]] = {
            descriptor.full_name: (name, writer(descriptor))
            for descriptor in notifications_pb2.DESCRIPTOR.message_types_by_name.values()
            if (name := descriptor.GetOptions().Extensions[options_pb2.notification])
        }

    def write(self, message: Message) -> dict[str, Any]:
        """The notification object for one of the notification messages."""
        name, convert = self._by_type[message.DESCRIPTOR.full_name]
        return {"jsonrpc": "2.0", "method": name, "params": convert(message)}

    def write_entry(self, envelope: notifications_pb2.Notification, event_id: str) -> dict[str, Any] | None:
        """The notification object for an entry of the bus, with its number; None for a kind of later days."""
        body = _body_of(envelope)
        return None if body is None else self.write_body(body, event_id)

    def write_ephemeral(self, payload: bytes) -> dict[str, Any] | None:
        """The notification object for what is pushed and not kept; None for a kind of later days."""
        body = _body_of(notifications_pb2.Notification.FromString(payload))
        return None if body is None else self.write(body)

    def write_body(self, body: Message, event_id: str) -> dict[str, Any]:
        """The notification object for a kept event under this id."""
        notification = self.write(body)
        notification["params"]["event_id"] = event_id
        return notification


def _body_of(envelope: notifications_pb2.Notification) -> Message | None:
    which = envelope.WhichOneof("body")
    body: Message | None = getattr(envelope, which) if which else None
    return body
