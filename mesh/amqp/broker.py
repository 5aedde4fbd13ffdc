"""What the URL of a broker says.

Source: https://www.rabbitmq.com/docs/uri-spec, https://www.rabbitmq.com/docs/uri-query-parameters
"""

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

PORTS = {"amqp": 5672, "amqps": 5671}


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Where a broker is and how it takes us.

    Attributes:
        host: name or address.
        port: by default the scheme's.
        user: and `password`: by default guest.
        password: see `user`.
        vhost: virtual host; by default "/".
        tls: None for a plain connection.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    vhost: str
    tls: ssl.SSLContext | None

    @classmethod
    def of(cls, url: str) -> Self:
        """What amqp://user:password@host:port/vhost says.

        amqps:// takes `cafile`, `capath`, `cadata` (base64), `certfile`, `keyfile`, and `no_verify_ssl=1`.
        """
        parts = urlsplit(url)
        return cls(
            host=parts.hostname or "localhost",
            port=parts.port or PORTS[parts.scheme],
            user=unquote(parts.username or "guest"),
            password=unquote(parts.password or "guest"),
            vhost=unquote(parts.path[1:]) or "/",
            tls=_tls({key: values[0] for key, values in parse_qs(parts.query).items()})
            if parts.scheme == "amqps"
            else None,
        )


def _tls(query: Mapping[str, str]) -> ssl.SSLContext:
    data = query.get("cadata")
    context = ssl.create_default_context(
        cafile=query.get("cafile"),
        capath=query.get("capath"),
        cadata=base64.b64decode(data) if data else None,
    )
    if certificate := query.get("certfile"):
        context.load_cert_chain(certificate, query.get("keyfile"))
    if query.get("no_verify_ssl", "0") != "0":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
