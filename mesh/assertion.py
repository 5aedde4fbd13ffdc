"""Who the end user of a call is, proven: the edge signs, everybody verifies, nobody else can make one up.

An assertion is a JWT (RFC 7519) signed with Ed25519 (RFC 8037): user, audience, a few minutes of life. It is
signed and verified once a user and life, and looked up after that.
"""

import json
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.utils import base64url_encode

from mesh import call
from mesh.errors import PermissionDenied, Unauthenticated
from mesh.lru import Lru
from mesh.watched import Watched

ALGORITHM = "EdDSA"
AUDIENCE = "messenger-mesh"
"""No client's token has it, and the edge takes no token that has an audience."""

LIFE = 300.0
"""Seconds; how long a service that was handed an assertion can do something with it."""

LEEWAY = 5.0
"""Seconds that two machines' clocks may be apart."""

REMEMBERED = 20_000
"""Users whose assertion a process remembers."""


class Signer:
    """Makes assertions; the edge's alone.

    Args:
        key: PEM file of the Ed25519 private key.
        now: Unix time, seconds.

    Raises:
        OSError, ValueError: the file is missing or holds no such key.
    """

    def __init__(self, key: Path, *, now: Callable[[], float] = time.time) -> None:
        self._file = Watched((key,), lambda texts: _Key(texts[0]))
        self._now = now
        self._key = self._file.value
        self._signed: Lru[str, tuple[str, float]] = Lru(REMEMBERED)

    def sign(self, user_id: str, life: float = LIFE) -> str:
        """An assertion that names the user."""
        return self._file.value.sign(user_id, self._now() + life)

    def current(self) -> str:
        """For the user of the current call; empty where it has none. One is used for half of its life."""
        user_id = call.current().user_id
        if not user_id:
            return ""
        if (key := self._file.value) is not self._key:
            self._key, self._signed = key, Lru(REMEMBERED)
        known = self._signed.get(user_id)
        if known is None or self._now() > known[1]:
            known = self.sign(user_id), self._now() + LIFE / 2
            self._signed.put(user_id, known)
        return known[0]


class Verifier:
    """Says whose call it is. Without keys it takes every caller's word, as in tests and on a plain laptop.

    Args:
        keys: JWKS file (RFC 7517) of the edges' public keys; none to verify nothing.
        now: Unix time, seconds.

    Raises:
        OSError, ValueError: the file is missing or holds no such keys.
    """

    def __init__(self, keys: Path | None = None, *, now: Callable[[], float] = time.time) -> None:
        self._file = Watched((keys,), _parse_keys) if keys else None
        self._now = now
        self._keys = self._file.value if self._file else {}
        self._known: Lru[str, tuple[str, float]] = Lru(REMEMBERED)

    def user_of(self, claimed: str, assertion: str) -> str:
        """The user of a call that brought these; empty where it proves none.

        Raises:
            Unauthenticated: the assertion is not one of ours, or over.
        """
        if self._file is None:
            return claimed
        return self._proven(self._file.value, assertion) if assertion else ""

    def require(self, owner: str, user: str) -> None:
        """Holds the user whose data is asked for against the one of the call.

        Raises:
            PermissionDenied: the call is another user's, or nobody's.
        """
        if self._file is not None and owner != user:
            raise PermissionDenied(
                f"The call does not prove that it is made for {owner!r}.", reason="USER_NOT_PROVEN"
            )

    def _proven(self, keys: dict[str, jwt.PyJWK], assertion: str) -> str:
        if keys is not self._keys:  # what a withdrawn key has signed counts no more
            self._keys, self._known = keys, Lru(REMEMBERED)
        known = self._known.get(assertion)
        if known is None:
            known = self._verify(keys, assertion)
            self._known.put(assertion, known)
        user_id, until = known
        if self._now() > until:
            raise Unauthenticated("The assertion of the call's user is over.", reason="ASSERTION_EXPIRED")
        return user_id

    def _verify(self, keys: dict[str, jwt.PyJWK], assertion: str) -> tuple[str, float]:
        try:
            key = keys[jwt.get_unverified_header(assertion)["kid"]]
            claims = jwt.decode(
                assertion,
                key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                options={"require": ["sub", "exp"], "verify_exp": False},  # on our clock, at every call
            )
            return claims["sub"], float(claims["exp"]) + LEEWAY
        except (KeyError, TypeError, ValueError, jwt.PyJWTError) as error:
            raise Unauthenticated(
                "The assertion of the call's user is not valid.", reason="ASSERTION_INVALID"
            ) from error


class _Key:
    def __init__(self, text: bytes) -> None:
        key = load_pem_private_key(text, None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("ASSERTION_SIGNING_KEY holds no Ed25519 key")
        self._key = key
        self._kid = public_jwk(key.public_key())["kid"]

    def sign(self, user_id: str, until: float) -> str:
        claims = {"sub": user_id, "aud": AUDIENCE, "exp": int(until)}
        return jwt.encode(claims, self._key, ALGORITHM, headers={"kid": self._kid})


def public_jwk(key: Ed25519PublicKey) -> dict[str, str]:
    """The JWK of a public key, by its thumbprint as key id (RFC 7638)."""
    members = {"crv": "Ed25519", "kty": "OKP", "x": base64url_encode(key.public_bytes_raw()).decode()}
    thumbprint = sha256(json.dumps(members, separators=(",", ":"), sort_keys=True).encode()).digest()
    return members | {"alg": ALGORITHM, "kid": base64url_encode(thumbprint).decode()}


def _parse_keys(texts: Sequence[bytes]) -> dict[str, jwt.PyJWK]:
    try:
        listed: list[dict[str, Any]] = json.loads(texts[0])["keys"]
        keys = {key["kid"]: jwt.PyJWK(key, ALGORITHM) for key in listed}
    except (KeyError, TypeError, jwt.PyJWTError) as error:
        raise ValueError(f"ASSERTION_KEYS is no JWKS of Ed25519 keys with key ids: {error}") from error
    if not keys:
        raise ValueError("ASSERTION_KEYS holds no keys")
    return keys
