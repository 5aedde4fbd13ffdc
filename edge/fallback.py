"""Reads that the edge takes to dbapi itself while the aggregator is away; names are missing then."""

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import Message

from messenger.aggregator.v1 import aggregator_pb2
from messenger.dbapi.v1 import dbapi_pb2, dbapi_pb2_grpc

Fallback = Callable[[Any, str], Awaitable[Message]]
"""Answers a method's request for a user id with the method's own response."""

MISSING = ("aggregator",)
"""What `degraded` says of such an answer."""

CHATS_LIMIT = 20
MESSAGES_LIMIT = 50


def fallbacks(mailbox: dbapi_pb2_grpc.MailboxServiceStub) -> dict[str, Fallback]:
    """The methods that have one, by JSON-RPC name."""

    async def list_chats(request: aggregator_pb2.ListChatsRequest, user_id: str) -> Message:
        page = await mailbox.ListChats(
            dbapi_pb2.ListChatsRequest(
                owner_id=user_id, cursor=request.cursor, limit=request.limit or CHATS_LIMIT
            )
        )
        return aggregator_pb2.ListChatsResponse(
            chats=page.chats, next_cursor=page.next_cursor, degraded=MISSING
        )

    async def get_chat(request: aggregator_pb2.GetChatRequest, user_id: str) -> Message:
        found = await mailbox.GetChat(dbapi_pb2.GetChatRequest(owner_id=user_id, chat_id=request.chat_id))
        return aggregator_pb2.GetChatResponse(chat=found.chat, degraded=MISSING)

    async def history(request: aggregator_pb2.GetHistoryRequest, user_id: str) -> Message:
        page = await mailbox.GetHistory(
            dbapi_pb2.GetHistoryRequest(
                owner_id=user_id,
                chat_id=request.chat_id,
                before=request.before,
                after=request.after,
                limit=request.limit or MESSAGES_LIMIT,
            )
        )
        return aggregator_pb2.GetHistoryResponse(messages=page.messages, has_more=page.has_more)

    return {"chats.list": list_chats, "chats.get": get_chat, "messages.history": history}
