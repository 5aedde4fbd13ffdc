"""Who may call what: the protos' allow-lists, and that servers keep to them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor

from dbapi.service import MailboxService
from mesh.access import callers_of
from mesh.assertion import Verifier
from mesh.errors import MessengerError, PermissionDenied
from mesh.mailbox.memory import MemoryMailbox
from mesh.tls import Tls
from messenger.aggregator.v1 import aggregator_pb2
from messenger.antispam.v1 import antispam_pb2
from messenger.dbapi.v1 import dbapi_pb2, dbapi_pb2_grpc
from messenger.items.v1 import items_pb2
from messenger.profiles.v1 import profiles_pb2

FILES = (aggregator_pb2, antispam_pb2, dbapi_pb2, items_pb2, profiles_pb2)
MAILBOX = dbapi_pb2.DESCRIPTOR.services_by_name["MailboxService"]
EDGE_MAY = {"GetChat", "ListChats", "GetHistory", "ListChanges"}


def methods() -> Iterator[MethodDescriptor]:
    """Every gRPC method of the messenger."""
    for file in FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            yield from service.methods


@pytest.mark.parametrize("method", [pytest.param(one, id=one.full_name) for one in methods()])
def test_every_method_names_its_callers(method: MethodDescriptor) -> None:
    """No method of the messenger is without a list, and none lists antispam or dbstore but the checkers'."""
    callers = callers_of(method)
    assert callers
    if method.containing_service.name != "CheckerService":
        assert callers <= {"edge", "aggregator"}


@pytest.mark.parametrize("method", [pytest.param(one, id=one.name) for one in MAILBOX.methods])
def test_the_edge_writes_no_mailbox(method: MethodDescriptor) -> None:
    """The edge may read mailboxes, to fill gaps and while the aggregator is away, and write none."""
    assert callers_of(method) == {"aggregator"} | ({"edge"} if method.name in EDGE_MAY else set())


@pytest.mark.parametrize(
    ("entry", "opens"),
    [
        ("crm=messenger.dbapi.v1.MailboxService", {"GetChat", "AppendMessages"}),
        ("crm=messenger.dbapi.v1.MailboxService/GetChat", {"GetChat"}),
        ("crm=messenger.dbapi.v1.Mailbox", set()),
        ("crm", set()),
    ],
)
def test_an_operator_adds_callers(entry: str, opens: set[str]) -> None:
    """EXTRA_CALLERS opens a service, or one method of it, to one more caller and to nobody else."""
    for name in ("GetChat", "AppendMessages"):
        method = MAILBOX.methods_by_name[name]
        added = callers_of(method, [entry]) - callers_of(method)
        assert added == ({"crm"} if name in opens else set())


class Announcer:
    """Publishes nothing."""

    def announce(self, entries: object) -> None:
        """Drops them."""


@pytest.fixture
def mailbox() -> tuple[Any, object]:
    """The service of dbapi over mailboxes in memory."""
    service = MailboxService(MemoryMailbox(shards=1), Announcer(), Verifier())  # type: ignore[arg-type]
    return dbapi_pb2_grpc.add_MailboxServiceServicer_to_server, service


def calls() -> Iterator[tuple[str, Any]]:
    """Every method of dbapi by its stub's name, with an empty request."""
    for method in MAILBOX.methods:
        yield method.name, getattr(dbapi_pb2, method.input_type.name)()


async def refusal(stub: dbapi_pb2_grpc.MailboxServiceStub, name: str, request: Any) -> MessengerError:
    """What a call fails with."""
    with pytest.raises(MessengerError) as failed:
        await getattr(stub, name)(request, timeout=5)
    return failed.value


async def test_antispam_gets_nowhere_at_dbapi(
    serve: Any, dial: Any, tls: Callable[[str], Tls], mailbox: tuple[Any, object]
) -> None:
    """With its own good certificate antispam is refused at every method; the text names it and the method."""
    server = await serve(*mailbox, tls=tls("dbapi"))
    stub = dbapi_pb2_grpc.MailboxServiceStub(await dial(server, "dbapi", tls=tls("antispam")))
    for name, request in calls():
        error = await refusal(stub, name, request)
        assert isinstance(error, PermissionDenied)
        assert error.reason == "CALLER_NOT_ALLOWED"
        assert error.detail == f"antispam may not call /messenger.dbapi.v1.MailboxService/{name}."


async def test_the_aggregator_gets_in(
    serve: Any, dial: Any, tls: Callable[[str], Tls], mailbox: tuple[Any, object]
) -> None:
    """The aggregator passes the door of every method: what it hears there is about its request."""
    server = await serve(*mailbox, tls=tls("dbapi"))
    stub = dbapi_pb2_grpc.MailboxServiceStub(await dial(server, "dbapi", tls=tls("aggregator")))
    for name, request in calls():
        assert (await refusal(stub, name, request)).reason == "INVALID_ARGUMENT"


async def test_an_added_caller_gets_in(
    serve: Any, dial: Any, tls: Callable[[str], Tls], mailbox: tuple[Any, object]
) -> None:
    """A team that EXTRA_CALLERS names passes where it is named, and nowhere else."""
    allowed = ("crm=messenger.dbapi.v1.MailboxService/GetChat",)
    server = await serve(*mailbox, tls=tls("dbapi"), extra_callers=allowed)
    stub = dbapi_pb2_grpc.MailboxServiceStub(await dial(server, "dbapi", tls=tls("crm")))
    assert (await refusal(stub, "GetChat", dbapi_pb2.GetChatRequest())).reason == "INVALID_ARGUMENT"
    assert (await refusal(stub, "ListChats", dbapi_pb2.ListChatsRequest())).reason == "CALLER_NOT_ALLOWED"
