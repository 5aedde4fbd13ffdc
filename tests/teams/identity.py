"""Example: how a process outside our own code proves to the mesh which service it is, and knows the others.

Ordinary gRPC. The environment names PEM files: `python -m mesh guest NAME` prints it for a laptop.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import grpc


def server_credentials(environment: Mapping[str, str] = os.environ) -> grpc.ServerCredentials:
    """For a server's port: who has no certificate of the mesh does not get in."""
    ca, certificate, key = _material(environment)
    return grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=True)


def listen(server: grpc.Server, address: str, credentials: grpc.ServerCredentials | None) -> None:
    """Opens the server's port; in the open where there are no credentials, as in a team's own tests."""
    if credentials is None:
        server.add_insecure_port(address)
    else:
        server.add_secure_port(address, credentials)


def channel_credentials(environment: Mapping[str, str] = os.environ) -> grpc.ChannelCredentials:
    """For calls: the other side learns our name, and we check its."""
    ca, certificate, key = _material(environment)
    return grpc.ssl_channel_credentials(ca, key, certificate)


def channel(address: str, service: str, credentials: grpc.ChannelCredentials) -> grpc.Channel:
    """To a service of the mesh, which must have a certificate of that name."""
    return grpc.secure_channel(address, credentials, (("grpc.ssl_target_name_override", service),))


def _material(environment: Mapping[str, str]) -> tuple[bytes, bytes, bytes]:
    ca, certificate, key = (
        Path(environment[name]).read_bytes() for name in ("TLS_CA", "TLS_CERT", "TLS_KEY")
    )
    return ca, certificate, key
