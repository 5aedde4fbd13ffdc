"""Promises 1, 3, 6 and 7, as what is stored shows them: copies, places, verdicts, nothing left over."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from faults.checker.model import Broken, History, good_calls
from faults.load import SPAM
from faults.shards import Box, Document, Mailboxes


def check(history: History, boxes: Mailboxes) -> Iterator[Broken]:
    """What is stored against what was answered."""
    yield from _stored(history, boxes)
    yield from _delivered(history, boxes)
    yield from _places(boxes)
    yield from _same_on_both_sides(history, boxes)
    yield from _as_it_was_left(history, boxes)
    yield from _verdicts(history, boxes)
    yield from _nothing_disappears(history, boxes)
    yield from _nothing_is_left_over(history, boxes)


# ── 1: answered means stored once on both sides ────────────────────────────────────────────────────────────


def _stored(history: History, boxes: Mailboxes) -> Iterator[Broken]:
    copies: dict[str, Counter[str]] = defaultdict(Counter)
    for (owner, _), box in boxes.items():
        for message in box.log:
            copies[message["message_id"]][owner] += 1
    for call in good_calls(history, "messages.send"):
        message_id, sender = call["answer"]["message"]["message_id"], call["user"]
        if not copies[message_id][sender]:
            yield Broken(
                promise=1, what="lost", detail=f"{message_id} was answered to {sender}, is not stored"
            )
    for message_id, owners in copies.items():
        for owner, count in owners.items():
            if count > 1:
                yield Broken(promise=1, what="doubled", detail=f"{message_id} is {count} times at {owner}")


def _delivered(history: History, boxes: Mailboxes) -> Iterator[Broken]:
    """Every message has a copy at its receiver, also one that was deleted: emptied, in its place."""
    parked = _parked(history)
    for message, copy in _sent(boxes):
        if copy is None and "rejected" not in message:
            message_id = message["message_id"]
            what = "stuck" if message_id in parked or "outbox" in message else "lost"
            yield Broken(
                promise=1, what=what, detail=f"{message_id} of {message['owner']} has no copy at its receiver"
            )


def _sent(boxes: Mailboxes) -> Iterator[tuple[Document, Document | None]]:
    """Each message in its sender's mailbox, and its receiver's copy."""
    for (owner, chat_id), box in boxes.items():
        for message in box.log:
            if message["sender_id"] == owner:
                yield message, _copy(boxes.get((message["peer_id"], chat_id)), message["message_id"])


def _copy(box: Box | None, message_id: str) -> Document | None:
    log = box.log if box is not None else []
    return next((message for message in log if message["message_id"] == message_id), None)


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


def _same_on_both_sides(history: History, boxes: Mailboxes) -> Iterator[Broken]:
    """What clients see of a chat is what is stored, in the order of ids, which is the same for both."""
    shown = {
        (fresh["user"], chat_id): [message["message_id"] for message in messages]
        for fresh in history["fresh"]
        for chat_id, messages in fresh["messages"].items()
    }
    for (owner, chat_id), box in boxes.items():
        held = sorted(message["message_id"] for message in box.log)
        if held != shown.get((owner, chat_id), []):
            detail = f"{owner} in {chat_id}: shows {len(shown.get((owner, chat_id), []))}, holds {len(held)}"
            yield Broken(promise=3, what="out of order", detail=detail)
        for message in box.log:
            theirs = boxes.get((message["peer_id"], chat_id))
            if message["sender_id"] != owner and _copy(theirs, message["message_id"]) is None:
                detail = f"{message['message_id']} at {owner} is not at its sender {message['peer_id']}"
                yield Broken(promise=3, what="out of order", detail=detail)


# ── 6: antispam ────────────────────────────────────────────────────────────────────────────────────────────


def _verdicts(history: History, boxes: Mailboxes) -> Iterator[Broken]:
    spam = _texts_of_spam(history)
    for message, copy in _sent(boxes):
        name = f"{message['message_id']} of {message['owner']}"
        was_rejected = "rejected" in message
        if was_rejected and message["message_id"] not in spam:
            yield Broken(promise=6, what="verdict", detail=f"{name}: rejected, is no spam")
        if copy is None or copy.get("deleted"):
            continue
        if was_rejected:
            yield Broken(promise=6, what="verdict", detail=f"{name}: rejected, and left with its receiver")
        if SPAM in copy["text"]:
            yield Broken(promise=6, what="verdict", detail=f"{name}: is spam, and left with its receiver")
        if copy.get("unchecked"):
            yield Broken(promise=6, what="verdict", detail=f"{name}: passed unchecked, and was never checked")


def _texts_of_spam(history: History) -> set[str]:
    """Ids of messages that were spam at any time: as they were sent, or by an edit, answered or not."""
    sent = {
        call["answer"]["message"]["message_id"]
        for call in good_calls(history, "messages.send")
        if SPAM in call["params"]["text"]
    }
    edited = {
        call["params"]["message_id"]
        for call in history["call"]
        if call["method"] == "messages.edit" and SPAM in call["params"]["text"]
    }
    return sent | edited


# ── 7: nothing disappears quietly ──────────────────────────────────────────────────────────────────────────


def _as_it_was_left(history: History, boxes: Mailboxes) -> Iterator[Broken]:
    """The receiver's copy shows what its sender made of it, edits and deletions too."""
    takings = {
        (call["user"], call["params"]["message_id"])
        for call in history["call"]
        if call["method"] == "messages.delete"
    }
    for message, copy in _sent(boxes):
        if copy is None or "rejected" in message:
            continue
        name = f"{message['message_id']} of {message['owner']}"
        if message.get("deleted_for_all"):
            if not copy.get("deleted"):
                yield Broken(promise=7, what="lost", detail=f"{name}: was deleted for all, not its copy")
        elif copy.get("deleted"):
            if (copy["owner"], message["message_id"]) not in takings:
                yield Broken(promise=7, what="lost", detail=f"{name}: nobody deleted its copy")
        elif message["text"] != copy["text"] and not message.get("deleted") and SPAM not in message["text"]:
            yield Broken(promise=7, what="lost", detail=f"{name}: its copy has another text")


def _nothing_disappears(history: History, boxes: Mailboxes) -> Iterator[Broken]:
    """Accepted = stored with the receiver + kept from it + parked + in flight."""
    parked = _parked(history)
    in_queues = sum(sum(one["queues"].values()) for one in history["parked"])
    missing = [
        message["message_id"]
        for message, copy in _sent(boxes)
        if copy is None
        and "rejected" not in message
        and "outbox" not in message
        and message["message_id"] not in parked
    ]
    if len(missing) > in_queues:
        yield Broken(
            promise=7, what="disappeared", detail=f"{len(missing)} are nowhere: {', '.join(missing[:5])}"
        )


def _nothing_is_left_over(history: History, boxes: Mailboxes) -> Iterator[Broken]:
    """When all is healed and quiet, no queue and no outbox holds anything, and nothing was given up on."""
    for one in history["parked"]:
        for name, count in one["queues"].items():
            if count:
                yield Broken(promise=7, what="stuck", detail=f"{count} bodies in {name}")
        for body in one["bodies"]:
            yield Broken(promise=7, what="stuck", detail=f"parked: {body}")
    for (owner, chat_id), box in boxes.items():
        for document in (box.chat, *box.log):
            if marks := [name for name in document if _is_mark(name)]:
                detail = f"{', '.join(marks)} of {document.get('message_id', chat_id)} at {owner}"
                yield Broken(promise=7, what="stuck", detail=detail)
    for one in history["audited"]:
        for finding in one["findings"]:
            yield Broken(promise=7, what="audit", detail=finding)
    for late in history["unfinished"]:
        yield Broken(promise=7, what="stuck", detail=f"{late['user']} got no definite answer in the end")
    recovered = max((one["at"] for one in history["recovered"]), default=0.0)
    if any(fault["healed"] > recovered for fault in history["fault"]):
        yield Broken(promise=7, what="stuck", detail="not everybody reached everybody again in the end")


def _is_mark(name: str) -> bool:
    return name == "outbox" or name.startswith("outbox_")


def _parked(history: History) -> set[str]:
    return {
        message_id
        for one in history["parked"]
        for body in one["bodies"]
        for message_id in body["message_ids"]
    }
