"""The promises of `store.MailboxReader.search`."""

import pytest

from mesh.errors import InvalidArgument, NotFound
from mesh.mailbox.model import StoredMessage
from mesh.mailbox.store import MailboxStore
from tests.mailbox.support import deliver, opened, send, unique


async def found(store: MailboxStore, owner: str, query: str, chat_id: str = "") -> list[str]:
    """Texts of what is found, the newest first."""
    page = await store.search(owner, query, chat_id=chat_id, limit=100)
    assert page.next_cursor == ""
    return [message.text for message in page.messages]


async def test_search_finds_parts_of_texts(store: MailboxStore) -> None:
    """In any case and script, newest first, whoever sent it; what is special in patterns is not so here."""
    ann, bob, chat_id = await opened(store)
    await store.open_chat(bob, ann)
    await deliver(
        store, *await send(store, ann, chat_id, "Hello there", "ПРИВЕТ", "50% (off)", "a.b", "zero\0")
    )
    await deliver(store, *await send(store, bob, chat_id, "say hello"))
    for owner in (ann, bob):
        assert await found(store, owner, "HELLO") == ["say hello", "Hello there"]
        assert await found(store, owner, "привет") == ["ПРИВЕТ"]
        assert await found(store, owner, "% (") == ["50% (off)"]
        assert await found(store, owner, "a.b") == ["a.b"]
        assert await found(store, owner, "o\0") == ["zero\0"]
        assert await found(store, owner, ".*") == []


async def test_search_stays_in_the_mailbox_and_the_chat(store: MailboxStore) -> None:
    """Others' messages are never found; with a chat, only that chat's."""
    ann, bob, chat_id = await opened(store)
    other = (await store.open_chat(ann, bob, "other")).chat.chat_id
    await send(store, ann, chat_id, "needle one")
    await send(store, ann, other, "needle two")
    assert await found(store, ann, "needle") == ["needle two", "needle one"]
    assert await found(store, ann, "needle", chat_id) == ["needle one"]
    assert await found(store, bob, "needle") == []
    for owner in (bob, unique("eve")):
        with pytest.raises(NotFound):
            await store.search(owner, "needle", chat_id=f"{chat_id[:-4]}0000", limit=5)


async def test_search_sees_edits_and_no_deleted(store: MailboxStore) -> None:
    """What is found is what is shown: not the text before an edit, not a text that was taken away."""
    ann, _, chat_id = await opened(store)
    one, two = await send(store, ann, chat_id, "first needle", "second needle")
    await store.edit(ann, chat_id, one.message_id, "first thread")
    await store.delete(ann, chat_id, two.message_id, for_all=False)
    assert await found(store, ann, "needle") == []
    assert await found(store, ann, "thread") == ["first thread"]


@pytest.mark.parametrize("within", [True, False])
async def test_search_is_paged(store: MailboxStore, within: bool) -> None:
    """Pages follow each other without gap or double, and the last one says so."""
    ann, bob, chat_id = await opened(store)
    other = (await store.open_chat(ann, bob, "other")).chat.chat_id
    sent = []
    for turn in range(5):
        sent += await send(store, ann, chat_id if within or turn % 2 else other, f"needle {turn}")
    listed: list[StoredMessage] = []
    cursor, sizes = "", []
    while True:
        page = await store.search(ann, "needle", chat_id=chat_id if within else "", cursor=cursor, limit=2)
        listed += page.messages
        sizes.append(len(page.messages))
        if not (cursor := page.next_cursor):
            break
    assert (listed, sizes) == (sent[::-1], [2, 2, 1])


async def test_bad_searches_are_refused(store: MailboxStore) -> None:
    """A made-up cursor, nothing to look for, and what no text can hold."""
    ann, _, _ = await opened(store)
    with pytest.raises(InvalidArgument, match="cursor"):
        await store.search(ann, "x", cursor="made up", limit=5)
    for query in ("", "\ud800"):
        with pytest.raises(InvalidArgument, match="query"):
            await store.search(ann, query, limit=5)
