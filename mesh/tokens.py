"""Tokens of the local stack: HS256 JWTs after the client contract. On a cluster, others issue them."""

import re
from datetime import datetime, timedelta

import jwt

# The client contract's user ids.
USER_ID = re.compile(r"[A-Za-z0-9_.\-]{1,64}")


def issue(user_id: str, *, secret: str, now: datetime, ttl: timedelta) -> str:
    """A signed token for a user (RFC 7519: sub, iat, exp).

    Args:
        user_id: 1..64 characters of A-Za-z0-9_.-
        secret: the HS256 key.
        now: time of issue, with a time zone.
        ttl: how long it is good for.

    Raises:
        ValueError: no such user id can be.
    """
    if not USER_ID.fullmatch(user_id):
        raise ValueError(f"{user_id!r} is no user id: 1..64 characters of A-Za-z0-9_.-")
    return jwt.encode({"sub": user_id, "iat": now, "exp": now + ttl}, secret, algorithm="HS256")
