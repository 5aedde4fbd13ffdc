"""Who a token speaks for. PyJWT does the cryptography; which algorithms and claims count is decided here.

The header of a token chooses between the keys that we hold and decides nothing else: every key has its one
algorithm (RFC 8725, 3.1), so that neither `none` nor a public key taken for a secret gets anybody in.
"""

import re
from dataclasses import dataclass
from typing import Any

import jwt

from edge.keys import ALGORITHMS, KeySet
from mesh.errors import Unauthenticated

USER_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")

LAST_SECOND = 253_402_300_799
"""Unix time of the end of the year 9999, the last that a protobuf time can say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A user, until `expires_at` (Unix time, seconds)."""

    user_id: str
    expires_at: float


class Authenticator:
    """Verifies JWTs: HS256 with the shared secret, RS256/ES256/EdDSA with the issuer's keys; nothing else.

    Args:
        secret: shared secret of HS256; empty for none.
        keys: the issuer's public keys; none for none.
    """

    def __init__(self, *, secret: str, keys: KeySet | None) -> None:
        self._secret = secret
        self._keys = keys

    async def identify(self, token: str) -> Identity:
        """The user that a token names.

        Raises:
            Unauthenticated: no token, or not one of ours, or over; the text says which.
            Unavailable: the issuer's keys cannot be had.
        """
        if not token:
            raise Unauthenticated("No token was given.", reason="TOKEN_MISSING")
        try:
            key, algorithm = await self._key_for(jwt.get_unverified_header(token))
            claims = jwt.decode(token, key, algorithms=[algorithm], options={"require": ["sub", "exp"]})
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("The token is over; get a new one.", reason="TOKEN_EXPIRED") from None
        except (jwt.PyJWTError, ValueError, OverflowError) as error:
            raise Unauthenticated("The token is not valid.", reason="TOKEN_INVALID") from error
        if not USER_ID.fullmatch(claims["sub"]):
            raise Unauthenticated("The token's sub is no user id.", reason="TOKEN_INVALID")
        return Identity(user_id=claims["sub"], expires_at=min(float(claims["exp"]), LAST_SECOND))

    async def _key_for(self, header: dict[str, Any]) -> tuple[Any, str]:
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm == "HS256" and self._secret:
            return self._secret, "HS256"
        if algorithm in ALGORITHMS and self._keys:
            key = await self._keys.find(kid)
            return key, key.algorithm_name
        raise jwt.InvalidAlgorithmError
