"""Configuration texts of the servers; what differs between two stacks is filled in by plan.py."""

import json
import os
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256

RABBITMQ_CONF = """\
load_definitions = {definitions}
log.console.level = info
# The write-ahead log of quorum queues: as much memory and disk as it is long.
raft.wal_max_size_bytes = 67108864
disk_free_limit.absolute = 50MB
"""

# What has waited on a rung of the retry ladder, or for antispam, goes on from queue to queue inside the
# broker. Where the next queue was full or lost its leader meanwhile, it is sent again after so many ms; after
# three minutes, were nothing said. What comes twice by it is stored once.
RABBITMQ_ADVANCED = "[{rabbit, [{dead_letter_worker_publisher_confirm_timeout, 5000}]}].\n"


def rabbitmq(nodes: Iterable[str], definitions: str) -> str:
    """RabbitMQ's configuration; several nodes find each other by it.

    Args:
        nodes: their names.
        definitions: path of the file that says who may come in.
    """
    names = list(nodes)
    alone = RABBITMQ_CONF.format(definitions=definitions)
    if len(names) == 1:
        return alone
    peers = (f"cluster_formation.classic_config.nodes.{n} = {name}" for n, name in enumerate(names, start=1))
    return "\n".join(
        (
            alone,
            "cluster_formation.peer_discovery_backend = classic_config",
            *peers,
            # The side with fewer nodes stops taking writes and comes back by itself.
            "cluster_partition_handling = pause_minority",
            "",
        )
    )


def rabbitmq_definitions(user: str, password: str) -> str:
    """Lets one user in, and nobody as guest; read at every start.

    Source: https://www.rabbitmq.com/docs/passwords
    """
    salt = sha256(b"salt" + password.encode()).digest()[:4]  # the same at every start; the password is random
    digest = b64encode(salt + sha256(salt + password.encode()).digest()).decode()
    hashing = {"hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ""}
    everything = {"vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
    return json.dumps(
        {
            "users": [
                {"name": user, "password_hash": digest} | hashing,
                {"name": "guest", "password_hash": ""} | hashing,  # no password is the empty hash's
            ],
            "vhosts": [{"name": "/"}],
            "permissions": [{"user": user} | everything],
        }
    )


# Services read and write data and do not set servers up; CLIENT is for tests, and names connections.
# Nobody comes in as `default`; but Redis reads its append-only file back as that user, and skips in it
# whatever that user may not do.
REDIS_CONF = """\
user default off ~* &* +@all
user {user} on #{digest} ~* &* +@all -@admin +client
"""


def redis(user: str, password: str) -> str:
    """Lets one user in; the file holds the password's digest alone."""
    return REDIS_CONF.format(user=user, digest=sha256(password.encode()).hexdigest())


# Paths are relative to nginx's prefix (-p). A WebSocket stays open as long as the edge wants it: the edge
# pings, so an hour of silence means that it is gone. `least_conn` because sockets live long: after one edge
# was restarted, new ones go there until both hold as many.
NGINX_CONF = """\
daemon off;
pid nginx.pid;
worker_processes auto;
error_log stderr warn;
{user}
events {{
    worker_connections 8192;
}}

http {{
    access_log off;
    server_tokens off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    client_max_body_size 4m;  # the edge has its own limit, and answers as the client contract says
    client_header_timeout {patience}s;
    client_body_timeout {patience}s;
    proxy_request_buffering off;  # or a body that comes byte by byte would be ours: the edge gives it a time

    map $http_upgrade $connection_upgrade {{
        default upgrade;
        ""      "";
    }}

    upstream websocket {{
        least_conn;
        {websocket}
    }}

    upstream http {{
        least_conn;
        {http}
        keepalive 32;
    }}

    proxy_http_version 1.1;
    proxy_connect_timeout 2s;
    proxy_set_header Host $http_host;
    # Set, not added to: the edges count clients by it, and what a client wrote itself is worth nothing.
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;

    server {{
        listen 127.0.0.1:{port} backlog=4096;

        location = /ws {{
            proxy_pass http://websocket;
            proxy_read_timeout 1h;
            proxy_send_timeout 1h;
            proxy_buffering off;
        }}

        location = /events/stream {{
            proxy_pass http://http;
            proxy_read_timeout 1h;
            proxy_buffering off;
        }}

        location / {{
            proxy_pass http://http;
        }}
    }}
}}
"""


def nginx(
    port: int, edges: Iterable[tuple[int, int]], *, root: bool | None = None, patience: int = 15
) -> str:
    """NGINX before the edges.

    Args:
        port: where it listens, on loopback.
        edges: ports of each edge's WebSocket and HTTP listeners.
        root: whether it runs as root, and then stays so: it must reach its own directory.
        patience: seconds that a request's head may take, and each pause in its body.
    """
    pairs = list(edges)
    websocket, http = (
        "\n        ".join(f"server 127.0.0.1:{pair[index]} max_fails=0;" for pair in pairs)
        for index in (0, 1)
    )
    as_root = os.geteuid() == 0 if root is None else root
    return NGINX_CONF.format(
        port=port,
        websocket=websocket,
        http=http,
        user="user root;\n" if as_root else "",
        patience=patience,
    )
