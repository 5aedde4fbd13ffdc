"""Clients' tokens: pinned algorithms, keys that rotate, and an issuer that is away or is asked too much."""

import asyncio
import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge.auth import LAST_SECOND, Authenticator
from edge.keys import KeySet, key_set
from mesh.assertion import AUDIENCE, Signer
from mesh.errors import Unauthenticated, Unavailable

SECRET = "s" * 32
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
PRIVATE = {"RS256": RSA, "ES256": EC, "EdDSA": ED}
WRITERS = {
    "RS256": jwt.algorithms.RSAAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
}


def jwk(algorithm: str, kid: str | None, **members: str) -> dict[str, Any]:
    """The public JWK of our key for an algorithm."""
    written: dict[str, Any] = json.loads(WRITERS[algorithm].to_jwk(PRIVATE[algorithm].public_key()))  # type: ignore[attr-defined]
    return written | members | ({"kid": kid} if kid else {})


def token(algorithm: str, key: Any = None, kid: str | None = None, **claims: Any) -> str:
    """A token for alice."""
    headers = {"kid": kid} if kid else {}
    body = {"sub": "alice", "exp": int(time.time()) + 60} | claims
    signing: Any = key or PRIVATE.get(algorithm, SECRET)
    return jwt.encode(body, signing, algorithm, headers=headers)


@dataclass(slots=True)
class Issuer:
    """A JWKS and a clock that the test holds; counts fetches."""

    keys: list[dict[str, Any]]
    time: float = 0.0
    fetches: int = 0
    away: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def fetch(self) -> Mapping[str, Any]:
        """The JWKS."""
        self.fetches += 1
        await self.gate.wait()
        if self.away:
            raise ConnectionRefusedError
        return {"keys": self.keys}

    def authenticator(self, secret: str = SECRET) -> Authenticator:
        """One that trusts it."""
        keys = KeySet(self.fetch, least=5, longest=300, now=lambda: self.time)
        return Authenticator(secret=secret, keys=keys)


@pytest.fixture
def issuer() -> Issuer:
    """An issuer with a key of each kind."""
    return Issuer([jwk(algorithm, algorithm) for algorithm in PRIVATE])


@pytest.mark.parametrize("algorithm", ["HS256", *PRIVATE])
async def test_each_algorithm_of_the_contract(issuer: Issuer, algorithm: str) -> None:
    """HS256, RS256, ES256 and EdDSA tokens name their user."""
    good = token(algorithm, kid=algorithm)
    assert (await issuer.authenticator().identify(good)).user_id == "alice"


def pem() -> bytes:
    """The RSA public key as everybody may have it."""
    return RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def by_hand(header: dict[str, Any], secret: bytes) -> str:
    """An HMAC token whose key PyJWT would not take."""
    import hashlib
    import hmac

    claims = {"sub": "alice", "exp": int(time.time()) + 60}
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims))
    text = b".".join(parts)
    digest = hmac.new(secret, text, hashlib.sha256).digest()
    return (text + b"." + base64.urlsafe_b64encode(digest).rstrip(b"=")).decode()


FORGED = {
    "none": lambda: jwt.encode({"sub": "alice", "exp": int(time.time()) + 60}, "", "none"),
    "public key as secret": lambda: by_hand({"alg": "HS256", "kid": "RS256"}, pem()),
    "HS512 by the secret": lambda: token("HS512", SECRET * 2),
    "RS512 by the RSA key": lambda: token("RS512", RSA, kid="RS256"),
    "PS256 by the RSA key": lambda: token("PS256", RSA, kid="RS256"),
    "RS256 by the id of another kind": lambda: token("RS256", RSA, kid="ES256"),
    "unknown key id": lambda: token("RS256", RSA, kid="?"),
    "no key id among several": lambda: token("RS256", RSA),
    "another RSA key": lambda: token("RS256", rsa.generate_private_key(65537, 2048), kid="RS256"),
    "jwk in the header": lambda: jwt.encode(
        {"sub": "alice", "exp": int(time.time()) + 60}, EC, "ES256", headers={"jwk": jwk("ES256", None)}
    ),
    "for another audience": lambda: token("HS256", aud=AUDIENCE),
    "not yet": lambda: token("HS256", nbf=int(time.time()) + 60),
    "no expiry": lambda: jwt.encode({"sub": "alice"}, SECRET, "HS256"),
    "no user": lambda: jwt.encode({"exp": int(time.time()) + 60}, SECRET, "HS256"),
    "no user id": lambda: token("HS256", sub="a b"),
    "a user id with a line's end": lambda: token("HS256", sub="alice\n"),
    "a user that is a number": lambda: jwt.encode({"sub": 7, "exp": 2**40}, SECRET, "HS256"),
    "an endless expiry": lambda: token("HS256", exp=float("inf")),
    "an expiry that is no number": lambda: token("HS256", exp=float("nan")),
}


@pytest.mark.parametrize("kind", FORGED)
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_forgeries_are_refused(issuer: Issuer, kind: str) -> None:
    """Whatever is wrong with a token, it is TOKEN_INVALID."""
    with pytest.raises(Unauthenticated) as refused:
        await issuer.authenticator().identify(FORGED[kind]())
    assert refused.value.reason == "TOKEN_INVALID"


@pytest.mark.parametrize(("algorithm", "secret", "keys"), [("HS256", "", True), ("RS256", SECRET, False)])
async def test_what_is_not_configured_does_not_count(
    issuer: Issuer, algorithm: str, secret: str, keys: bool
) -> None:
    """Without a secret no HS256 token is taken, without a JWKS no other."""
    known = KeySet(issuer.fetch) if keys else None
    with pytest.raises(Unauthenticated):
        await Authenticator(secret=secret, keys=known).identify(token(algorithm, kid="RS256"))


async def test_secrets_in_a_jwks_do_not_count() -> None:
    """A JWKS that holds a symmetric key, or one for encryption, does not make it one for tokens."""
    oct_key = {"kty": "oct", "k": base64.urlsafe_b64encode(SECRET.encode()).decode(), "kid": "1"}
    for bad in (oct_key, jwk("RS256", "1", use="enc")):
        authenticator = Issuer([bad, jwk("ES256", "2")]).authenticator(secret="")
        for algorithm in ("HS256", "RS256"):
            with pytest.raises(Unauthenticated):
                await authenticator.identify(token(algorithm, kid="1"))


async def test_the_assertion_of_the_mesh_is_no_token(signer: Signer, signing_key: Path) -> None:
    """Not even an operator who publishes the edges' keys to clients lets assertions in as tokens."""
    jwks = json.loads(signing_key.with_name("assertions.json").read_text())
    with pytest.raises(Unauthenticated):
        await Issuer(jwks["keys"]).authenticator().identify(signer.sign("alice"))


async def test_an_expiry_beyond_all_calendars(issuer: Issuer) -> None:
    """A token for ever is one until the last second that the contract's times can say."""
    assert (await issuer.authenticator().identify(token("HS256", exp=10**15))).expires_at == LAST_SECOND


async def test_a_new_key_is_fetched_when_it_is_first_met(issuer: Issuer) -> None:
    """After a rotation the new key id makes for one fetch, and its tokens are good."""
    authenticator = issuer.authenticator()
    await authenticator.identify(token("RS256", kid="RS256"))
    issuer.keys, issuer.time = [jwk("EdDSA", "new")], 5
    assert (await authenticator.identify(token("EdDSA", kid="new"))).user_id == "alice"
    assert issuer.fetches == 2
    with pytest.raises(Unauthenticated):
        await authenticator.identify(token("RS256", kid="RS256"))


async def test_made_up_key_ids_do_not_reach_the_issuer(issuer: Issuer) -> None:
    """A thousand unknown key ids make for one fetch in `least` seconds, also side by side."""
    authenticator = issuer.authenticator()
    forged = [token("EdDSA", kid=f"made-up-{n}") for n in range(1000)]
    outcomes = await asyncio.gather(*map(authenticator.identify, forged), return_exceptions=True)
    for late in forged[:10]:
        with pytest.raises(Unauthenticated):
            await authenticator.identify(late)
    assert all(isinstance(outcome, Unauthenticated) for outcome in outcomes)
    assert issuer.fetches == 1


async def test_an_issuer_that_is_away_locks_nobody_out(issuer: Issuer) -> None:
    """While the JWKS cannot be had known keys count on, and the issuer is asked again only now and then."""
    authenticator = issuer.authenticator()
    good = token("RS256", kid="RS256")
    await authenticator.identify(good)
    issuer.away, issuer.time = True, 1000
    for _ in range(100):
        assert (await authenticator.identify(good)).user_id == "alice"
        await asyncio.sleep(0)
    assert issuer.fetches == 2


async def test_a_slow_issuer_keeps_known_keys_waiting_for_nothing(issuer: Issuer) -> None:
    """Tokens of known keys are verified while the JWKS is being fetched."""
    authenticator = issuer.authenticator()
    good = token("RS256", kid="RS256")
    await authenticator.identify(good)
    issuer.time = 1000
    issuer.gate.clear()
    async with asyncio.timeout(5):
        assert (await authenticator.identify(good)).user_id == "alice"
    issuer.gate.set()


async def test_without_keys_ever_the_answer_is_to_come_back(issuer: Issuer) -> None:
    """A token cannot be called invalid by somebody who never saw the keys."""
    issuer.away = True
    with pytest.raises(Unavailable):
        await issuer.authenticator().identify(token("RS256", kid="RS256"))


async def test_keys_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A JWKS file is read, and read again when its keys were exchanged."""
    monkeypatch.setattr("edge.keys.FILE_SECONDS", 0.0)
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [jwk("RS256", None)]}))
    keys = key_set(str(path))
    keys._least = 0.0
    authenticator = Authenticator(secret="", keys=keys)
    assert (await authenticator.identify(token("RS256"))).user_id == "alice"  # no id: the only key there is
    path.write_text(json.dumps({"keys": [jwk("ES256", "2")]}))
    assert (await authenticator.identify(token("ES256", kid="2"))).user_id == "alice"


@pytest.fixture
def served() -> Any:
    """A JWKS behind a real HTTP server."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"keys": [jwk("ES256", "1")]}).encode())

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/jwks"
        server.shutdown()
        thread.join()


async def test_keys_at_a_url(served: str) -> None:
    """A JWKS is fetched from a URL."""
    authenticator = Authenticator(secret="", keys=key_set(served))
    assert (await authenticator.identify(token("ES256", kid="1"))).user_id == "alice"


@pytest.mark.parametrize("url", ["http://issuer.example/jwks", "ftp://issuer.example/jwks"])
def test_keys_do_not_come_in_the_open(url: str) -> None:
    """A URL by which anybody in between could put in a key of its own is refused at the start."""
    with pytest.raises(ValueError, match="https"):
        key_set(url)
