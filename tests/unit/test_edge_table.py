"""The edge's table, out of the protos' options."""

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor

from edge.table import OWN, Notifications, methods
from messenger.common.v1 import options_pb2
from messenger.events.v1 import notifications_pb2


def service(*options: options_pb2.JsonRpc, **method: Any) -> ServiceDescriptor:
    """A service that has one annotated method for each of the options, and one without."""
    file = descriptor_pb2.FileDescriptorProto(name="team.proto", package="team.v1", syntax="proto3")
    message = file.message_type.add(name="Empty")
    message.field.add(name="x", number=1, type=9, label=1)
    added = file.service.add(name="Service")
    for number, option in enumerate(options):
        one = added.method.add(name=f"Method{number}", input_type="Empty", output_type="Empty", **method)
        one.options.Extensions[options_pb2.jsonrpc].CopyFrom(option)
    added.method.add(name="Inside", input_type="Empty", output_type="Empty")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found: ServiceDescriptor = pool.FindServiceByName("team.v1.Service")
    return found


def option(**changed: Any) -> options_pb2.JsonRpc:
    """A good option, but for what is changed."""
    whole: dict[str, Any] = {"name": "team.do", "deadline_ms": 1500, "cost": 3, "criticality": 3}
    return options_pb2.JsonRpc(**whole | changed)


def test_a_team_adds_a_method() -> None:
    """An annotated RPC is in the table with its option's values; one without the option is not."""
    [(name, method)] = methods([service(option(idempotent=True, ordered_by="x"))]).items()
    assert (name, method.name, method.path) == ("team.do", "team.do", "/team.v1.Service/Method0")
    assert (method.service, method.deadline, method.cost) == ("team.v1.Service", 1.5, 3)
    assert (method.criticality, method.idempotent, method.ordered_by) == (3, True, "x")


def test_two_methods_of_one_name() -> None:
    """A name that is taken is refused, naming both methods."""
    with pytest.raises(ValueError, match=r"team.v1.Service.Method1: team.do.*/team.v1.Service/Method0"):
        methods([service(option(), option())])
    with pytest.raises(ValueError, match=r"Method0: messages.send is taken by /messenger"):
        methods([*OWN, service(option(name="messages.send"))])


@pytest.mark.parametrize("lacks", ["name", "deadline_ms", "criticality"])
def test_an_option_that_lacks_something(lacks: str) -> None:
    """A method without one of them is refused when the table is made, not when it is called."""
    with pytest.raises(ValueError, match=f"Method0: the jsonrpc option needs .*{lacks}"):
        methods([service(option(**{lacks: None}))])


@pytest.mark.parametrize("side", ["client_streaming", "server_streaming"])
def test_streams_are_not_offered(side: str) -> None:
    """An annotated stream is refused when the table is made: a client's call has one answer."""
    with pytest.raises(ValueError, match="Method0: streams are not offered"):
        methods([service(option(), **{side: True})])


def test_an_order_by_nothing() -> None:
    """A field to order by that the request lacks is refused when the table is made."""
    with pytest.raises(ValueError, match="Method0: its request has no field y"):
        methods([service(option(ordered_by="y"))])


def test_every_method_of_the_protos() -> None:
    """The table of the shipped protos is whole."""
    assert {"session.connect", "messages.send", "rpc.discover"} <= set(methods(OWN))


def test_kept_notifications_have_ids_and_the_others_none() -> None:
    """An entry of the bus gets its number as event_id; an ephemeral notification has none."""
    written = Notifications()
    read = notifications_pb2.ReceiptRead(chat_id="c", user_id="u", up_to="m")
    entry = notifications_pb2.Notification(receipt_read=read)
    assert written.write_entry(entry, "1-2-3") == {
        "jsonrpc": "2.0", "method": "receipt.read",
        "params": {"event_id": "1-2-3", "chat_id": "c", "user_id": "u", "up_to": "m"},
    }  # fmt: skip
    assert written.write(notifications_pb2.SessionReconnect(after_ms=5, reason="draining")) == {
        "jsonrpc": "2.0", "method": "session.reconnect", "params": {"after_ms": 5, "reason": "draining"},
    }  # fmt: skip


def test_an_entry_of_no_known_kind() -> None:
    """Of a kind that this edge does not know there is nothing to write, kept or not."""
    assert Notifications().write_entry(notifications_pb2.Notification(), "1-2-3") is None
    assert Notifications().write_ephemeral(b"") is None
