"""Public keys of those who issue tokens, from a JWKS file or URL; rotated without a restart.

Source: RFC 7517.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import structlog

from mesh.errors import Unavailable

log = structlog.get_logger()

ALGORITHMS = ("RS256", "ES256", "EdDSA")
FETCH_SECONDS = 5.0
FILE_SECONDS = 5.0

Fetch = Callable[[], Awaitable[Mapping[str, Any]]]


class KeySet:
    """The keys, kept in memory and fetched again when they may have changed.

    A key id that is not known makes for a fetch, and so does age; `least` seconds lie between two fetches
    whoever asks, so that made-up key ids cost the issuer nothing. Tokens of known keys wait for no fetch, and
    while none succeeds the set stays as it is.

    Args:
        fetch: gets the JWKS.
        least: seconds between two fetches, at least.
        longest: seconds after which a key that was withdrawn no longer counts.
        now: seconds on a clock that only goes forward.
    """

    def __init__(
        self,
        fetch: Fetch,
        *,
        least: float = 5.0,
        longest: float = 300.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._least = least
        self._longest = longest
        self._now = now
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._tried: float | None = None
        self._fetched: float | None = None
        self._refreshing: asyncio.Task[None] | None = None

    async def find(self, kid: str | None) -> jwt.PyJWK:
        """The key with this id; the only one there is where the token names none.

        Raises:
            jwt.InvalidKeyError: there is no such key.
            Unavailable: the keys have never been fetched, and cannot be now.
        """
        if self._refreshing is None and self._is_due(kid):
            self._tried = self._now()
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh(self._tried))
        if self._refreshing is not None and kid not in self._keys:
            await asyncio.shield(self._refreshing)
        if self._fetched is None:
            raise Unavailable("The keys that tokens are signed with cannot be had; try again.")
        if kid not in self._keys:
            raise jwt.InvalidKeyError("no such key")
        return self._keys[kid]

    def _is_due(self, kid: str | None) -> bool:
        now = self._now()
        if self._tried is not None and now - self._tried < self._least:
            return False
        return self._fetched is None or kid not in self._keys or now - self._fetched >= self._longest

    async def _refresh(self, began: float) -> None:
        try:
            self._keys = _read(await self._fetch())
            self._fetched = began
        except (OSError, ValueError, jwt.PyJWTError) as error:
            log.warning("the JWKS cannot be had; the keys stay as they were", cause=str(error))
        finally:
            self._refreshing = None


def key_set(source: str) -> KeySet:
    """The keys in a JWKS.

    Args:
        source: a file's path, looked at every few seconds, or an https URL, fetched every few minutes.

    Raises:
        ValueError: the URL is plain http, by which anybody in between could sign tokens.
    """
    if "://" not in source:
        path = Path(source)
        return KeySet(lambda: asyncio.to_thread(_from_file, path), longest=FILE_SECONDS)
    url = urlsplit(source)
    if url.scheme != "https" and url.hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise ValueError("JWT_JWKS must be a file's path or an https URL")
    client = jwt.PyJWKClient(source, timeout=FETCH_SECONDS, cache_jwk_set=False)
    return KeySet(lambda: asyncio.to_thread(client.fetch_data))


def _from_file(path: Path) -> Mapping[str, Any]:
    document: Mapping[str, Any] = json.loads(path.read_text())
    return document


def _read(document: Mapping[str, Any]) -> dict[str | None, jwt.PyJWK]:
    """Keys by id; None for the only one.

    Raises:
        jwt.PyJWTError: no usable key is in there.
    """
    found = [
        key
        for key in jwt.PyJWKSet.from_dict(dict(document)).keys
        if key.algorithm_name in ALGORITHMS and key.public_key_use in {"sig", None}
    ]
    keys: dict[str | None, jwt.PyJWK] = {key.key_id: key for key in found}
    if not keys:
        raise jwt.InvalidKeyError(f"the JWKS holds no {', '.join(ALGORITHMS)} key for signatures")
    if len(found) == 1:
        keys[None] = found[0]
    else:
        keys.pop(None, None)
    return keys
