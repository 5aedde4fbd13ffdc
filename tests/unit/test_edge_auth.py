"""Which tokens count: keys, algorithms and claims, with a shared secret and with a JWKS file side by side."""

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge.auth import Authenticator
from edge.keys import key_set
from mesh.errors import Unauthenticated

SECRET = "the shared secret, long enough for HS256"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEYS: dict[str, Any] = {
    "RS256": RSA_KEY,
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
ALGORITHMS: dict[str, Any] = {
    "RS256": jwt.algorithms.RSAAlgorithm, "ES256": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
}  # fmt: skip


@pytest.fixture
def authenticator(tmp_path: Path) -> Authenticator:
    """Holds the secret and the three public keys."""
    keys = [
        {**json.loads(ALGORITHMS[name].to_jwk(key.public_key())), "kid": name, "alg": name}
        for name, key in KEYS.items()
    ]
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": keys}))
    return Authenticator(secret=SECRET, keys=key_set(str(path)))


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims, but for these; None leaves one out."""
    good = {"sub": "alice", "exp": int(time.time()) + 60, **changes}
    return {name: value for name, value in good.items() if value is not None}


@pytest.mark.parametrize("algorithm", ["HS256", *KEYS])
async def test_a_good_token(authenticator: Authenticator, algorithm: str) -> None:
    """Each algorithm of the contract says who it is, and until when."""
    said = claims()
    key = KEYS.get(algorithm, SECRET)
    token = jwt.encode(said, key, algorithm=algorithm, headers={"kid": algorithm})
    identity = await authenticator.identify(token)
    assert (identity.user_id, identity.expires_at) == ("alice", said["exp"])


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": None}, {"sub": None}, {"sub": ""}, {"sub": "a b"}, {"sub": "x" * 65}, {"sub": "é"},
        {"sub": 7}, {"sub": "alice\n"}, {"exp": "soon"}, {"nbf": 2**32},
    ],
)  # fmt: skip
async def test_claims_that_do_not_do(authenticator: Authenticator, changes: dict[str, Any]) -> None:
    """A well-signed token without an end, without a proper user id, or for later, is not valid."""
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"alg": "HS256", "typ": "JWT"}, claims(**changes))
    ]
    signature = hmac.new(SECRET.encode(), b".".join(parts), hashlib.sha256).digest()
    token = b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()
    with pytest.raises(Unauthenticated) as refused:
        await authenticator.identify(token)
    assert refused.value.reason == "TOKEN_INVALID"


async def test_a_token_that_is_over(authenticator: Authenticator) -> None:
    """An expired token says so, for the client is to get another."""
    token = jwt.encode(claims(exp=int(time.time()) - 1), SECRET, algorithm="HS256")
    with pytest.raises(Unauthenticated) as refused:
        await authenticator.identify(token)
    assert refused.value.reason == "TOKEN_EXPIRED"


def hs256(key: bytes, kid: str) -> str:
    """An HS256 token by hand, for keys that a library refuses."""
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"alg": "HS256", "kid": kid}, claims())
    ]
    signature = hmac.new(key, b".".join(parts), hashlib.sha256).digest()
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


async def test_algorithms_cannot_be_confused(authenticator: Authenticator) -> None:
    """A public key is no HS256 secret, one key is no other's, and no algorithm is none."""
    public = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for token in (
        hs256(public, "RS256"),
        hs256(public.strip(), "RS256"),
        hs256(b"", "RS256"),
        jwt.encode(claims(), other, algorithm="RS256", headers={"kid": "RS256"}),
        jwt.encode(claims(), RSA_KEY, algorithm="RS256", headers={"kid": "ES256"}),
        jwt.encode(claims(), RSA_KEY, algorithm="RS256", headers={"kid": "nobody"}),
        jwt.encode(claims(), RSA_KEY, algorithm="RS512", headers={"kid": "RS256"}),
        jwt.encode(claims(), SECRET * 2, algorithm="HS512"),
        jwt.encode(claims(), "", algorithm="none"),
    ):
        with pytest.raises(Unauthenticated):
            await authenticator.identify(token)


@pytest.mark.parametrize("algorithm", ["HS256", "RS256"])
async def test_a_kind_of_key_that_is_not_configured(tmp_path: Path, algorithm: str) -> None:
    """Without a secret no HS256 token counts, without a JWKS none of the others."""
    path = tmp_path / "jwks.json"
    path.write_text('{"keys": []}')
    alone = (
        Authenticator(secret="", keys=key_set(str(path)))
        if algorithm == "HS256"
        else Authenticator(secret=SECRET, keys=None)
    )
    key = KEYS.get(algorithm, SECRET)
    for used in (key,) if algorithm == "RS256" else (key, ""):
        token = (
            hs256(str(used).encode(), "") if algorithm == "HS256" else jwt.encode(claims(), used, algorithm)
        )
        with pytest.raises(Unauthenticated):
            await alone.identify(token)


async def test_no_token(authenticator: Authenticator) -> None:
    """No token is told from a bad one."""
    with pytest.raises(Unauthenticated) as refused:
        await authenticator.identify("")
    assert refused.value.reason == "TOKEN_MISSING"
