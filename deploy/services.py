"""The mesh as the code sees it: each service's settings say what it listens on and whom it calls.

Manifests are held against this (tests/deploy), and their ConfigMaps are made from it (generate.py).
"""

from collections.abc import Mapping
from typing import Any

import aggregator.settings
import antispam.settings
import dbapi.settings
import dbstore.settings
import edge.settings
from mesh.settings import CommonSettings

SERVICES: Mapping[str, type[CommonSettings]] = {
    "aggregator": aggregator.settings.Settings,
    "antispam": antispam.settings.Settings,
    "dbapi": dbapi.settings.Settings,
    "dbstore": dbstore.settings.Settings,
    "edge": edge.settings.Settings,
}

GRPC_PORT = 9000

ON_CLUSTER: Mapping[str, str] = {
    "listen": f"0.0.0.0:{GRPC_PORT}",
    "ws_listen": "0.0.0.0:9001",
    "http_listen": "0.0.0.0:9002",
    "metrics_listen": "0.0.0.0:9003",
    "aggregator_address": f"dns:///aggregator:{GRPC_PORT}",
    "dbapi_address": f"dns:///dbapi:{GRPC_PORT}",
    # Who is in front has an address of the cluster's; on a laptop all clients have one address.
    "trusted_proxies": "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 fc00::/7 127.0.0.0/8 ::1/128",
    "address_connections": "1000",
    "address_handshakes": "50.0",
    "address_failures": "10.0",
    "user_sessions": "100",
}
"""Settings that have another value on every cluster than on a laptop."""

SECRETS: Mapping[str, str] = {
    "amqp_url": "messenger-amqp",
    "jwt_secret": "messenger-jwt",
    "mongo_shards": "messenger-mongo",
    "redis_urls": "messenger-redis",
}
"""Settings that hold passwords, and the Secret of each; its key is the variable's name."""

SERVERS: Mapping[str, str] = {"amqp_url": "amqp", "mongo_shards": "mongo", "redis_urls": "redis"}
"""The server that a setting leads to."""


def environment(service: str) -> dict[str, str]:
    """Every variable of a service but its secrets, with its value on a cluster."""
    fields = SERVICES[service].model_fields
    return {
        name.upper(): ON_CLUSTER.get(name, _text(field.default))
        for name, field in fields.items()
        if name not in SECRETS
    }


def secrets(service: str) -> dict[str, str]:
    """The secret variables of a service, and the Secret of each."""
    return {name.upper(): SECRETS[name] for name in SERVICES[service].model_fields if name in SECRETS}


def ports(service: str) -> dict[str, int]:
    """The ports of a service: `grpc`, and what else its settings name `…_listen`."""
    named = {
        name: name.removesuffix("listen").rstrip("_") or "grpc" for name in SERVICES[service].model_fields
    }
    return {
        port: int(ON_CLUSTER[name].rpartition(":")[2])
        for name, port in named.items()
        if name.endswith("listen") and name in ON_CLUSTER
    }


def callees(service: str) -> set[str]:
    """The services that a service calls over gRPC: those that its `…_address` settings name."""
    addresses = (
        ON_CLUSTER.get(name, "") for name in SERVICES[service].model_fields if name.endswith("_address")
    )
    return {address.removeprefix("dns:///").partition(":")[0] for address in addresses if address}


def servers(service: str) -> set[str]:
    """The servers that a service uses: `amqp`, `mongo`, `redis`."""
    return {SERVERS[name] for name in SERVICES[service].model_fields if name in SERVERS}


def _text(value: Any) -> str:  # a field's default may be anything
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
