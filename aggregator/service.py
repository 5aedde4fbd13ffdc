"""MessengerService: what clients may do, on behalf of the call's user."""

from collections.abc import Sequence
from typing import TypeAlias

import grpc

from aggregator import rules
from aggregator.parts import Parts
from aggregator.people import People
from mesh import call
from mesh.batching import Batcher
from mesh.errors import from_code
from mesh.mailbox.buckets import BucketMap
from messenger.aggregator.v1 import aggregator_pb2, aggregator_pb2_grpc
from messenger.dbapi.v1 import dbapi_pb2, dbapi_pb2_grpc

Context: TypeAlias = grpc.aio.ServicerContext


class MessengerService(aggregator_pb2_grpc.MessengerServiceServicer):
    """Chats and messages of the calling user.

    Args:
        mailbox: dbapi; answers cannot do without it.
        parts: what they can do without.
        people: who is there, and who types.
        lanes: batches of messages that may be under way at once. With as many as there are shards, users are
            spread over them as they are over shards, and one that hangs holds up its own users alone; more
            make smaller batches, and a message dearer.
    """

    def __init__(
        self, mailbox: dbapi_pb2_grpc.MailboxServiceStub, parts: Parts, people: People, *, lanes: int
    ) -> None:
        self._mailbox = mailbox
        self._parts = parts
        self._people = people
        self._sends: list[Batcher[dbapi_pb2.NewMessage, dbapi_pb2.Appended]] = [
            Batcher(self._append, name="sends") for _ in range(lanes)
        ]
        self._lane_of = BucketMap.even(lanes).node_of

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

    async def MarkDelivered(
        self, request: aggregator_pb2.MarkDeliveredRequest, context: Context
    ) -> aggregator_pb2.MarkDeliveredResponse:
        """Moves the user's delivery pointer."""
        await self._mailbox.MarkDelivered(
            dbapi_pb2.MarkDeliveredRequest(
                owner_id=call.user_id(),
                chat_id=request.chat_id,
                up_to=request.up_to,
                request_id=request.request_id,
            )
        )
        return aggregator_pb2.MarkDeliveredResponse()

    async def Typing(
        self, request: aggregator_pb2.TypingRequest, context: Context
    ) -> aggregator_pb2.TypingResponse:
        """Tells the peer that the user types; a block, either way, keeps it quiet."""
        user_id = call.user_id()
        found = await self._mailbox.GetChat(
            dbapi_pb2.GetChatRequest(owner_id=user_id, chat_id=request.chat_id)
        )
        if not found.chat.blocked and not found.blocked_by_peer:
            await self._people.tell_typing(found.chat.peer.user_id, request.chat_id, user_id)
        return aggregator_pb2.TypingResponse()

    async def SendMessage(
        self, request: aggregator_pb2.SendMessageRequest, context: Context
    ) -> aggregator_pb2.SendMessageResponse:
        """Stores a message; the two mailboxes, the queue and the push follow from that."""
        user_id = call.user_id()
        appended = await self._sends[self._lane_of(user_id)].submit(
            dbapi_pb2.NewMessage(
                owner_id=user_id,
                chat_id=request.chat_id,
                text=request.text,
                client_msg_id=request.client_msg_id,
                owner_assertion=call.assertion(),
                traceparent=call.current().traceparent,
            )
        )
        return aggregator_pb2.SendMessageResponse(message=appended.message, duplicate=appended.duplicate)

    async def EditMessage(
        self, request: aggregator_pb2.EditMessageRequest, context: Context
    ) -> aggregator_pb2.EditMessageResponse:
        """Gives one of the user's messages another text."""
        response = await self._mailbox.EditMessage(
            dbapi_pb2.EditMessageRequest(
                owner_id=call.user_id(),
                chat_id=request.chat_id,
                message_id=request.message_id,
                text=request.text,
                request_id=request.request_id,
            )
        )
        return aggregator_pb2.EditMessageResponse(message=response.message)

    async def DeleteMessage(
        self, request: aggregator_pb2.DeleteMessageRequest, context: Context
    ) -> aggregator_pb2.DeleteMessageResponse:
        """Takes a message away from the user's copy, or from both."""
        await self._mailbox.DeleteMessage(
            dbapi_pb2.DeleteMessageRequest(
                owner_id=call.user_id(),
                chat_id=request.chat_id,
                message_id=request.message_id,
                for_all=request.for_all,
                request_id=request.request_id,
            )
        )
        return aggregator_pb2.DeleteMessageResponse()

    async def SearchMessages(
        self, request: aggregator_pb2.SearchMessagesRequest, context: Context
    ) -> aggregator_pb2.SearchMessagesResponse:
        """Finds text in the user's mailbox."""
        response = await self._mailbox.SearchMessages(
            dbapi_pb2.SearchMessagesRequest(
                owner_id=call.user_id(),
                query=request.query,
                chat_id=request.chat_id,
                cursor=request.cursor,
                limit=request.limit or rules.DEFAULT_FOUND,
            )
        )
        return aggregator_pb2.SearchMessagesResponse(
            messages=response.messages, next_cursor=response.next_cursor
        )

    async def BlockUser(
        self, request: aggregator_pb2.BlockUserRequest, context: Context
    ) -> aggregator_pb2.BlockUserResponse:
        """Keeps a person from writing to the user and from seeing whether the user is there."""
        await self._set_blocked(request.user_id, blocked=True, request_id=request.request_id)
        await self._people.forget(call.user_id(), request.user_id)
        return aggregator_pb2.BlockUserResponse()

    async def UnblockUser(
        self, request: aggregator_pb2.UnblockUserRequest, context: Context
    ) -> aggregator_pb2.UnblockUserResponse:
        """Lets a person write again."""
        await self._set_blocked(request.user_id, blocked=False, request_id=request.request_id)
        return aggregator_pb2.UnblockUserResponse()

    async def ListBlocked(
        self, request: aggregator_pb2.ListBlockedRequest, context: Context
    ) -> aggregator_pb2.ListBlockedResponse:
        """Whom the user has blocked."""
        response = await self._mailbox.ListBlocked(
            dbapi_pb2.ListBlockedRequest(
                owner_id=call.user_id(), cursor=request.cursor, limit=rules.DEFAULT_BLOCKED
            )
        )
        return aggregator_pb2.ListBlockedResponse(
            user_ids=response.user_ids, next_cursor=response.next_cursor
        )

    async def GetPresence(
        self, request: aggregator_pb2.GetPresenceRequest, context: Context
    ) -> aggregator_pb2.GetPresenceResponse:
        """Who is online; between those who blocked each other nobody is seen."""
        user_id = call.user_id()
        blocked = await self._mailbox.FilterBlocked(
            dbapi_pb2.FilterBlockedRequest(owner_id=user_id, user_ids=request.user_ids)
        )
        presence = await self._people.look(user_id, request.user_ids, hidden=frozenset(blocked.user_ids))
        if presence is None:
            return aggregator_pb2.GetPresenceResponse(degraded=[rules.PRESENCE])
        return aggregator_pb2.GetPresenceResponse(presence=presence)

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

    async def _set_blocked(self, user_id: str, *, blocked: bool, request_id: str) -> None:
        await self._mailbox.SetBlocked(
            dbapi_pb2.SetBlockedRequest(
                owner_id=call.user_id(), user_id=user_id, blocked=blocked, request_id=request_id
            )
        )

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
