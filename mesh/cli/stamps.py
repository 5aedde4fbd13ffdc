"""The stages of one message's way, told from what the servers hold of it; and where it is stuck. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from mesh.amqp.topology import MESSAGES, PARKED, RETRY

if TYPE_CHECKING:
    from mesh.amqp.parking import ParkedBody
    from mesh.mailbox.inspection import Copy
    from mesh.mailbox.model import StoredMessage
    from messenger.antispam.v1.antispam_pb2 import Verdict

IN_HAND = timedelta(minutes=1)
"""What is older and waits nowhere is in no consumer's hands any more: it is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """One stage of a message's way.

    Attributes:
        stage: accepted, stored, queued, verdict, delivered, published, pushed, acknowledged or read.
        done: True, False, or None where nothing tells.
        at: when, as far as anything tells.
        place: where.
        detail: for a person.
    """

    stage: str
    done: bool | None
    at: datetime | None = None
    place: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """What the hot cache holds of a message in one user's stream.

    Attributes:
        node: the Redis node, by its place in REDIS_URLS.
        told: when the user was told of it, and under which event id; None where it does not say.
        receipts: when the user was told that the peer has received and read it, by the names of the stages.
        listeners: edges that hear the user now.
    """

    node: int = 0
    told: tuple[datetime, str] | None = None
    receipts: Mapping[str, datetime] = field(default_factory=dict)
    listeners: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What the servers hold of one message.

    Attributes:
        now: when they were asked.
        copies: in the mailboxes, the sender's first.
        streams: what the hot cache holds of it, by user; without those whose node did not answer.
        parked: bodies of the parking queue that carry it.
        queues: bodies in each queue; empty where RabbitMQ did not answer.
        troubles: servers that did not answer.
    """

    now: datetime
    copies: "Sequence[Copy]"
    streams: Mapping[str, Stream]
    parked: "Sequence[ParkedBody]"
    queues: Mapping[str, int]
    troubles: Sequence[str]

    @property
    def sent(self) -> "Copy | None":
        """The sender's copy."""
        return next((one for one in self.copies if one.message.owner == one.message.sender_id), None)

    @property
    def got(self) -> "Copy | None":
        """The receiver's copy."""
        return next((one for one in self.copies if one.message.owner != one.message.sender_id), None)

    @property
    def known(self) -> "StoredMessage":
        """Either copy, the sender's where it is there."""
        return self.copies[0].message

    @property
    def receiver(self) -> str:
        """Whom it is for."""
        return self.known.peer_id if self.sent else self.known.owner

    @property
    def rejected(self) -> bool:
        """Whether antispam keeps it from its receiver."""
        return bool(self.sent and self.sent.message.rejected)

    @property
    def on_the_ladder(self) -> Sequence[str]:
        """Rungs on which anything waits."""
        return [name for name, count in self.queues.items() if count and f"{RETRY}." in name]

    @property
    def verdict(self) -> "Verdict | None":
        """Antispam's, where the message is parked with it."""
        for body in self.parked:
            for event in body.events:
                accepted = event.message_accepted
                if accepted.message.message_id == self.known.message_id and accepted.HasField("verdict"):
                    return accepted.verdict
        return None


def passport(traces: Traces) -> list[Stamp]:
    """Every stage, in order."""
    known, users = traces.known, (traces.receiver, traces.known.sender_id)
    way = f"{known.sender_id} → {traces.receiver}"
    return [
        Stamp(stage="accepted", done=True, at=known.created_at, place="dbapi", detail=way),
        _in_mailbox("stored", traces.sent, "the sender's mailbox does not hold it"),
        _queued(traces),
        _verdict(traces),
        _delivered(traces),
        *(_published(traces, user) for user in users),
        *(_pushed(traces, user) for user in users),
        *_pointers(traces),
    ]


def _in_mailbox(stage: str, copy: "Copy | None", otherwise: str = "") -> Stamp:
    if copy is None:
        return Stamp(stage=stage, done=False, detail=otherwise)
    one = copy.message
    edits = f", version {one.version}" if one.version else ""
    detail = f"seq {one.seq}{edits}{', deleted' if one.deleted else ''}"
    return Stamp(stage=stage, done=True, at=one.stored_at, place=_mailbox(copy), detail=detail)


def _mailbox(copy: "Copy") -> str:
    return f"shard {copy.shard}, {copy.message.owner}"


def _queued(traces: Traces) -> Stamp:
    sent = traces.sent
    at, detail = sent.queued_at if sent else None, "confirmed by the queue"
    if sent is not None and (since := sent.outbox_since) is not None:
        if at is None and traces.got is None:
            place, detail = f"shard {sent.shard}, outbox", "the queue has not confirmed it"
            return Stamp(stage="queued", done=False, at=since, place=place, detail=detail)
        detail = f"marked since {since:%Y-%m-%d %H:%M:%S}; announced again unless that is cleared"
    return Stamp(stage="queued", done=True, at=at, place=f"RabbitMQ, {MESSAGES}", detail=detail)


def _verdict(traces: Traces) -> Stamp:
    sent, got = traces.sent, traces.got
    if sent is not None and sent.message.rejected:
        checker, _, reason = sent.message.rejected.partition(":")
        return _rejected(sent.message.judged_at, checker, reason)
    if got is None:
        return _verdict_of_parked(traces)
    copy = got.message
    if copy.unchecked:
        return _unchecked(copy.judged_at, copy.stored_at)
    late = bool(copy.judged_at and copy.judged_at > copy.stored_at)
    return _passed(copy.judged_at, "passed late, after it was delivered" if late else "passed")


def _verdict_of_parked(traces: Traces) -> Stamp:
    from messenger.antispam.v1.antispam_pb2 import DECISION_PASS, DECISION_REJECT

    if not traces.parked:
        return Stamp(stage="verdict", done=None, place="antispam")
    parked_at, verdict = traces.parked[0].parked_at, traces.verdict
    if verdict is None:
        return _unchecked(None, parked_at)
    at = verdict.judged_at.ToDatetime(UTC) if verdict.HasField("judged_at") else None
    if verdict.decision == DECISION_REJECT:
        return _rejected(at, verdict.checker, verdict.reason)
    return _passed(at, "passed") if verdict.decision == DECISION_PASS else _unchecked(at, parked_at)


def _passed(at: datetime | None, detail: str) -> Stamp:
    return Stamp(stage="verdict", done=True, at=at, place="antispam", detail=detail)


def _rejected(at: datetime | None, checker: str, reason: str) -> Stamp:
    return Stamp(
        stage="verdict", done=True, at=at, place=f"antispam, {checker}", detail=f"rejected: {reason}"
    )


def _unchecked(judged_at: datetime | None, taken_at: datetime | None) -> Stamp:
    """What passed without a verdict: antispam gave it up, or was not there to take it from its queue."""
    place = "antispam" if judged_at else f"RabbitMQ, {MESSAGES}"
    why = "it was not judged in time" if judged_at else "antispam did not take it"
    detail = f"passed unchecked, {why}; the late check is to come"
    return Stamp(stage="verdict", done=False, at=judged_at or taken_at, place=place, detail=detail)


def _delivered(traces: Traces) -> Stamp:
    if traces.got or traces.rejected or not traces.parked:
        kept = "kept from its receiver" if traces.rejected else ""
        return _in_mailbox("delivered", traces.got, kept)
    one = traces.parked[0]
    detail = f"parked by attempt {one.delivery.attempt}: {one.delivery.cause}"
    place = f"RabbitMQ, {PARKED}"
    return Stamp(stage="delivered", done=False, at=one.parked_at, place=place, detail=detail)


def _published(traces: Traces, user: str) -> Stamp:
    stream = traces.streams.get(user)
    place = f"Redis {stream.node}, stream of {user}" if stream else f"stream of {user}"
    at, done, detail = _told(traces, user)
    return Stamp(stage="published", done=done, at=at, place=place, detail=detail)


def _pushed(traces: Traces, user: str) -> Stamp:
    """A push goes out with the publishing, to whoever hears the user then; others catch up by the stream."""
    stream = traces.streams.get(user)
    place = f"Redis {stream.node}, channel of {user}" if stream else f"channel of {user}"
    at, done, detail = _told(traces, user)
    if stream is not None and done is not False:
        detail = f"heard by {stream.listeners} edges now" if stream.listeners else "no device is there now"
    return Stamp(stage="pushed", done=done, at=at, place=place, detail=detail)


def _told(traces: Traces, user: str) -> tuple[datetime | None, bool | None, str]:
    """When a user's stream was told, whether it was, and a word to it.

    A stream forgets. But an event leaves its queue only when the streams were told: where none can be on its
    way any more, they were, right after the mailbox was written, or was touched where that came late.
    """
    stream = traces.streams.get(user)
    if stream is not None and stream.told is not None:
        at, event_id = stream.told
        return at, True, f"event {event_id}"
    since = _due(traces, user)
    if since is None:
        kept = traces.rejected and user == traces.receiver
        return None, False, "kept from its receiver" if kept else ""
    if not traces.queues or traces.on_the_ladder or traces.parked or traces.now - since < IN_HAND:
        return None, None, "not in the hot cache: not yet, or no longer" if stream else ""
    return since, True, "with the delivery; the hot cache holds it no longer"


def _due(traces: Traces, user: str) -> datetime | None:
    """Since when a user is to be told of the message; None where that is not so, or not yet."""
    sent, got = traces.sent, traces.got
    if got is not None:
        mine = got.message if user == traces.receiver or sent is None else sent.message
        late = None if mine.version else mine.changed_at  # it was touched, for it was told late
        return late or got.message.stored_at
    return sent.message.judged_at if sent and traces.rejected and user != traces.receiver else None


def _pointers(traces: Traces) -> list[Stamp]:
    """How far the receiver has got, and when the pointers came to where the message is.

    The chat tells when each moved last; the sender's stream, for as long as it lasts, when each time.
    """
    got = traces.got
    if got is None or got.chat is None:
        return [Stamp(stage=stage, done=False) for stage in ("acknowledged", "read")]
    chat, message_id = got.chat, got.message.message_id
    counted = chat.read_seq >= got.message.seq  # what came late, below the pointer, is not read yet
    receipts = traces.streams.get(traces.known.sender_id, Stream()).receipts
    stamps = []
    for stage, up_to, reached, moved_at in (
        ("acknowledged", chat.delivered_up_to, True, got.delivered_at),
        ("read", chat.read_up_to, counted, got.read_at),
    ):
        done = reached and up_to >= message_id
        at = min((at for at in (receipts.get(stage), moved_at) if done and at), default=None)
        latest = ", at the latest" if at and up_to > message_id and stage not in receipts else ""
        detail = f"up to {up_to}{latest}" if up_to else ""
        stamps.append(Stamp(stage=stage, done=done, at=at, place=_mailbox(got), detail=detail))
    return stamps


def stuck_at(traces: Traces) -> str:
    """Where the message waits on its way to its receiver, and the cure; empty where it has arrived."""
    if traces.got is not None:
        return _not_told(traces, traces.got.message.owner)
    (sent, *_) = traces.copies
    if sent.message.rejected:
        return ""
    if sent.outbox_since is not None:
        return f"in the outbox of shard {sent.shard}: is dbapi running, and RabbitMQ? Then: outbox flush"
    if traces.parked:
        one = traces.parked[0]
        return f"parked ({one.delivery.cause}): once the cause is gone, parked replay {one.key}"
    waiting = [f"{name} {count}" for name, count in traces.queues.items() if count]
    if waiting:
        return f"in a queue ({', '.join(waiting)}): is dbstore running, and the receiver's shard?"
    return (
        "nowhere that can be seen: in a consumer's hands, or lost; in a minute, audit --repair sends it again"
    )


def _not_told(traces: Traces, user: str) -> str:
    """Whether a message that is in the mailbox may still wait for its user's stream to be told."""
    stream, waiting = traces.streams.get(user), traces.on_the_ladder
    if stream is None or stream.told or not waiting:
        return ""
    return (
        f"delivered, and {user}'s devices may not have been told: {', '.join(waiting)} is not empty."
        " Is Redis running?"
    )
