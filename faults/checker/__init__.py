"""Decides from a history and the databases whether promises 1 to 7 of docs/guarantees.md held. Pure.

It knows the client contract and how documents lie in MongoDB, and nothing of the services' code.
"""

from collections import Counter
from collections.abc import Iterable

from faults.checker import answers, devices, mailboxes
from faults.checker.model import Broken, History
from faults.shards import Mailboxes

__all__ = ["Broken", "History", "check", "numbers"]


def check(history: History, boxes: Mailboxes) -> list[Broken]:
    """All broken promises."""
    return [
        *mailboxes.check(history, boxes),
        *answers.check(history, boxes),
        *devices.check(history, boxes),
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
