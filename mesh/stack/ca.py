"""The development CA of a stack, its services' certificates, and the edges' key for assertions.

For one machine and its tests. On a cluster cert-manager or SPIRE does this (docs/security.md).
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from mesh.assertion import public_jwk
from mesh.tls import PREFIX, Tls

CA_LIFE = timedelta(days=3650)
LIFE = timedelta(days=365)
"""Of a service's certificate; every start of a stack makes new ones."""

SKEW = timedelta(minutes=5)

OPERATOR = "operator"
"""The name of who looks after a stack, and of its tests: may ask for health, and call nothing."""

HERE = (x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1")))
"""By which a service on this machine is called whose logical name no resolver knows."""

SigningKey = ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Authority:
    """A CA in a directory; made there when it is first asked for."""

    directory: Path

    @property
    def certificate(self) -> Path:
        """The CA's own certificate."""
        return self.directory / "ca.pem"

    def certificate_of(self, service: str) -> Path:
        """Where a service's certificate is."""
        return self.directory / f"{service}.pem"

    def key_of(self, service: str) -> Path:
        """Where the key to it is."""
        return self.directory / f"{service}.key"

    def tls_of(self, service: str) -> Tls:
        """A service's certificates, as the service itself reads them."""
        return Tls(self.certificate, self.certificate_of(service), self.key_of(service))

    def environment(self, service: str) -> dict[str, str]:
        """The settings that tell a service its certificates."""
        return {
            "TLS_CA": str(self.certificate),
            "TLS_CERT": str(self.certificate_of(service)),
            "TLS_KEY": str(self.key_of(service)),
        }

    def issue(
        self, services: Iterable[str], *, life: timedelta = LIFE, places: Sequence[x509.GeneralName] = ()
    ) -> None:
        """Gives each service a new key and certificate; running processes take them up by themselves.

        Args:
            services: their logical names.
            life: how long a certificate is good for.
            places: names of hosts that they are called by as well.
        """
        now = datetime.now(UTC)
        for service in services:
            key = ec.generate_private_key(ec.SECP256R1())
            names = [x509.DNSName(service), *places, x509.UniformResourceIdentifier(PREFIX + service)]
            certificate = (
                _builder(service, self._root.subject, key, now, life)
                .add_extension(x509.SubjectAlternativeName(names), critical=False)
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .sign(self._root_key, hashes.SHA256())
            )
            write_secret(self.key_of(service), _pem(key))
            write_secret(self.certificate_of(service), certificate.public_bytes(Encoding.PEM))

    @cached_property
    def _root_key(self) -> SigningKey:
        path = self.directory / "ca.key"
        if not path.exists():
            write_secret(path, _pem(ec.generate_private_key(ec.SECP256R1())))
        key = load_pem_private_key(path.read_bytes(), None)
        assert isinstance(key, SigningKey)  # noqa: S101  # we made it
        return key

    @cached_property
    def _root(self) -> x509.Certificate:
        if not self.certificate.exists():
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "messenger development CA")])
            certificate = (
                _builder("messenger development CA", name, self._root_key, datetime.now(UTC), CA_LIFE)
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .sign(self._root_key, hashes.SHA256())
            )
            write_secret(self.certificate, certificate.public_bytes(Encoding.PEM))
        return x509.load_pem_x509_certificate(self.certificate.read_bytes())


def make_assertion_keys(signing: Path, public: Path) -> None:
    """Makes the edges' key and the JWKS by which the others know it, where there are none yet."""
    if not signing.exists():
        write_secret(signing, _pem(Ed25519PrivateKey.generate()))
    key = load_pem_private_key(signing.read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)  # noqa: S101  # we made it
    write_secret(public, json.dumps({"keys": [public_jwk(key.public_key())]}).encode())


def write_secret(path: Path, content: bytes) -> None:
    """Writes a file for its owner alone, all of it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    fresh.replace(path)


def _builder(
    name: str, issuer: x509.Name, key: SigningKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + life)
    )


def _pem(key: SigningKey | Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
