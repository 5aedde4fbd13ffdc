"""The edge's table, out of the protos' options."""

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor

from edge.table import Notifications, methods
from messenger.aggregator.v1 import aggregator_pb2
from messenger.common.v1 import options_pb2
from messenger.edge.v1 import session_pb2
from messenger.events.v1 import notifications_pb2


def service(package: str, *options: options_pb2.JsonRpc) -> FileDescriptor:
    """A proto file with a service that has one annotated method for each of the options, and one without."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    file.dependency.append(options_pb2.DESCRIPTOR.name)
    file.message_type.add(name="Empty")
    added = file.service.add(name="Service")
    for number, option in enumerate(options):
        method = added.method.add(name=f"Method{number}", input_type="Empty", output_type="Empty")
        method.options.Extensions[options_pb2.jsonrpc].CopyFrom(option)
    added.method.add(name="Inside", input_type="Empty", output_type="Empty")
    pool = descriptor_pool.Default()
    pool.Add(file)
    return pool.FindFileByName(f"{package}.proto")


def test_a_team_adds_a_method() -> None:
    """An annotated RPC is in the table with its option's values; one without the option is not."""
    option = options_pb2.JsonRpc(name="team.do", deadline_ms=1500, cost=3, idempotent=True, ordered_by="x")
    [(name, method)] = methods([service("team.v1", option)]).items()
    assert (name, method.name, method.path) == ("team.do", "team.do", "/team.v1.Service/Method0")
    assert (method.service, method.deadline, method.cost) == ("team.v1.Service", 1.5, 3)
    assert (method.idempotent, method.ordered_by) == (True, "x")


def test_two_methods_of_one_name() -> None:
    """A name that is taken is refused, naming both methods."""
    option = options_pb2.JsonRpc(name="team.do", deadline_ms=1)
    with pytest.raises(ValueError, match=r"twice.v1.Service.Method1.*/twice.v1.Service/Method0"):
        methods([service("twice.v1", option, option)])


@pytest.mark.parametrize(
    "option", [options_pb2.JsonRpc(name="x"), options_pb2.JsonRpc(deadline_ms=1)], ids=["deadline", "name"]
)
def test_an_option_that_lacks_something(option: options_pb2.JsonRpc, request: pytest.FixtureRequest) -> None:
    """A method without a deadline or a name is refused when the table is made, not when it is called."""
    package = f"lacks.{'name' if not option.name else 'deadline'}.v1"
    with pytest.raises(ValueError, match="needs a name and a deadline_ms"):
        methods([service(package, option)])


def test_every_method_of_the_protos() -> None:
    """The table of the shipped protos is whole: each field that orders calls is there."""
    table = methods([session_pb2.DESCRIPTOR, aggregator_pb2.DESCRIPTOR])
    assert {"session.connect", "messages.send", "rpc.discover"} <= set(table)
    for method in table.values():
        names = {field.name for field in method.request.DESCRIPTOR.fields}
        assert not method.ordered_by or method.ordered_by in names


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
    """An entry that this edge does not know is refused, not written half."""
    with pytest.raises(ValueError, match="not known"):
        Notifications().write_entry(notifications_pb2.Notification(), "1-2-3")
