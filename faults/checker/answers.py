"""Promises 2 and 4, and the order of sending of 3: what calls were answered, one against the other."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from faults.checker.model import Broken, History, Record, good_calls
from faults.shards import Document, Mailboxes

CONFLICT = -32010


def check(history: History, boxes: Mailboxes) -> Iterator[Broken]:
    """What calls were answered."""
    sends = [call for call in history["call"] if call["method"] == "messages.send"]
    yield from _stored_once(boxes)
    yield from _answered_once(sends)
    first = [call for call in sends if call["outcome"] == "ok" and not call["answer"].get("duplicate")]
    yield from _answered_before(first)
    yield from _called_before(first)
    yield from _pointers(history, boxes)
    yield from _versions(history)
    yield from _unread(history, boxes)


# ── 2: one message a key ───────────────────────────────────────────────────────────────────────────────────


def _stored_once(boxes: Mailboxes) -> Iterator[Broken]:
    stored: dict[tuple[str, str], list[Document]] = defaultdict(list)
    for (owner, _), box in boxes.items():
        for message in box.log:
            if key := message.get("client_msg_id"):
                stored[owner, key].append(message)
    for (owner, key), messages in stored.items():
        if len(messages) > 1:
            yield Broken(promise=2, what="doubled", detail=f"{key} of {owner}: {len(messages)} messages")


def _answered_once(sends: Sequence[Record]) -> Iterator[Broken]:
    calls: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for call in sends:
        calls[call["user"], call["params"]["client_msg_id"]].append(call)
    for (user, key), of_key in calls.items():
        yield from _answers_of_one_key(f"{key} of {user}", of_key)


def _answers_of_one_key(name: str, calls: Sequence[Record]) -> Iterator[Broken]:
    good = [call for call in calls if call["outcome"] == "ok"]
    taken = {(call["params"]["chat_id"], call["params"]["text"]) for call in good}
    if len({call["answer"]["message"]["message_id"] for call in good}) > 1:
        yield Broken(promise=2, what="doubled", detail=f"{name}: answers name different messages")
    if len(taken) > 1:
        yield Broken(promise=2, what="doubled", detail=f"{name}: two contents were taken")
    if sum(not call["answer"].get("duplicate") for call in good) > 1:
        yield Broken(promise=2, what="doubled", detail=f"{name}: was twice called the first")
    for call in calls:
        is_conflict = call["outcome"] == "error" and call["answer"]["code"] == CONFLICT
        if is_conflict and (call["params"]["chat_id"], call["params"]["text"]) in taken:
            yield Broken(promise=2, what="doubled", detail=f"{name}: was refused as a conflict with itself")


# ── 3: the order of sending ────────────────────────────────────────────────────────────────────────────────


def _answered_before(sends: Sequence[Record]) -> Iterator[Broken]:
    """What was answered before something else was sent stands before it."""
    by_chat: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for call in sends:
        by_chat[call["user"], call["params"]["chat_id"]].append(call)
    for (user, chat_id), calls in by_chat.items():
        answered = iter(sorted(calls, key=lambda call: call["end"]))
        pending, greatest = next(answered, None), ""
        for call in sorted(calls, key=lambda call: call["begin"]):
            while pending is not None and pending["end"] < call["begin"]:
                greatest = max(greatest, _id_of(pending))
                pending = next(answered, None)
            if _id_of(call) < greatest:
                detail = f"{user} in {chat_id}: a later message sorts before {greatest}"
                yield Broken(promise=3, what="out of order", detail=detail)


def _called_before(sends: Sequence[Record]) -> Iterator[Broken]:
    """What one connection sent to a chat one after the other, without waiting, stands in that order."""
    on_link: dict[tuple[str, str, int, str], list[Record]] = defaultdict(list)
    for call in sends:
        if call["number"]:
            on_link[call["user"], call["device"], call["link"], call["params"]["chat_id"]].append(call)
    for (user, device, link, chat_id), calls in on_link.items():
        ids = [_id_of(call) for call in sorted(calls, key=lambda call: int(call["number"]))]
        if ids != sorted(ids):
            detail = f"{user} on connection {link} of {device} in {chat_id}: not in the order of calling"
            yield Broken(promise=3, what="out of order", detail=detail)


def _id_of(send: Record) -> str:
    return str(send["answer"]["message"]["message_id"])


# ── 4: unread and read pointers ────────────────────────────────────────────────────────────────────────────


def _pointers(history: History, boxes: Mailboxes) -> Iterator[Broken]:
    """No answer shows a pointer behind the one of an answer before it; in the end it is the furthest."""
    answers: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for call in good_calls(history, "chats.mark_read", "chats.get"):
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


def _versions(history: History) -> Iterator[Broken]:
    """Of two states of a chat, however they were told, the later one has no pointer behind the other's."""
    states: dict[tuple[str, str], dict[int, Record]] = defaultdict(dict)
    told = [(event["user"], event["params"]["chat"]) for event in history["event"] if _tells_chat(event)]
    told += [
        (call["user"], call["answer"]["chat"]) for call in good_calls(history, "chats.get", "chats.mark_read")
    ]
    for user, chat in told:
        if version := chat.get("version", 0):
            states[user, chat["chat_id"]][version] = chat
    for (user, chat_id), by_version in states.items():
        for pointer in ("read_up_to", "peer_read_up_to", "peer_delivered_up_to"):
            places = [by_version[version].get(pointer, "") for version in sorted(by_version)]
            if places != sorted(places):
                detail = f"{pointer} of {chat_id} at {user} moved back from one version to the next"
                yield Broken(promise=4, what="pointer", detail=detail)


def _tells_chat(event: Record) -> bool:
    return bool(event["method"] == "chat.updated")


def _unread(history: History, boxes: Mailboxes) -> Iterator[Broken]:
    """When nothing is on its way, unread is what stands beyond the pointer.

    Below an earlier mark there may be messages that came later, which it has not read. So only what was
    marked in the end is known, and what was never marked.
    """
    settled = max((phase["at"] for phase in history["phase"] if phase["name"] == "settled"), default=0.0)
    marked = {
        (call["user"], call["params"]["chat_id"], call["params"]["up_to"])
        for call in good_calls(history, "chats.mark_read")
        if call["begin"] >= settled
    }
    for fresh in history["fresh"]:
        for chat in fresh["chats"]:
            user, pointer = fresh["user"], chat.get("read_up_to", "")
            if pointer and (user, chat["chat_id"], pointer) not in marked:
                continue
            expected = sum(
                message["sender_id"] != user
                and message["message_id"] > pointer
                and not message.get("deleted")
                for message in boxes[user, chat["chat_id"]].log
            )
            if (unread := chat.get("unread", 0)) != expected:
                detail = f"{user} in {chat['chat_id']}: unread {unread}, beyond the pointer {expected}"
                yield Broken(promise=4, what="unread", detail=detail)
