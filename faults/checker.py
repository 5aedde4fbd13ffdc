"""Decides from a history and the databases whether promises 1 to 7 of docs/guarantees.md held. Pure.

It knows the client contract and how documents lie in MongoDB, and nothing of the services' code.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faults.load import SPAM
from faults.shards import Box, Document, Mailboxes

Record = dict[str, Any]
History = Mapping[str, Sequence[Record]]

CONFLICT = -32010


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A promise that was not kept.

    Attributes:
        promise: its number.
        what: `lost`, `doubled` …: what it counts as.
        detail: for the person who looks for the cause.
    """

    promise: int
    what: str
    detail: str


def check(history: History, boxes: Mailboxes) -> list[Broken]:
    """All broken promises."""
    sends = [call for call in history["call"] if call["method"] == "messages.send"]
    return [
        *_stored_and_delivered(sends, boxes, _parked(history)),
        *_once(sends, boxes),
        *_places(boxes),
        *_order_of_sending(sends),
        *_same_order_on_both_sides(history, boxes),
        *_pointers(history, boxes),
        *_unread(history, boxes),
        *_events(history, boxes),
        *_antispam(boxes),
        *_nothing_disappears(history, boxes),
    ]


def numbers(history: History, boxes: Mailboxes, broken: Iterable[Broken]) -> dict[str, int]:
    """What a run is told by."""
    outcomes = Counter(call["outcome"] for call in history["call"])
    acked = {
        call["answer"]["message"]["message_id"]
        for call in history["call"]
        if call["method"] == "messages.send" and call["outcome"] == "ok"
    }
    counted = Counter(one.what for one in broken)
    own = [
        message for (owner, _), box in boxes.items() for message in box.log if message["sender_id"] == owner
    ]
    return {
        "faults": len(history["fault"]),
        "calls": sum(outcomes.values()),
        "ok": outcomes["ok"],
        "errors": outcomes["error"],
        "unknown": outcomes["unknown"],
        "acked": len(acked),
        "stored": len(own),
        "rejected": sum("rejected" in message for message in own),
        "events": len(history["event"]),
        "lost": counted["lost"],
        "doubled": counted["doubled"],
        "out_of_order": counted["out of order"],
        "holes": counted["hole"],
        "stuck": counted["stuck"],
        "missed_events": counted["missed event"],
        "broken": sum(counted.values()),
    }


# ── 1: answered means stored once on both sides ────────────────────────────────────────────────────────────


def _stored_and_delivered(sends: Sequence[Record], boxes: Mailboxes, parked: set[str]) -> Iterator[Broken]:
    acked = {
        call["answer"]["message"]["message_id"]: call["user"] for call in sends if call["outcome"] == "ok"
    }
    copies: dict[str, Counter[str]] = defaultdict(Counter)
    for (owner, _), box in boxes.items():
        for message in box.log:
            copies[message["message_id"]][owner] += 1
    for message_id, sender in acked.items():
        if not copies[message_id][sender]:
            yield Broken(
                promise=1, what="lost", detail=f"{message_id} was answered to {sender}, is not stored"
            )
    for (owner, _), box in boxes.items():
        for message in box.log:
            if message["sender_id"] != owner:
                continue
            message_id, peer = message["message_id"], message["peer_id"]
            if not copies[message_id][peer] and not _needs_no_copy(message):
                what = "stuck" if message_id in parked or "outbox" in message else "lost"
                yield Broken(promise=1, what=what, detail=f"{message_id} of {owner} has no copy at {peer}")
    for message_id, owners in copies.items():
        for owner, count in owners.items():
            if count > 1:
                yield Broken(promise=1, what="doubled", detail=f"{message_id} is {count} times at {owner}")


def _needs_no_copy(message: Document) -> bool:
    """Antispam keeps it from its receiver, or it was deleted for all before it came there."""
    return "rejected" in message or bool(message.get("deleted_for_all"))


# ── 2: one message a key ───────────────────────────────────────────────────────────────────────────────────


def _once(sends: Sequence[Record], boxes: Mailboxes) -> Iterator[Broken]:
    stored: dict[tuple[str, str], list[Document]] = defaultdict(list)
    for (owner, _), box in boxes.items():
        for message in box.log:
            if key := message.get("client_msg_id"):
                stored[owner, key].append(message)
    for (owner, key), messages in stored.items():
        if len(messages) > 1:
            yield Broken(promise=2, what="doubled", detail=f"{key} of {owner}: {len(messages)} messages")
    calls: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for call in sends:
        calls[call["user"], call["params"]["client_msg_id"]].append(call)
    for (user, key), of_key in calls.items():
        yield from _answers_of_one_key(f"{key} of {user}", of_key)


def _answers_of_one_key(name: str, calls: Sequence[Record]) -> Iterator[Broken]:
    good = [call for call in calls if call["outcome"] == "ok"]
    if len({call["answer"]["message"]["message_id"] for call in good}) > 1:
        yield Broken(promise=2, what="doubled", detail=f"{name}: answers name different messages")
    if len({call["params"]["text"] for call in good}) > 1:
        yield Broken(promise=2, what="doubled", detail=f"{name}: two contents were taken")
    if sum(not call["answer"].get("duplicate") for call in good) > 1:
        yield Broken(promise=2, what="doubled", detail=f"{name}: was twice called the first")
    taken = {call["params"]["text"]: call["end"] for call in reversed(good)}
    for call in calls:
        is_conflict = call["outcome"] == "error" and call["answer"]["code"] == CONFLICT
        if is_conflict and call["params"]["text"] in taken:
            yield Broken(promise=2, what="doubled", detail=f"{name}: was refused as a conflict with itself")


# ── 3: seq, order ──────────────────────────────────────────────────────────────────────────────────────────


def _places(boxes: Mailboxes) -> Iterator[Broken]:
    for (owner, chat_id), box in boxes.items():
        places = [message["seq"] for message in box.log]
        if places != list(range(1, len(places) + 1)):
            yield Broken(promise=3, what="hole", detail=f"{chat_id} of {owner}: {_first_wrong(places)}")
        own = [message["message_id"] for message in box.log if message["sender_id"] == owner]
        if own != sorted(own):
            yield Broken(
                promise=3, what="out of order", detail=f"own ids of {owner} in {chat_id} do not grow"
            )


def _first_wrong(places: Sequence[int]) -> str:
    place, found = next((n, seq) for n, seq in enumerate([*places, 0], start=1) if n != seq)
    return f"seq {found} where {place} belongs"


def _order_of_sending(sends: Sequence[Record]) -> Iterator[Broken]:
    """What was answered before something else was sent stands before it."""
    by_chat: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for call in sends:
        if call["outcome"] == "ok" and not call["answer"].get("duplicate"):
            by_chat[call["user"], call["params"]["chat_id"]].append(call)
    for (user, chat_id), calls in by_chat.items():
        answered = iter(sorted(calls, key=lambda call: call["end"]))
        pending, greatest = next(answered, None), ""
        for call in sorted(calls, key=lambda call: call["begin"]):
            while pending is not None and pending["end"] < call["begin"]:
                greatest = max(greatest, pending["answer"]["message"]["message_id"])
                pending = next(answered, None)
            if call["answer"]["message"]["message_id"] < greatest:
                detail = f"{user} in {chat_id}: a later message sorts before {greatest}"
                yield Broken(promise=3, what="out of order", detail=detail)


def _same_order_on_both_sides(history: History, boxes: Mailboxes) -> Iterator[Broken]:
    for fresh in history["fresh"]:
        for chat_id, messages in fresh["messages"].items():
            shown = [message["message_id"] for message in messages]
            held = sorted(message["message_id"] for message in boxes[fresh["user"], chat_id].log)
            if shown != held:
                detail = f"{fresh['user']} in {chat_id}: shows {len(shown)}, holds {len(held)}"
                yield Broken(promise=3, what="out of order", detail=detail)
    for (owner, chat_id), box in boxes.items():
        peer = box.chat.get("peer_id", "")
        theirs = {message["message_id"] for message in boxes.get((peer, chat_id), Box()).log}
        for message in box.log:
            if message["sender_id"] != owner and message["message_id"] not in theirs:
                detail = f"{message['message_id']} at {owner} is not at its sender {peer}"
                yield Broken(promise=3, what="out of order", detail=detail)


# ── 4: unread and read pointers ────────────────────────────────────────────────────────────────────────────


def _pointers(history: History, boxes: Mailboxes) -> Iterator[Broken]:
    """No answer shows a pointer behind the one of an answer before it; in the end it is the furthest."""
    answers: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for call in history["call"]:
        if call["outcome"] == "ok" and call["method"] in ("chats.mark_read", "chats.get"):
            answers[call["user"], call["params"]["chat_id"]].append(call)
    for (user, chat_id), calls in answers.items():
        in_the_end = boxes[user, chat_id].chat.get("read_up_to", "")
        marks = [call["params"]["up_to"] for call in calls if call["method"] == "chats.mark_read"]
        if marks and in_the_end < max(marks):
            detail = f"{user} in {chat_id}: read up to {max(marks)}, in the end {in_the_end}"
            yield Broken(promise=4, what="pointer", detail=detail)
        ended = sorted(calls, key=lambda call: call["end"])
        furthest, done = "", 0
        for call in sorted(calls, key=lambda call: call["begin"]):
            while done < len(ended) and ended[done]["end"] < call["begin"]:
                furthest = max(furthest, ended[done]["answer"]["chat"].get("read_up_to", ""))
                done += 1
            if call["answer"]["chat"].get("read_up_to", "") < furthest:
                yield Broken(
                    promise=4, what="pointer", detail=f"{user} in {chat_id}: moved back to before {furthest}"
                )


def _unread(history: History, boxes: Mailboxes) -> Iterator[Broken]:
    """After the last marks, when nothing is on its way, unread is what stands beyond the pointer."""
    settled = max((phase["at"] for phase in history["phase"] if phase["name"] == "settled"), default=0.0)
    marked = {
        (call["user"], call["params"]["chat_id"], call["params"]["up_to"])
        for call in history["call"]
        if call["method"] == "chats.mark_read" and call["outcome"] == "ok" and call["begin"] >= settled
    }
    for fresh in history["fresh"]:
        for chat in fresh["chats"]:
            key = (fresh["user"], chat["chat_id"])
            pointer = chat.get("read_up_to", "")
            if (*key, pointer) not in marked:
                continue
            expected = sum(
                message["sender_id"] != key[0]
                and message["message_id"] > pointer
                and not message.get("deleted")
                for message in boxes[key].log
            )
            if chat.get("unread", 0) != expected:
                detail = (
                    f"{key[0]} in {key[1]}: unread {chat.get('unread', 0)}, beyond the pointer {expected}"
                )
                yield Broken(promise=4, what="unread", detail=detail)


# ── 5: old state + events = fresh state ────────────────────────────────────────────────────────────────────


def _events(history: History, boxes: Mailboxes) -> Iterator[Broken]:
    fresh = {one["user"]: one for one in history["fresh"]}
    by_device: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for event in history["event"]:
        by_device[event["user"], event["device"]].append(event)
    unrecovered = {(one["user"], one["device"]) for one in history["connected"] if not one["recovered"]}
    devices = {(one["user"], one["device"]) for one in history["connected"]}
    for user, device in sorted(devices - unrecovered):
        if user in fresh:
            state = _State(by_device[user, device])
            for what in state.differences(fresh[user]):
                yield Broken(promise=5, what="missed event", detail=f"{device} of {user}: {what}")


class _State:
    """What a device knows from its events alone; what comes twice or late changes nothing."""

    def __init__(self, events: Iterable[Record]) -> None:
        self.messages: dict[str, Record] = {}
        self.deleted: set[str] = set()
        self.chats: dict[str, Record] = {}
        for event in events:
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
        held["seq"] = max(held.get("seq", 0), chat.get("seq", 0))
        for pointer in ("read_up_to", "peer_read_up_to", "peer_delivered_up_to"):
            held[pointer] = max(held.get(pointer, ""), chat.get(pointer, ""))

    def differences(self, fresh: Record) -> Iterator[str]:
        """What a fresh device sees otherwise."""
        for chat_id, messages in fresh["messages"].items():
            for message in messages:
                yield from self._differs(chat_id, message)
        for chat in fresh["chats"]:
            held = self.chats.get(chat["chat_id"], {})
            for name in ("unread", "seq", "read_up_to", "peer_read_up_to", "peer_delivered_up_to"):
                if (held.get(name) or 0) != (chat.get(name) or 0):
                    yield f"{name} of {chat['chat_id']} is {held.get(name)}, fresh {chat.get(name)}"

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


# ── 6: antispam ────────────────────────────────────────────────────────────────────────────────────────────


def _antispam(boxes: Mailboxes) -> Iterator[Broken]:
    for (owner, chat_id), box in boxes.items():
        for message in box.log:
            name = f"{message['message_id']} at {owner} in {chat_id}"
            text = message.get("original_text") or message["text"]
            if message["sender_id"] == owner:
                if "rejected" in message and text and SPAM not in text:
                    yield Broken(promise=6, what="verdict", detail=f"{name}: rejected, is no spam")
            elif SPAM in message["text"] and not message.get("deleted"):
                yield Broken(
                    promise=6, what="verdict", detail=f"{name}: is spam and was left with its receiver"
                )
            elif message.get("unchecked"):
                yield Broken(
                    promise=6, what="verdict", detail=f"{name}: passed unchecked and was never checked"
                )


# ── 7: nothing disappears quietly ──────────────────────────────────────────────────────────────────────────


def _parked(history: History) -> set[str]:
    return {message_id for one in history["parked"] for message_id in one["message_ids"]}


def _nothing_disappears(history: History, boxes: Mailboxes) -> Iterator[Broken]:
    """Accepted = stored with the receiver + kept from it + parked + in flight."""
    parked = _parked(history)
    in_queues = sum(sum(one["queues"].values()) for one in history["parked"])
    missing = [
        message["message_id"]
        for (owner, chat_id), box in boxes.items()
        for message in box.log
        if message["sender_id"] == owner
        and not _needs_no_copy(message)
        and "outbox" not in message
        and message["message_id"] not in parked
        and not _holds(boxes.get((message["peer_id"], chat_id)), message["message_id"])
    ]
    if len(missing) > in_queues:
        yield Broken(
            promise=7, what="disappeared", detail=f"{len(missing)} are nowhere: {', '.join(missing[:5])}"
        )


def _holds(box: Box | None, message_id: str) -> bool:
    return box is not None and any(message["message_id"] == message_id for message in box.log)
