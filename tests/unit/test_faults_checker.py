"""The checker is checked: a run without a fault passes, and each seeded bug is found under its promise."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from faults import checker
from faults.load import SPAM
from faults.shards import Box, Mailboxes

History = dict[str, list[dict[str, Any]]]
Bug = Callable[[History, Mailboxes], None]

ANN, BOB, CHAT = "ann", "bob", "chat-1"
IDS = [f"m{n}" for n in range(6)]
BY_BOB = {2, 4}
SPAM_AT = 5
NUMBERS = itertools.count(1)


def text_of(n: int) -> str:
    """The text of message n."""
    return f"text {n}" + (f" {SPAM}" if n == SPAM_AT else "")


def sender_of(n: int) -> str:
    """Who sent message n."""
    return BOB if n in BY_BOB else ANN


def shown(n: int, owner: str, seq: int) -> dict[str, Any]:
    """Message n as clients see it."""
    return {"message_id": IDS[n], "chat_id": CHAT, "sender_id": sender_of(n), "seq": seq, "text": text_of(n)}


def stored(n: int, owner: str, seq: int) -> dict[str, Any]:
    """Message n as it lies in a mailbox."""
    peer = BOB if owner == ANN else ANN
    document = shown(n, owner, seq) | {"owner": owner, "peer_id": peer}
    if sender_of(n) == owner:
        document["client_msg_id"] = f"key-{n}"
        if n == SPAM_AT:
            document["rejected"] = "rules:SPAM"
    return document


def of_owner(owner: str) -> list[int]:
    """The messages of a mailbox; the spam stays with its sender."""
    return [n for n in range(6) if n != SPAM_AT or owner == ANN]


def a_good_run() -> tuple[History, Mailboxes]:
    """Two people, six messages of which one is spam, each repeated once, read up to the second by bob."""
    boxes: Mailboxes = {}
    history: History = {
        "call": [], "event": [], "connected": [], "fresh": [], "unfinished": [],
        "phase": [{"name": "settled", "at": 50.0}],
        "fault": [{"name": "kill-redis", "target": "redis-0", "begin": 3.0, "healed": 4.0}],
        "recovered": [{"at": 5.0}],
        "audited": [{"findings": []}],
        "parked": [{"bodies": [], "queues": {"checked": 0}}],
    }  # fmt: skip
    for n in range(6):
        for again in (False, True):
            answer = {"message": shown(n, sender_of(n), n + 1)} | ({"duplicate": True} if again else {})
            history["call"].append(send(n, begin=n + again / 2, answer=answer))
    history["call"].append(mark(BOB, IDS[1], begin=60.0))
    for owner in (ANN, BOB):
        mine = of_owner(owner)
        log = [stored(n, owner, seq) for seq, n in enumerate(mine, 1)]
        pointer = IDS[1] if owner == BOB else ""
        boxes[owner, CHAT] = Box(log=log, chat={"peer_id": log[0]["peer_id"], "read_up_to": pointer})
        chat = {"chat_id": CHAT, "seq": len(mine), "read_up_to": pointer, "version": 9}
        chat |= {"unread": 1} if owner == BOB else {"unread": 2, "peer_read_up_to": IDS[1]}
        messages = [shown(n, owner, seq) for seq, n in enumerate(mine, 1)]
        history["fresh"].append({"user": owner, "chats": [chat], "messages": {CHAT: messages}})
        history["connected"].append({"user": owner, "device": "one", "recovered": True})
        chat["last_message"] = messages[-1]
        history["event"] += [event(owner, "message.new", message=dict(message)) for message in messages]
        history["event"].append(event(owner, "chat.updated", chat={**chat, "peer_read_up_to": ""}))
    history["event"].append(event(ANN, "receipt.read", chat_id=CHAT, up_to=IDS[1]))
    for number, one in enumerate(history["event"]):
        one["params"]["event_id"] = f"1-{number}"
    return history, boxes


def send(n: int, *, begin: float, answer: dict[str, Any], text: str = "") -> dict[str, Any]:
    """A call of messages.send that went well."""
    params = {"chat_id": CHAT, "text": text or text_of(n), "client_msg_id": f"key-{n}"}
    return {
        "user": sender_of(n), "device": "one", "link": 1, "number": int(begin * 2) + 1,
        "method": "messages.send", "params": params, "begin": begin, "end": begin + 0.4,
        "outcome": "ok", "answer": answer,
    }  # fmt: skip


def mark(user: str, up_to: str, *, begin: float) -> dict[str, Any]:
    """A call of chats.mark_read that went well."""
    return {
        "user": user, "method": "chats.mark_read", "params": {"chat_id": CHAT, "up_to": up_to},
        "begin": begin, "end": begin + 0.4, "outcome": "ok", "answer": {"chat": {"read_up_to": up_to}},
    }  # fmt: skip


def event(user: str, method: str, **params: Any) -> dict[str, Any]:
    """An event that a device received."""
    params.setdefault("event_id", f"2-{next(NUMBERS)}")
    return {"user": user, "device": "one", "method": method, "params": params, "at": 1.0}


def log_of(boxes: Mailboxes, owner: str) -> list[dict[str, Any]]:
    """One side's log."""
    return boxes[owner, CHAT].log


def test_a_good_run_passes() -> None:
    """Nothing is found where nothing is wrong, and the numbers are those of the run."""
    history, boxes = a_good_run()
    assert checker.check(history, boxes) == []
    numbers = checker.numbers(history, boxes, [])
    assert (numbers["calls"], numbers["acked"], numbers["stored"], numbers["rejected"]) == (13, 6, 6, 1)


# ── seeded bugs ────────────────────────────────────────────────────────────────────────────────────────────


def drop_from_receiver(history: History, boxes: Mailboxes) -> None:
    """A message that was answered never reached its receiver."""
    del log_of(boxes, BOB)[3]
    renumber(boxes, BOB)


def drop_from_sender(history: History, boxes: Mailboxes) -> None:
    """A message that was answered is not stored."""
    del log_of(boxes, ANN)[0]
    renumber(boxes, ANN)


def park_it(history: History, boxes: Mailboxes) -> None:
    """A message was parked and nobody looked."""
    del log_of(boxes, BOB)[3]
    renumber(boxes, BOB)
    history["parked"][0]["bodies"] = [{"cause": "odd", "message_ids": [IDS[3]]}]


def drop_what_was_deleted(history: History, boxes: Mailboxes) -> None:
    """A message that was deleted for all on its way left no trace at its receiver."""
    log_of(boxes, ANN)[3] |= {"deleted": True, "deleted_for_all": True, "text": ""}
    drop_from_receiver(history, boxes)


def drop_an_edit(history: History, boxes: Mailboxes) -> None:
    """An edit did not come to the receiver's copy."""
    log_of(boxes, ANN)[0]["text"] = "edited"


def drop_a_deletion(history: History, boxes: Mailboxes) -> None:
    """The receiver's copy still shows what was deleted for all."""
    log_of(boxes, ANN)[0] |= {"deleted": True, "deleted_for_all": True, "text": ""}


def delete_by_itself(history: History, boxes: Mailboxes) -> None:
    """The receiver's copy is deleted, and nobody did it."""
    log_of(boxes, BOB)[0] |= {"deleted": True, "text": ""}


def leave_a_mark(history: History, boxes: Mailboxes) -> None:
    """An event of a pointer was never published."""
    boxes[BOB, CHAT].chat["outbox_read"] = {"up_to": IDS[1]}


def leave_in_a_queue(history: History, boxes: Mailboxes) -> None:
    """An event goes round for ever."""
    history["parked"][0]["queues"]["retry.5s"] = 1


def park_a_receipt(history: History, boxes: Mailboxes) -> None:
    """An event that is no message's was given up on."""
    history["parked"][0]["bodies"] = [{"cause": "odd", "message_ids": [""]}]


def disagree_with_the_audit(history: History, boxes: Mailboxes) -> None:
    """The operator's audit finds what nobody else sees."""
    history["audited"][0]["findings"] = ["the chat is not the fold of its log"]


def never_answer(history: History, boxes: Mailboxes) -> None:
    """Somebody's call got no definite answer for as long as anybody waited."""
    history["unfinished"].append({"user": ANN})


def never_recover(history: History, boxes: Mailboxes) -> None:
    """After the last fault some did not reach each other any more."""
    history["recovered"].clear()


def double_at_receiver(history: History, boxes: Mailboxes) -> None:
    """A message is twice in its receiver's mailbox."""
    log_of(boxes, BOB).append(stored(0, BOB, 6))


def double_under_one_key(history: History, boxes: Mailboxes) -> None:
    """A repeated send made a second message."""
    again = stored(0, ANN, 7) | {"message_id": "m9"}
    log_of(boxes, ANN).append(again)
    history["call"][1]["answer"]["message"] = history["call"][1]["answer"]["message"] | {"message_id": "m9"}


def take_other_content(history: History, boxes: Mailboxes) -> None:
    """Other content under a used key was answered as if it were fine."""
    answer = {"message": shown(0, ANN, 1), "duplicate": True}
    history["call"].append(send(0, begin=40.0, answer=answer, text="something else"))


def refuse_a_repetition(history: History, boxes: Mailboxes) -> None:
    """The same content was refused as a conflict."""
    refused = send(0, begin=40.0, answer={"code": -32010}) | {"outcome": "error"}
    history["call"].append(refused)


def leave_a_hole(history: History, boxes: Mailboxes) -> None:
    """A seq is missing."""
    for document in log_of(boxes, BOB)[2:]:
        document["seq"] += 1


def swap_two(history: History, boxes: Mailboxes) -> None:
    """Two messages of one sender stand in the wrong order."""
    first, second = log_of(boxes, ANN)[0], log_of(boxes, ANN)[1]
    first["message_id"], second["message_id"] = second["message_id"], first["message_id"]


def answer_out_of_order(history: History, boxes: Mailboxes) -> None:
    """A message that was sent after another was answered sorts before it."""
    for call in history["call"]:
        if call["method"] == "messages.send" and call["params"]["client_msg_id"] == "key-0":
            call |= {"begin": call["begin"] + 30, "end": call["end"] + 30, "link": 2}


def overtake_on_one_connection(history: History, boxes: Mailboxes) -> None:
    """Of two messages that one connection sent at once, the second one stands before the first."""
    first, _, second, _ = [call for call in history["call"] if call["user"] == BOB][:4]
    first["number"], second["number"] = second["number"], first["number"]
    first["end"] = second["end"] = 9.0


def show_less(history: History, boxes: Mailboxes) -> None:
    """The history that clients see lacks a message."""
    del history["fresh"][1]["messages"][CHAT][1]


def hide_a_chat(history: History, boxes: Mailboxes) -> None:
    """A chat with messages is in no list."""
    history["fresh"][1] |= {"chats": [], "messages": {}}


def receive_from_nowhere(history: History, boxes: Mailboxes) -> None:
    """The receiver holds what its sender does not."""
    log_of(boxes, BOB).append(stored(0, BOB, 6) | {"message_id": "m9"})
    history["fresh"][1]["messages"][CHAT].append(shown(0, BOB, 6) | {"message_id": "m9"})


def move_back(history: History, boxes: Mailboxes) -> None:
    """A read pointer moved back in the end."""
    boxes[BOB, CHAT].chat["read_up_to"] = IDS[0]


def show_an_older_pointer(history: History, boxes: Mailboxes) -> None:
    """A later answer shows an older pointer."""
    look = mark(BOB, IDS[1], begin=70.0) | {"method": "chats.get", "answer": {"chat": {"read_up_to": IDS[0]}}}
    history["call"].append(look)


def move_back_by_version(history: History, boxes: Mailboxes) -> None:
    """A later state of a chat has an older pointer, by whichever way the two were told."""
    older = {"chat_id": CHAT, "seq": 5, "read_up_to": IDS[3], "unread": 1, "version": 8}
    history["event"].append(event(BOB, "chat.updated", chat=older))


def count_wrongly(history: History, boxes: Mailboxes) -> None:
    """The unread count drifted, on the server and so on all devices."""
    history["fresh"][1]["chats"][0]["unread"] = 2
    for one in history["event"]:
        if one["user"] == BOB and one["method"] == "chat.updated":
            one["params"]["chat"]["unread"] = 2


def lose_an_event(history: History, boxes: Mailboxes) -> None:
    """A device was never told of a message."""
    history["event"] = [
        one
        for one in history["event"]
        if not (one["user"] == BOB and one["params"].get("message", {}).get("message_id") == IDS[3])
    ]


def give_up_on_a_device(history: History, boxes: Mailboxes) -> None:
    """A device that came back was told to begin anew."""
    history["connected"].append({"user": BOB, "device": "one", "recovered": False, "at": 9.0})


def reuse_an_event_id(history: History, boxes: Mailboxes) -> None:
    """Two events have one id, and who dedupes by it drops the second one."""
    of_bob = [one["params"] for one in history["event"] if one["user"] == BOB]
    of_bob[1]["event_id"] = of_bob[0]["event_id"]


def lose_the_last_message(history: History, boxes: Mailboxes) -> None:
    """A device was not told what a list shows of a chat now."""
    history["fresh"][1]["chats"][0]["last_message"] = shown(0, BOB, 1) | {"text": "other"}


def lose_a_receipt(history: History, boxes: Mailboxes) -> None:
    """A device was never told that the peer has read."""
    history["event"] = [one for one in history["event"] if one["method"] != "receipt.read"]


def lose_a_deletion(history: History, boxes: Mailboxes) -> None:
    """A device was never told that a message was deleted."""
    log_of(boxes, BOB)[0] |= {"deleted": True, "text": ""}
    log_of(boxes, ANN)[0] |= {"deleted": True, "deleted_for_all": True}
    for fresh in history["fresh"]:
        fresh["messages"][CHAT][0] |= {"deleted": True, "text": ""}


def lose_an_edit(history: History, boxes: Mailboxes) -> None:
    """A device was never told of a message's other text."""
    history["fresh"][1]["messages"][CHAT][0] |= {"text": "edited", "edited_at": "2026"}


def deliver_spam(history: History, boxes: Mailboxes) -> None:
    """Spam was left with its receiver."""
    spam = shown(SPAM_AT, BOB, 6)
    log_of(boxes, BOB).append(stored(SPAM_AT, BOB, 6))
    history["fresh"][1]["messages"][CHAT].append(spam)
    history["fresh"][1]["chats"][0] |= {"unread": 2, "seq": 6}
    history["event"] += [
        event(BOB, "message.new", message=spam),
        event(BOB, "chat.updated", chat=history["fresh"][1]["chats"][0]),
    ]


def reject_what_is_fine(history: History, boxes: Mailboxes) -> None:
    """A message was rejected that is no spam."""
    log_of(boxes, ANN)[0]["rejected"] = "rules:ODD"


def reject_and_deliver(history: History, boxes: Mailboxes) -> None:
    """One verdict kept a message from its receiver, another one let it pass."""
    calls = [call for call in history["call"] if call["params"].get("client_msg_id") == "key-0"]
    for document in (*(call["params"] for call in calls), log_of(boxes, ANN)[0]):
        document["text"] += f" {SPAM}"
    log_of(boxes, ANN)[0]["rejected"] = "rules:SPAM"


def never_check_late(history: History, boxes: Mailboxes) -> None:
    """A message passed unchecked and stayed so."""
    log_of(boxes, BOB)[0]["unchecked"] = True


def renumber(boxes: Mailboxes, owner: str) -> None:
    """Closes the hole that a dropped message leaves, so that only its absence is to be found."""
    for seq, document in enumerate(log_of(boxes, owner), 1):
        document["seq"] = seq


@pytest.mark.parametrize(
    ("bug", "promise", "what"),
    [
        (drop_from_receiver, 1, "lost"),
        (drop_from_receiver, 7, "disappeared"),
        (drop_from_sender, 1, "lost"),
        (drop_what_was_deleted, 1, "lost"),
        (drop_an_edit, 7, "lost"),
        (drop_a_deletion, 7, "lost"),
        (delete_by_itself, 7, "lost"),
        (leave_a_mark, 7, "stuck"),
        (leave_in_a_queue, 7, "stuck"),
        (park_a_receipt, 7, "stuck"),
        (disagree_with_the_audit, 7, "audit"),
        (never_answer, 7, "stuck"),
        (never_recover, 7, "stuck"),
        (park_it, 1, "stuck"),
        (double_at_receiver, 1, "doubled"),
        (double_under_one_key, 2, "doubled"),
        (take_other_content, 2, "doubled"),
        (refuse_a_repetition, 2, "doubled"),
        (leave_a_hole, 3, "hole"),
        (swap_two, 3, "out of order"),
        (answer_out_of_order, 3, "out of order"),
        (overtake_on_one_connection, 3, "out of order"),
        (show_less, 3, "out of order"),
        (hide_a_chat, 3, "out of order"),
        (receive_from_nowhere, 3, "out of order"),
        (move_back, 4, "pointer"),
        (show_an_older_pointer, 4, "pointer"),
        (move_back_by_version, 4, "pointer"),
        (count_wrongly, 4, "unread"),
        (lose_an_event, 5, "missed event"),
        (give_up_on_a_device, 5, "missed event"),
        (reuse_an_event_id, 5, "missed event"),
        (lose_the_last_message, 5, "missed event"),
        (lose_a_receipt, 5, "missed event"),
        (lose_a_deletion, 5, "missed event"),
        (lose_an_edit, 5, "missed event"),
        (deliver_spam, 6, "verdict"),
        (reject_what_is_fine, 6, "verdict"),
        (reject_and_deliver, 6, "verdict"),
        (never_check_late, 6, "verdict"),
    ],
)
def test_a_seeded_bug_is_found(bug: Bug, promise: int, what: str) -> None:
    """Each bug, put into a run that is fine, is found under the promise that it breaks."""
    history, boxes = copy.deepcopy(a_good_run())
    bug(history, boxes)
    broken = checker.check(history, boxes)
    assert (promise, what) in {(one.promise, one.what) for one in broken}


def test_a_parked_message_has_not_disappeared() -> None:
    """What is parked is stuck, and is accounted for."""
    history, boxes = a_good_run()
    park_it(history, boxes)
    found = {one.what for one in checker.check(history, boxes)}
    assert "stuck" in found
    assert not found & {"lost", "disappeared"}


def test_late_and_repeated_events_change_nothing() -> None:
    """A device is told all things twice, then in the opposite order, and ends in the same state."""
    history, boxes = a_good_run()
    history["event"] += list(reversed(history["event"]))
    overtaken = {"chat_id": CHAT, "seq": 5, "read_up_to": IDS[0], "unread": 3, "version": 8}
    history["event"].append(event(BOB, "chat.updated", chat=overtaken))
    assert checker.check(history, boxes) == []
