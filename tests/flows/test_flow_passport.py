"""The passport of messages on their whole way: all servers together tell when and where each stage was."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from antispam.checkers.blocklist import GTUBE
from tests.flows.conftest import Passport, Talk
from tests.observability.support import eventually

WAY = ("accepted", "stored", "verdict", "delivered", "published", "acknowledged", "read")
"""Stages in the order of their times; the queue's confirm is noted beside the way, a push is a publishing."""


def times(stamps: Sequence[Any], *stages: str) -> list[datetime]:
    """When each of them was, at the earliest."""
    return [
        min(datetime.fromisoformat(stamp["at"]) for stamp in stamps if stamp["stage"] == stage)
        for stage in stages
    ]


async def test_a_message_that_was_read(talk: Talk, passport: Passport) -> None:
    """Each stage has its time and place, one after the other."""
    sent = await talk.send("hello")
    await talk.arrives("hello")
    place = {"chat_id": talk.chat_id, "up_to": sent["message_id"]}
    await talk.bob.call("chats.mark_delivered", **place)
    await talk.bob.call("chats.mark_read", **place)

    async def stamps() -> Any:
        return (await passport(sent["message_id"], talk.bob.user_id))["stamps"]

    found = await eventually(stamps, lambda stamps: all(stamp["at"] for stamp in stamps))
    assert [stamp for stamp in found if not (stamp["done"] and stamp["place"])] == []
    assert {stamp["stage"] for stamp in found} == {*WAY, "queued", "pushed"}
    on_the_way = times(found, *WAY)
    assert on_the_way == sorted(on_the_way)
    assert (await passport(sent["message_id"], talk.bob.user_id))["stuck"] == ""


async def test_a_message_that_was_rejected(talk: Talk, passport: Passport) -> None:
    """The verdict has its time and its checker; the sender's devices were told, the receiver's were not."""
    sent = await talk.send(f"Buy {GTUBE} now")
    await talk.alice.next("message.new")

    async def stamps() -> Any:
        return (await passport(sent["message_id"], talk.alice.user_id))["stamps"]

    found = await eventually(stamps, lambda stamps: stamps[2]["done"])
    reached = [stamp for stamp in found if stamp["done"]]
    assert [stamp["stage"] for stamp in reached] == [
        "accepted", "stored", "queued", "verdict", "published", "pushed",
    ]  # fmt: skip
    assert all(stamp["at"] and stamp["place"] for stamp in reached)
    assert reached[3]["place"] == "antispam, blocklist"
    assert all(talk.alice.user_id in stamp["place"] for stamp in reached[4:])
