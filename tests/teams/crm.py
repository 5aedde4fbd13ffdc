"""Example: a synchronous program that asks dbapi and aggregator, within the call of a user.

It needs the generated stubs alone. The assertion is the one that came with the user's call, in the metadata.
"""

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from messenger.aggregator.v1 import aggregator_pb2, aggregator_pb2_grpc
from messenger.dbapi.v1 import dbapi_pb2, dbapi_pb2_grpc

SECONDS = 2.0
"""Of a call; none is without a deadline."""


def chats_of(dbapi: grpc.Channel, user_id: str, assertion: str) -> list[str]:
    """Ids of the user's chats, as the mailbox has them, the newest activity first."""
    stub = dbapi_pb2_grpc.MailboxServiceStub(dbapi)
    request = dbapi_pb2.ListChatsRequest(owner_id=user_id, limit=20)
    page = stub.ListChats(request, timeout=SECONDS, metadata=[("x-user-assertion", assertion)])
    return [chat.chat_id for chat in page.chats]


def unread_of(aggregator: grpc.Channel, assertion: str) -> dict[str, int]:
    """Unread messages by the name of who sent them. Aggregator knows the user by the assertion alone."""
    stub = aggregator_pb2_grpc.MessengerServiceStub(aggregator)
    request = aggregator_pb2.ListChatsRequest(limit=20)
    page = stub.ListChats(request, timeout=SECONDS, metadata=[("x-user-assertion", assertion)])
    return {chat.peer.name or chat.peer.user_id: chat.unread for chat in page.chats}


def reason_of(error: grpc.RpcError) -> str:
    """Why a call was refused, in UPPER_SNAKE; empty where the other side did not say."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info):
            return str(info.reason)
    return ""
