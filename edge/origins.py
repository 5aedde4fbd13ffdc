"""Which web pages may open a WebSocket, pure: browsers apply no same-origin policy to them.

Source: RFC 6455, 10.2; RFC 6454.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit


class Origins:
    """The pages that are let in: those of the listed origins, and those of the very host that they talk to.

    Programs that are no browsers send no origin, and are let in. The token decides who somebody is; this only
    keeps foreign pages from using a browser against its user.

    Args:
        listed: origins, `scheme://host[:port]`; `*` lets in every page.
    """

    def __init__(self, listed: Iterable[str]) -> None:
        self._listed = {_normal(origin) for origin in listed}

    def allow(self, origin: str | None, host: str) -> bool:
        """Whether a page may come in.

        Args:
            origin: the Origin header; None where there is none.
            host: the Host header.
        """
        if origin is None or "*" in self._listed or _normal(origin) in self._listed:
            return True
        try:
            parts = urlsplit(origin)
            return parts.scheme in {"http", "https"} and parts.netloc.lower() == host.lower() != ""
        except ValueError:
            return False


def _normal(origin: str) -> str:
    """Scheme, host and port of an origin or URL."""
    return "/".join(origin.lower().split("/")[:3])
