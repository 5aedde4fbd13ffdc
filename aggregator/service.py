"""MessengerService: what clients may do, on behalf of the call's user."""

from collections.abc import Sequence
from typing import TypeAlias

import grpc
from messenger.aggregator.v1 import aggregator_pb2, aggregator_pb2_grpc
from messenger.dbapi.v1 import dbapi_pb2, dbapi_pb2_grpc

from aggregator import rules
from aggregator.parts import Parts
from mesh import call
from mesh.batching import Batcher
from mesh.errors import from_code

Context: TypeAlias = grpc.aio.ServicerContext


class MessengerService(aggregator_pb2_grpc.MessengerServiceServicer):
    """Chats and messages of the calling user.

    Args:
        mailbox: dbapi; answers cannot do without it.
        parts: what they can do without.
    """

    def __init__(self, mailbox: dbapi_pb2_grpc.MailboxServiceStub, parts: Parts) -> None:
        self._mailbox = mailbox
        self._parts = parts
        # Several flushes at once: a call waits for its own shard's write, not for another batch's.
        self._sends: Batcher[dbapi_pb2.NewMessage, dbapi_pb2.Appended] = Batcher(self._append, concurrency=4)

    async def OpenChat(
        self, request: aggregator_pb2.OpenChatRequest, context: Context
    ) -> aggregator_pb2.OpenChatResponse:
        """Opens a chat with a peer about an item."""
        response = await self._mailbox.OpenChat(
            dbapi_pb2.OpenChatRequest(
                owner_id=call.user_id(),
                peer_id=request.peer_id,
                item_id=request.item_id,
                request_id=request.request_id,
            )
        )
        degraded = await self._parts.enrich([response.chat])
        return aggregator_pb2.OpenChatResponse(chat=response.chat, degraded=degraded)

    async def ListChats(
        self, request: aggregator_pb2.ListChatsRequest, context: Context
    ) -> aggregator_pb2.ListChatsResponse:
        """A page of the user's chats."""
        limit = request.limit or rules.DEFAULT_CHATS
        response = await self._mailbox.ListChats(
            dbapi_pb2.ListChatsRequest(owner_id=call.user_id(), cursor=request.cursor, limit=limit)
        )
        degraded = await self._parts.enrich(response.chats)
        return aggregator_pb2.ListChatsResponse(
            chats=response.chats, next_cursor=response.next_cursor, degraded=degraded
        )

    async def GetChat(
        self, request: aggregator_pb2.GetChatRequest, context: Context
    ) -> aggregator_pb2.GetChatResponse:
        """One chat of the user."""
        response = await self._mailbox.GetChat(
            dbapi_pb2.GetChatRequest(owner_id=call.user_id(), chat_id=request.chat_id)
        )
        degraded = await self._parts.enrich([response.chat])
        return aggregator_pb2.GetChatResponse(chat=response.chat, degraded=degraded)

    async def MarkRead(
        self, request: aggregator_pb2.MarkReadRequest, context: Context
    ) -> aggregator_pb2.MarkReadResponse:
        """Moves the user's read pointer."""
        response = await self._mailbox.MarkRead(
            dbapi_pb2.MarkReadRequest(
                owner_id=call.user_id(),
                chat_id=request.chat_id,
                up_to=request.up_to,
                request_id=request.request_id,
            )
        )
        degraded = await self._parts.enrich([response.chat])
        return aggregator_pb2.MarkReadResponse(chat=response.chat, degraded=degraded)

    async def SendMessage(
        self, request: aggregator_pb2.SendMessageRequest, context: Context
    ) -> aggregator_pb2.SendMessageResponse:
        """Stores a message; the two mailboxes, the queue and the push follow from that."""
        appended = await self._sends.submit(
            dbapi_pb2.NewMessage(
                owner_id=call.user_id(),
                chat_id=request.chat_id,
                text=request.text,
                client_msg_id=request.client_msg_id,
            )
        )
        return aggregator_pb2.SendMessageResponse(message=appended.message, duplicate=appended.duplicate)

    async def GetHistory(
        self, request: aggregator_pb2.GetHistoryRequest, context: Context
    ) -> aggregator_pb2.GetHistoryResponse:
        """A page of one chat's messages."""
        response = await self._mailbox.GetHistory(
            dbapi_pb2.GetHistoryRequest(
                owner_id=call.user_id(),
                chat_id=request.chat_id,
                before=request.before,
                after=request.after,
                limit=request.limit or rules.DEFAULT_MESSAGES,
            )
        )
        return aggregator_pb2.GetHistoryResponse(messages=response.messages, has_more=response.has_more)

    async def _append(
        self, messages: Sequence[dbapi_pb2.NewMessage]
    ) -> Sequence[dbapi_pb2.Appended | Exception]:
        response = await self._mailbox.AppendMessages(dbapi_pb2.AppendMessagesRequest(messages=messages))
        return [
            result.appended
            if result.HasField("appended")
            else from_code(result.error.code, result.error.detail, reason=result.error.reason)
            for result in response.results
        ]
