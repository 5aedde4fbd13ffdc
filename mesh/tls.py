"""Mutual TLS between services: each proves its logical name by a certificate of the mesh's own CA.

The name is the certificate's SPIFFE id, `spiffe://messenger/<service>`; what a name may call is access.py's
business. Source: https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mesh.watched import Watched

PREFIX = "spiffe://messenger/"


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """PEM texts that belong together."""

    ca: bytes
    certificate: bytes
    key: bytes


class Tls:
    """A process's certificate, and the CA by which it knows the others. Exchanged files count by themselves.

    A connection keeps the certificate that it began with; servers end connections after some minutes.

    Args:
        ca: PEM file of the CA's certificates; several while one follows the other.
        certificate: PEM file of the chain, the process's own first.
        key: PEM file of its private key.

    Raises:
        OSError, ValueError: a file is missing, or they do not belong together.
    """

    def __init__(self, ca: Path, certificate: Path, key: Path) -> None:
        self._files = Watched((ca, certificate, key), _parse)

    @property
    def material(self) -> Material:
        """What the files hold; the very same object until they change."""
        return self._files.value

    def server_credentials(self) -> grpc.ServerCredentials:
        """For one port. Clients must show a certificate; each handshake gets what the files hold then."""
        served = self._files.refresh()

        def exchanged() -> grpc.ServerCertificateConfiguration | None:
            nonlocal served
            if (latest := self._files.refresh()) is served:
                return None
            served = latest
            return _configuration(latest)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(served), exchanged, require_client_authentication=True
        )


def channel_credentials(material: Material) -> grpc.ChannelCredentials:
    """For a channel; Python's gRPC reads them once, so a channel lives as long as its material."""
    return grpc.ssl_channel_credentials(material.ca, material.key, material.certificate)


def peer_of(auth_context: Mapping[str, Iterable[bytes]]) -> str:
    """The logical name of the service at the other end; empty where no certificate says one."""
    for identity in auth_context.get("peer_spiffe_id", ()):
        name = identity.decode()
        if name.startswith(PREFIX):
            return name.removeprefix(PREFIX)
    return ""


def _configuration(material: Material) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(material.key, material.certificate)], material.ca)


def _parse(texts: Sequence[bytes]) -> Material:
    material = Material(*texts)
    x509.load_pem_x509_certificates(material.ca)
    certificate = x509.load_pem_x509_certificates(material.certificate)[0]
    if load_pem_private_key(material.key, None).public_key() != certificate.public_key():
        raise ValueError("TLS_KEY is not the key of the certificate in TLS_CERT")
    return material
