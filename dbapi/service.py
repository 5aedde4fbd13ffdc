"""MailboxService: gRPC around the mailbox store."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import grpc

from dbapi.events import entry_of
from dbapi.outbox import Announcer
from mesh import call
from mesh.assertion import Verifier
from mesh.batching import Batcher, Step
from mesh.errors import Internal, MessengerError, PermissionDenied, Unauthenticated
from mesh.mailbox.model import (
    Appended,
    Changed,
    NewMessage,
    OutboxEntry,
    OutboxRef,
    StoredChat,
    delivered_ref,
    opened_ref,
    read_ref,
)
from mesh.mailbox.store import MailboxStore
from mesh.wire import chat_fields, message_fields, to_datetime
from messenger.dbapi.v1 import dbapi_pb2, dbapi_pb2_grpc

Context: TypeAlias = grpc.aio.ServicerContext


class MailboxService(dbapi_pb2_grpc.MailboxServiceServicer):
    """Mailboxes over gRPC. Appends of concurrent calls share the store's writes.

    Args:
        store: the mailboxes.
        announcer: publishes the events of what was written.
        verifier: proves the owner of each message of a batch; of other calls the server does.
    """

    def __init__(self, store: MailboxStore, announcer: Announcer, verifier: Verifier) -> None:
        self._store = store
        self._announcer = announcer
        self._verifier = verifier
        # A shard that hangs must not hold up the others' messages; those that get on go together.
        self._step = Step()
        self._appends: list[Batcher[tuple[NewMessage, str], Appended]] = [
            Batcher(self._append, name="appends") for _ in range(store.shard_count)
        ]

    async def OpenChat(
        self, request: dbapi_pb2.OpenChatRequest, context: Context
    ) -> dbapi_pb2.OpenChatResponse:
        """Opens a chat for its owner."""
        opened = await self._store.open_chat(request.owner_id, request.peer_id, request.item_id)
        if opened.created:
            self._announcer.announce([_entry(opened.chat, opened_ref(opened.chat))])
        return dbapi_pb2.OpenChatResponse(chat=chat_fields(opened.chat))

    async def AppendMessages(
        self, request: dbapi_pb2.AppendMessagesRequest, context: Context
    ) -> dbapi_pb2.AppendMessagesResponse:
        """Appends messages to their senders' mailboxes, one result an item."""
        outcomes: dict[int, Appended | Exception] = {}
        proven: dict[int, dict[int, tuple[NewMessage, str]]] = defaultdict(dict)
        for place, message in enumerate(request.messages):
            one = self._proven(message)
            if isinstance(one, MessengerError):
                outcomes[place] = one
            else:
                proven[self._store.shard_of(message.owner_id)][place] = one
        answers = await asyncio.gather(
            *(self._appends[shard].submit_all(list(of_shard.values())) for shard, of_shard in proven.items())
        )
        for of_shard, answer in zip(proven.values(), answers, strict=True):
            outcomes.update(zip(of_shard, answer, strict=True))
        results = [_result(outcomes[place]) for place in range(len(request.messages))]
        return dbapi_pb2.AppendMessagesResponse(results=results)

    def _proven(
        self, message: dbapi_pb2.NewMessage
    ) -> tuple[NewMessage, str] | PermissionDenied | Unauthenticated:
        """A message and its trace context, where the call proves that it is its owner's."""
        owner, caller = message.owner_id, call.current().user_id
        try:
            self._verifier.require(owner, self._verifier.user_of(owner, message.owner_assertion) or caller)
        except (PermissionDenied, Unauthenticated) as error:
            return error
        return _new_message(message), message.traceparent

    async def GetChat(self, request: dbapi_pb2.GetChatRequest, context: Context) -> dbapi_pb2.GetChatResponse:
        """One chat of its owner."""
        [found] = await self._store.get_chats([(request.owner_id, request.chat_id)])
        if isinstance(found, MessengerError):
            raise found
        return dbapi_pb2.GetChatResponse(chat=chat_fields(found), blocked_by_peer=found.blocked_by_peer)

    async def ListChats(
        self, request: dbapi_pb2.ListChatsRequest, context: Context
    ) -> dbapi_pb2.ListChatsResponse:
        """A page of the owner's chats."""
        page = await self._store.list_chats(request.owner_id, request.cursor, request.limit)
        return dbapi_pb2.ListChatsResponse(
            chats=[chat_fields(chat) for chat in page.chats], next_cursor=page.next_cursor
        )

    async def GetHistory(
        self, request: dbapi_pb2.GetHistoryRequest, context: Context
    ) -> dbapi_pb2.GetHistoryResponse:
        """A page of one chat's messages."""
        page = await self._store.history(
            request.owner_id,
            request.chat_id,
            before=request.before,
            after=request.after,
            limit=request.limit,
        )
        messages = [message_fields(message) for message in page.messages]
        return dbapi_pb2.GetHistoryResponse(messages=messages, has_more=page.has_more)

    async def MarkRead(
        self, request: dbapi_pb2.MarkReadRequest, context: Context
    ) -> dbapi_pb2.MarkReadResponse:
        """Moves the owner's read pointer."""
        moved = await self._store.mark_read(request.owner_id, request.chat_id, request.up_to)
        if moved.moved:
            self._announcer.announce([_entry(moved.chat, read_ref(moved.chat))])
        return dbapi_pb2.MarkReadResponse(chat=chat_fields(moved.chat), moved=moved.moved)

    async def MarkDelivered(
        self, request: dbapi_pb2.MarkDeliveredRequest, context: Context
    ) -> dbapi_pb2.MarkDeliveredResponse:
        """Moves the owner's delivery pointer."""
        moved = await self._store.mark_delivered(request.owner_id, request.chat_id, request.up_to)
        if moved.moved:
            self._announcer.announce([_entry(moved.chat, delivered_ref(moved.chat))])
        return dbapi_pb2.MarkDeliveredResponse(moved=moved.moved)

    async def EditMessage(
        self, request: dbapi_pb2.EditMessageRequest, context: Context
    ) -> dbapi_pb2.EditMessageResponse:
        """Gives one of the owner's messages another text."""
        changed = await self._store.edit(request.owner_id, request.chat_id, request.message_id, request.text)
        self._announce_change(changed)
        return dbapi_pb2.EditMessageResponse(message=message_fields(changed.message))

    async def DeleteMessage(
        self, request: dbapi_pb2.DeleteMessageRequest, context: Context
    ) -> dbapi_pb2.DeleteMessageResponse:
        """Takes a message away."""
        changed = await self._store.delete(
            request.owner_id, request.chat_id, request.message_id, for_all=request.for_all
        )
        self._announce_change(changed)
        return dbapi_pb2.DeleteMessageResponse()

    async def SearchMessages(
        self, request: dbapi_pb2.SearchMessagesRequest, context: Context
    ) -> dbapi_pb2.SearchMessagesResponse:
        """Finds text in the owner's mailbox."""
        page = await self._store.search(
            request.owner_id,
            request.query,
            chat_id=request.chat_id,
            cursor=request.cursor,
            limit=request.limit,
        )
        messages = [message_fields(message) for message in page.messages]
        return dbapi_pb2.SearchMessagesResponse(messages=messages, next_cursor=page.next_cursor)

    async def SetBlocked(
        self, request: dbapi_pb2.SetBlockedRequest, context: Context
    ) -> dbapi_pb2.SetBlockedResponse:
        """Blocks or unblocks a person for the owner."""
        entries = await self._store.set_blocked(request.owner_id, request.user_id, blocked=request.blocked)
        self._announce(entries)
        return dbapi_pb2.SetBlockedResponse()

    async def ListBlocked(
        self, request: dbapi_pb2.ListBlockedRequest, context: Context
    ) -> dbapi_pb2.ListBlockedResponse:
        """Whom the owner has blocked."""
        page = await self._store.list_blocked(request.owner_id, request.cursor, request.limit)
        return dbapi_pb2.ListBlockedResponse(user_ids=page.user_ids, next_cursor=page.next_cursor)

    async def FilterBlocked(
        self, request: dbapi_pb2.FilterBlockedRequest, context: Context
    ) -> dbapi_pb2.FilterBlockedResponse:
        """Those between whom and the owner there is a block, either way."""
        found = await self._store.blocked_among(request.owner_id, request.user_ids)
        return dbapi_pb2.FilterBlockedResponse(user_ids=sorted(found))

    async def ListChanges(
        self, request: dbapi_pb2.ListChangesRequest, context: Context
    ) -> dbapi_pb2.ListChangesResponse:
        """What changed in a mailbox since a time."""
        page = await self._store.changes(request.owner_id, to_datetime(request.since), request.page_token)
        changed = [
            dbapi_pb2.ChangedChat(
                chat=chat_fields(chat.chat),
                messages=[message_fields(message) for message in chat.messages],
                changed=[message_fields(message) for message in chat.changed],
            )
            for chat in page.chats
        ]
        return dbapi_pb2.ListChangesResponse(chats=changed, next_page_token=page.next_page_token)

    def _announce_change(self, changed: Changed) -> None:
        if changed.entry is not None:
            self._announce([changed.entry])

    def _announce(self, entries: Sequence[OutboxEntry]) -> None:
        traceparent = call.current().traceparent
        self._announcer.announce([replace(entry, traceparent=traceparent) for entry in entries])

    async def _append(self, items: Sequence[tuple[NewMessage, str]]) -> Sequence[Appended | Exception]:
        storing = self._store.append_own([message for message, _ in items])
        outcomes = await self._step.run(storing, len(items))
        # A duplicate's event was announced by the first call, or is the relay's to publish.
        self._announcer.announce(
            [
                entry_of(one.message, traceparent)
                for one, (_, traceparent) in zip(outcomes, items, strict=True)
                if isinstance(one, Appended) and not one.duplicate
            ]
        )
        return outcomes


def _new_message(message: dbapi_pb2.NewMessage) -> NewMessage:
    return NewMessage(
        owner=message.owner_id,
        chat_id=message.chat_id,
        text=message.text,
        client_msg_id=message.client_msg_id,
    )


def _entry(chat: StoredChat, ref: OutboxRef) -> OutboxEntry:
    return OutboxEntry(
        ref=ref,
        at=chat.touched_at,
        peer_id=chat.peer_id,
        item_id=chat.item_id,
        traceparent=call.current().traceparent,
    )


def _result(outcome: Appended | Exception) -> dbapi_pb2.AppendResult:
    if isinstance(outcome, Appended):
        appended = dbapi_pb2.Appended(message=message_fields(outcome.message), duplicate=outcome.duplicate)
        return dbapi_pb2.AppendResult(appended=appended)
    error = outcome if isinstance(outcome, MessengerError) else Internal("Something went wrong here.")
    return dbapi_pb2.AppendResult(
        error=dbapi_pb2.AppendError(code=error.code.value[0], reason=error.reason, detail=error.detail)
    )
