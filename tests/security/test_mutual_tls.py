"""Certificates between services, on real sockets."""

import asyncio
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2

from dbapi.directory import ProfilesService
from mesh.channel import Channel
from mesh.errors import PermissionDenied, Unavailable, Unimplemented
from mesh.server import Server
from mesh.settings import CommonSettings
from mesh.stack.ca import Authority
from mesh.tls import Material, Tls
from messenger.profiles.v1 import profiles_pb2, profiles_pb2_grpc

MakeTls = Callable[[str], Tls]
REQUEST = profiles_pb2.BatchGetProfilesRequest(user_ids=["maria-lopez"])
PROFILES = (profiles_pb2_grpc.add_ProfilesServiceServicer_to_server, ProfilesService())


async def names(channel: Channel) -> list[str]:
    """Asks the server behind a channel."""
    stub = profiles_pb2_grpc.ProfilesServiceStub(channel)
    return [profile.name for profile in (await stub.BatchGetProfiles(REQUEST, timeout=5)).profiles]


def shown_by(server: Server) -> int:
    """Serial number of the certificate that a server shows now."""
    host, _, port = server.address.partition(":")
    return x509.load_pem_x509_certificate(
        ssl.get_server_certificate((host, int(port))).encode()
    ).serial_number


async def exchanged(tls: Tls, before: Material) -> None:
    """Waits until a process has seen its new files, as calls look at them."""
    async with asyncio.timeout(5):
        while tls.material is before:  # noqa: ASYNC110  # files have no event to wait for
            await asyncio.sleep(0.05)


async def health(channel: Channel) -> int:
    """The state of the server behind a channel."""
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    status: int = (await check(health_pb2.HealthCheckRequest(), timeout=5)).status
    return status


async def test_both_sides_prove_their_names(serve: Any, dial: Any, tls: MakeTls) -> None:
    """A call goes through between two services with certificates of the same CA."""
    server = await serve(*PROFILES, tls=tls("dbapi"))
    assert await names(await dial(server, "dbapi", tls=tls("aggregator"))) == ["Maria Lopez"]


async def test_no_certificate_no_call(serve: Any, dial: Any, tls: MakeTls) -> None:
    """Who shows no certificate, or speaks plaintext, is not let in."""
    server = await serve(*PROFILES, tls=tls("dbapi"))
    with pytest.raises(Unavailable):
        await names(await dial(server, "dbapi"))


async def test_another_ca_is_nobody(serve: Any, dial: Any, tls: MakeTls, tmp_path: Path) -> None:
    """A certificate with the right name of somebody else's CA does not open a connection."""
    other = Authority(tmp_path / "other")
    other.issue(["aggregator"])
    server = await serve(*PROFILES, tls=tls("dbapi"))
    for ca in (Authority(tmp_path / "tls").certificate, other.certificate):
        stranger = Tls(ca, other.certificate_of("aggregator"), other.key_of("aggregator"))
        with pytest.raises(Unavailable):
            await names(await dial(server, "dbapi", tls=stranger))


async def test_a_server_with_another_name_is_not_called(serve: Any, dial: Any, tls: MakeTls) -> None:
    """A process of the mesh that stands where dbapi should gets no call, though its certificate is good."""
    impostor = await serve(*PROFILES, tls=tls("antispam"))
    with pytest.raises(Unavailable):
        await names(await dial(impostor, "dbapi", tls=tls("aggregator")))


async def test_an_expired_certificate_is_refused(
    serve: Any, dial: Any, tls: MakeTls, authority: Authority
) -> None:
    """A certificate that is over does not open a connection."""
    server = await serve(*PROFILES, tls=tls("dbapi"))
    authority.issue(["aggregator"], life=timedelta(minutes=-1))
    over = Tls(authority.certificate, authority.certificate_of("aggregator"), authority.key_of("aggregator"))
    with pytest.raises(Unavailable):
        await names(await dial(server, "dbapi", tls=over))


async def test_certificates_are_exchanged_under_running_processes(
    serve: Any, dial: Any, tls: MakeTls, authority: Authority
) -> None:
    """New files count for a running server's next handshake and for a running client's next calls."""
    client = tls("aggregator")
    server = await serve(*PROFILES, tls=tls("dbapi"))
    channel = await dial(server, "dbapi", tls=client)
    assert await names(channel)
    before = await asyncio.to_thread(shown_by, server)

    authority.issue(["dbapi", "aggregator"])

    after = await asyncio.to_thread(shown_by, server)
    issued = x509.load_pem_x509_certificate(authority.certificate_of("dbapi").read_bytes()).serial_number
    assert (before != after, after) == (True, issued)
    connection, seen = channel._current(), client.material
    await exchanged(client, seen)
    assert await names(channel)
    assert channel._current() is not connection


async def test_a_whole_new_ca(serve: Any, dial: Any, tls: MakeTls, tmp_path: Path) -> None:
    """Server and client move to another CA without a restart; then the old one's names are nobody's."""
    old_client, client = tls("old"), tls("aggregator")
    server = await serve(*PROFILES, tls=tls("dbapi"))
    channel = await dial(server, "dbapi", tls=client)
    assert await names(channel)

    other = Authority(tmp_path / "other")
    other.issue(["dbapi", "aggregator"])
    seen = client.material
    for path in other.directory.glob("*"):
        path.rename(tmp_path / "tls" / path.name)

    await exchanged(client, seen)
    assert await names(channel)
    with pytest.raises(Unavailable):
        await names(await dial(server, "dbapi", tls=old_client))


async def test_half_an_exchange_changes_nothing(tls: MakeTls, authority: Authority) -> None:
    """A certificate without its key, as in the middle of an exchange, is not taken up; with it, it is."""
    held = tls("dbapi")
    before, key = held.material, authority.key_of("dbapi").read_bytes()
    authority.issue(["dbapi"])
    new_key = authority.key_of("dbapi").read_bytes()
    authority.key_of("dbapi").write_bytes(key)
    assert held._files.refresh() is before
    authority.key_of("dbapi").write_bytes(new_key)
    assert held._files.refresh().key == new_key


async def test_probes_need_no_certificate_and_get_health_alone(serve: Any, dial: Any, tls: MakeTls) -> None:
    """The plaintext address for probes answers health, and knows no other service."""
    server = await serve(*PROFILES, tls=tls("dbapi"), plain_health="127.0.0.1:0")
    probe = await dial(server.probe_address)
    assert await health(probe) == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(Unimplemented):
        await names(probe)


async def test_health_is_open_to_the_mesh(serve: Any, dial: Any, tls: MakeTls) -> None:
    """A service that may call nothing here may still ask whether the server lives."""
    server = await serve(*PROFILES, tls=tls("dbapi"))
    channel = await dial(server, "dbapi", tls=tls("antispam"))
    assert await health(channel) == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(PermissionDenied):
        await names(channel)


async def test_unix_sockets_speak_tls_too(serve: Any, dial: Any, tls: MakeTls, tmp_path: Path) -> None:
    """With certificates a unix socket asks for them as well."""
    server = await serve(*PROFILES, tls=tls("dbapi"), listen=f"unix:{tmp_path}/s")
    assert await names(await dial(server, "dbapi", tls=tls("aggregator"))) == ["Maria Lopez"]
    with pytest.raises(Unavailable):
        await names(await dial(server))


def test_half_of_the_settings_is_refused(tmp_path: Path) -> None:
    """A process that was told a certificate and no CA does not start in plaintext."""
    with pytest.raises(ValueError, match="TLS_CA, TLS_CERT and TLS_KEY"):
        CommonSettings(tls_cert=tmp_path, tls_key=tmp_path)
