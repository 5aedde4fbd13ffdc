"""Who a token speaks for. PyJWT does the cryptography; which algorithms and claims count is decided here."""

import asyncio
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from mesh.errors import Unauthenticated

USER_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
ASYMMETRIC = ("RS256", "ES256", "EdDSA")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A user, until `expires_at` (Unix time, seconds)."""

    user_id: str
    expires_at: float


class Authenticator:
    """Verifies JWTs: HS256 with the shared secret, RS256/ES256/EdDSA with the JWKS; nothing else.

    Args:
        secret: shared secret of HS256; empty for none.
        jwks: a JWKS file's path or https URL; empty for none.
    """

    def __init__(self, *, secret: str, jwks: str) -> None:
        self._secret = secret
        self._jwks_file = Path(jwks) if jwks and "://" not in jwks else None
        self._jwks_client = jwt.PyJWKClient(jwks, timeout=5) if "://" in jwks else None

    async def identify(self, token: str) -> Identity:
        """The user that a token names.

        Raises:
            Unauthenticated: no token, or not one of ours, or over; the text says which.
        """
        if not token:
            raise Unauthenticated("No token was given.", reason="TOKEN_MISSING")
        try:
            key, algorithms = await self._key_for(token)
            claims = jwt.decode(token, key, algorithms=algorithms, options={"require": ["sub", "exp"]})
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("The token is over; get a new one.", reason="TOKEN_EXPIRED") from None
        except jwt.PyJWTError as error:
            raise Unauthenticated("The token is not valid.", reason="TOKEN_INVALID") from error
        if not USER_ID.fullmatch(claims["sub"]):
            raise Unauthenticated("The token's sub is no user id.", reason="TOKEN_INVALID")
        return Identity(user_id=claims["sub"], expires_at=float(claims["exp"]))

    async def _key_for(self, token: str) -> tuple[Any, list[str]]:
        # The header only chooses between the keys that we hold; each key has its own algorithms.
        algorithm = jwt.get_unverified_header(token).get("alg")
        if algorithm == "HS256" and self._secret:
            return self._secret, ["HS256"]
        if algorithm in ASYMMETRIC and self._jwks_client:
            return await asyncio.to_thread(self._jwks_client.get_signing_key_from_jwt, token), list(
                ASYMMETRIC
            )
        if algorithm in ASYMMETRIC and self._jwks_file:
            return self._from_file(token), list(ASYMMETRIC)
        raise jwt.InvalidAlgorithmError

    def _from_file(self, token: str) -> jwt.PyJWK:
        assert self._jwks_file is not None  # noqa: S101  # the caller looked
        keys = jwt.PyJWKSet.from_dict(json.loads(self._jwks_file.read_text()))
        kid = jwt.get_unverified_header(token).get("kid")
        for key in keys.keys:
            if kid is None or key.key_id == kid:
                return key
        raise jwt.InvalidKeyError
