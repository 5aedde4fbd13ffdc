"""The edge's signed word for its users: who can give it, how long it counts, what nobody gets without."""

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from dbapi.service import MailboxService
from mesh import call
from mesh.assertion import ALGORITHM, AUDIENCE, LEEWAY, LIFE, Signer, Verifier, public_jwk
from mesh.errors import MessengerError, PermissionDenied, Unauthenticated
from mesh.mailbox.memory import MemoryMailbox
from mesh.stack.ca import make_assertion_keys
from messenger.dbapi.v1 import dbapi_pb2, dbapi_pb2_grpc
from tests.security.test_allow_lists import MAILBOX, Announcer

CHAT = str(uuid.uuid4())


@dataclass(slots=True)
class Clock:
    """Unix time that the test holds."""

    time: float = 1_800_000_000.0

    def __call__(self) -> float:
        """The time."""
        return self.time


def test_names_the_user(signer: Signer, verifier: Verifier) -> None:
    """What one edge signs, every service verifies; what a caller claims beside it does not count."""
    assert verifier.user_of("somebody else", signer.sign("alice")) == "alice"


def test_a_claim_without_proof_is_nobody(verifier: Verifier) -> None:
    """With keys a call that only claims a user has none."""
    assert verifier.user_of("alice", "") == ""


def test_without_keys_claims_count() -> None:
    """Without keys everything is as the caller says, so that tests and tools need none."""
    Verifier().require("alice", "bob")
    assert Verifier().user_of("alice", "") == "alice"


def test_lives_for_minutes(signing_key: Path) -> None:
    """An assertion counts for its life and the clocks' leeway, also one that was verified before."""
    clock = Clock()
    signer = Signer(signing_key, now=clock)
    verifier = Verifier(signing_key.with_name("assertions.json"), now=clock)
    signed = signer.sign("alice")
    clock.time += LIFE + LEEWAY
    assert verifier.user_of("", signed) == "alice"
    clock.time += 1
    for fresh in (verifier, Verifier(signing_key.with_name("assertions.json"), now=clock)):
        with pytest.raises(Unauthenticated, match="over"):
            fresh.user_of("", signed)


def test_is_signed_once_for_many_calls(signing_key: Path) -> None:
    """An edge signs once in half a life for a user, so that what it sends always lives longer than a call."""
    clock = Clock()
    signer = Signer(signing_key, now=clock)
    with call.within(call.Call(user_id="alice")):
        first = signer.current()
        clock.time += LIFE / 2
        assert signer.current() == first
        clock.time += 1
        assert signer.current() != first
    assert signer.current() == ""


def forged(claims: dict[str, Any], key: Any, algorithm: str, kid: str) -> str:
    """A token that no edge has signed."""
    return jwt.encode(claims, key, algorithm, headers={"kid": kid})


def test_forgeries_are_refused(signing_key: Path, signer: Signer, verifier: Verifier) -> None:
    """Other keys, other algorithms, other audiences, missing claims and damaged text prove nothing."""
    good = signer.sign("alice")
    kid = jwt.get_unverified_header(good)["kid"]
    key = signer._file.value._key
    public = json.loads(signing_key.with_name("assertions.json").read_text())["keys"][0]["x"]
    claims = {"sub": "alice", "aud": AUDIENCE, "exp": int(time.time()) + 60}
    for bad in (
        forged(claims, Ed25519PrivateKey.generate(), ALGORITHM, kid),
        forged(claims, key, ALGORITHM, "another"),
        forged(claims, public, "HS256", kid),
        forged(claims, None, "none", kid),
        forged(claims | {"aud": "clients"}, key, ALGORITHM, kid),
        forged({name: claims[name] for name in ("sub", "exp")}, key, ALGORITHM, kid),
        forged({name: claims[name] for name in ("sub", "aud")}, key, ALGORITHM, kid),
        forged({name: claims[name] for name in ("aud", "exp")}, key, ALGORITHM, kid),
        jwt.encode(claims, key, ALGORITHM),
        good[:-4] + "AAAA",
        good.rpartition(".")[0],
    ):
        with pytest.raises(Unauthenticated, match="not valid"):
            verifier.user_of("alice", bad)


def test_keys_rotate(tmp_path: Path) -> None:
    """A new key counts once the JWKS has it; one that was taken out stops, also for what is known."""
    make_assertion_keys(tmp_path / "a.key", tmp_path / "a.json")
    make_assertion_keys(tmp_path / "b.key", tmp_path / "b.json")
    old, new = Signer(tmp_path / "a.key").sign("alice"), Signer(tmp_path / "b.key").sign("alice")
    keys = [json.loads((tmp_path / name).read_text())["keys"][0] for name in ("a.json", "b.json")]
    jwks = tmp_path / "keys.json"

    def publish(listed: list[Any]) -> None:
        jwks.write_text(json.dumps({"keys": listed}))
        assert verifier._file is not None
        verifier._file.refresh()

    jwks.write_text(json.dumps({"keys": keys[:1]}))
    verifier = Verifier(jwks)
    assert verifier.user_of("", old) == "alice"
    with pytest.raises(Unauthenticated):
        verifier.user_of("", new)
    publish(keys)
    assert (verifier.user_of("", old), verifier.user_of("", new)) == ("alice", "alice")
    publish(keys[1:])
    assert verifier.user_of("", new) == "alice"
    with pytest.raises(Unauthenticated):
        verifier.user_of("", old)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "AA", "kid": "1"}]}']
)
def test_unusable_keys_are_refused_at_the_start(tmp_path: Path, text: str) -> None:
    """A process whose key file holds no Ed25519 keys does not start, rather than believe everybody."""
    (tmp_path / "keys").write_text(text)
    with pytest.raises(ValueError, match=r"."):
        Verifier(tmp_path / "keys")


JWKS = json.dumps({"keys": [public_jwk(Ed25519PrivateKey.from_private_bytes(b"7" * 32).public_key())]})


@given(assertion=st.text(min_size=1))
def test_no_text_proves_a_user(assertion: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any text that is no assertion is refused as one, and breaks nothing."""
    path = tmp_path_factory.getbasetemp() / "fuzzed.json"
    path.write_text(JWKS)
    with pytest.raises(Unauthenticated):
        Verifier(path).user_of("", assertion)


# ── dbapi ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def stub(serve: Any, dial: Any, verifier: Verifier) -> Callable[..., Any]:
    """Stubs, at one dbapi, of callers that hand on an assertion: `await stub(assertion)`."""  # noqa: D402
    service = MailboxService(MemoryMailbox(shards=1), Announcer(), verifier)  # type: ignore[arg-type]
    server = await serve(dbapi_pb2_grpc.add_MailboxServiceServicer_to_server, service, verifier=verifier)

    async def make(assertion: str) -> dbapi_pb2_grpc.MailboxServiceStub:
        return dbapi_pb2_grpc.MailboxServiceStub(await dial(server, assertion=lambda: assertion))

    return make


def request_of(name: str, owner: str) -> Any:
    """A valid request of a method about somebody's mailbox."""
    values = {
        "owner_id": owner, "peer_id": "bob", "user_id": "bob", "chat_id": CHAT, "up_to": CHAT,
        "message_id": CHAT, "text": "Hi", "query": "Hi", "limit": 10, "user_ids": ["bob"], "blocked": True,
        "since": {"seconds": 1},
    }  # fmt: skip
    kind = MAILBOX.methods_by_name[name].input_type
    return getattr(dbapi_pb2, kind.name)(**{k: v for k, v in values.items() if k in kind.fields_by_name})


ABOUT_ONE_USER = [name for name in MAILBOX.methods_by_name if name != "AppendMessages"]


@pytest.mark.parametrize("name", ABOUT_ONE_USER)
async def test_nobody_reads_or_writes_without_the_users_call(
    stub: Callable[..., Any], signer: Signer, name: str
) -> None:
    """Each method of dbapi refuses a mailbox whose user's call the caller does not hold."""
    for assertion in ("", signer.sign("mallory")):
        with pytest.raises(PermissionDenied) as refused:
            await getattr(await stub(assertion), name)(request_of(name, "alice"), timeout=5)
        assert refused.value.reason == "USER_NOT_PROVEN"


@pytest.mark.parametrize("name", ABOUT_ONE_USER)
async def test_the_users_call_opens_the_users_mailbox(
    stub: Callable[..., Any], signer: Signer, name: str
) -> None:
    """With the user's assertion the same requests get as far as the mailbox."""
    reason = ""
    try:
        await getattr(await stub(signer.sign("alice")), name)(request_of(name, "alice"), timeout=5)
    except MessengerError as error:  # there is no such chat
        reason = error.reason
    assert reason != "USER_NOT_PROVEN"


async def test_claiming_a_user_in_metadata_is_not_enough(stub: Callable[..., Any], signer: Signer) -> None:
    """The plain metadata of a caller that lies does not count beside an assertion, nor alone."""
    with call.within(call.Call(user_id="alice")):
        for assertion in ("", signer.sign("mallory")):
            with pytest.raises(PermissionDenied):
                await (await stub(assertion)).ListChats(request_of("ListChats", "alice"), timeout=5)


async def test_each_message_of_a_batch_proves_its_owner(stub: Callable[..., Any], signer: Signer) -> None:
    """A batch of many users' messages is refused item by item: a good one is not lost to a forged one."""
    opened = await (await stub(signer.sign("alice"))).OpenChat(request_of("OpenChat", "alice"), timeout=5)

    def message(key: str, assertion: str) -> dbapi_pb2.NewMessage:
        return dbapi_pb2.NewMessage(
            owner_id="alice",
            chat_id=opened.chat.chat_id,
            text="Hi",
            client_msg_id=key,
            owner_assertion=assertion,
        )

    messages = [
        message("forged", signer.sign("mallory")),
        message("good", signer.sign("alice")),
        message("without", ""),
        message("garbage", "garbage"),
    ]
    answer = await (await stub("")).AppendMessages(
        dbapi_pb2.AppendMessagesRequest(messages=messages), timeout=5
    )
    assert [result.error.reason for result in answer.results] == [
        "USER_NOT_PROVEN", "", "USER_NOT_PROVEN", "ASSERTION_INVALID",
    ]  # fmt: skip
    assert answer.results[1].appended.message.client_msg_id == "good"
