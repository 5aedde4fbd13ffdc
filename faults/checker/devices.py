"""Promise 5: what each device was told makes the state that a fresh one sees."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from faults.checker.model import Broken, History, Record
from faults.shards import Mailboxes

POINTERS = ("read_up_to", "peer_read_up_to", "peer_delivered_up_to")


def check(history: History, _: Mailboxes) -> Iterator[Broken]:
    """Old state + events = fresh state."""
    yield from _ids(history)
    fresh = {one["user"]: one for one in history["fresh"]}
    by_device: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for event in history["event"]:
        by_device[event["user"], event["device"]].append(event)
    for one in history["connected"]:
        if not one["recovered"]:
            detail = f"{one['device']} of {one['user']} was not brought up to date at {one['at']}"
            yield Broken(promise=5, what="missed event", detail=detail)
    for user, device in sorted({(one["user"], one["device"]) for one in history["connected"]}):
        if user not in fresh:
            yield Broken(promise=5, what="missed event", detail=f"nobody saw the last state of {user}")
            continue
        for what in _State(by_device[user, device]).differences(fresh[user]):
            yield Broken(promise=5, what="missed event", detail=f"{device} of {user}: {what}")


def _ids(history: History) -> Iterator[Broken]:
    """Who dedupes by event_id, as the contract says, loses nothing: one id never names two events."""
    named: dict[tuple[str, str], Record] = {}
    for event in history["event"]:
        user, event_id = event["user"], event["params"]["event_id"]
        first = named.setdefault((user, event_id), event)
        if (first["method"], first["params"]) != (event["method"], event["params"]):
            detail = f"{event_id} of {user} names a {first['method']} and a {event['method']}"
            yield Broken(promise=5, what="missed event", detail=detail)


class _State:
    """What a device knows from its events alone; what comes twice or late changes nothing."""

    def __init__(self, events: Iterable[Record]) -> None:
        self.messages: dict[str, Record] = {}
        self.deleted: set[str] = set()
        self.chats: dict[str, Record] = {}
        seen: set[str] = set()
        for event in events:
            if (event_id := event["params"]["event_id"]) not in seen:
                seen.add(event_id)
                self._take(event["method"], event["params"])

    def _take(self, method: str, params: Record) -> None:
        match method:
            case "message.new" | "message.updated":
                self._take_message(params["message"])
            case "message.deleted":
                self.deleted.add(params["message_id"])
            case "chat.updated":
                self._take_chat(params["chat"])
            case "receipt.read" | "receipt.delivered":
                chat = self.chats.setdefault(params["chat_id"], {})
                pointer = "peer_read_up_to" if method == "receipt.read" else "peer_delivered_up_to"
                chat[pointer] = max(chat.get(pointer, ""), params["up_to"])

    def _take_message(self, message: Record) -> None:
        held = self.messages.get(message["message_id"], {})
        if message.get("edited_at", "") >= held.get("edited_at", ""):
            self.messages[message["message_id"]] = message
        if message.get("deleted"):
            self.deleted.add(message["message_id"])

    def _take_chat(self, chat: Record) -> None:
        held = self.chats.setdefault(chat["chat_id"], {})
        if chat.get("version", 0) >= held.get("version", 0):
            held["version"] = chat.get("version", 0)
            held["unread"] = chat.get("unread", 0)
            held["last"] = _last(chat)
        held["seq"] = max(held.get("seq", 0), chat.get("seq", 0))
        for pointer in POINTERS:
            held[pointer] = max(held.get(pointer, ""), chat.get(pointer, ""))

    def differences(self, fresh: Record) -> Iterator[str]:
        """What a fresh device sees otherwise."""
        for chat_id, messages in fresh["messages"].items():
            for message in messages:
                yield from self._differs(chat_id, message)
        for chat in fresh["chats"]:
            held, seen = self.chats.get(chat["chat_id"], {}), chat | {"last": _last(chat)}
            for name in ("unread", "seq", "last", *POINTERS):
                if (held.get(name) or 0) != (seen.get(name) or 0):
                    yield f"{name} of {chat['chat_id']} is {held.get(name)}, fresh {seen.get(name)}"

    def _differs(self, chat_id: str, message: Record) -> Iterator[str]:
        message_id = message["message_id"]
        if message.get("deleted"):
            if message_id in self.messages and message_id not in self.deleted:
                yield f"does not know that {message_id} in {chat_id} was deleted"
        elif message_id not in self.messages:
            yield f"never heard of {message_id} in {chat_id}"
        elif message_id in self.deleted:
            yield f"was told that {message_id} in {chat_id} is deleted"
        elif self.messages[message_id]["text"] != message["text"]:
            yield f"holds another text of {message_id} in {chat_id}"


def _last(chat: Record) -> tuple[str, str, bool]:
    """What a list of chats shows of the last message."""
    last = chat.get("last_message") or {}
    return last.get("message_id", ""), last.get("text", ""), bool(last.get("deleted"))
