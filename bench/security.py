"""What certificates and assertions cost a call: CPU of client and server together, in one process.

Run: python -m bench.security
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from dbapi.directory import ProfilesService
from mesh import call
from mesh.assertion import Signer, Verifier
from mesh.channel import Channel, nobody
from mesh.server import Security, Server
from mesh.stack.ca import Authority, make_assertion_keys
from messenger.profiles.v1 import profiles_pb2, profiles_pb2_grpc

CALLS = 2_000
ROUNDS = 5
REQUEST = profiles_pb2.BatchGetProfilesRequest(user_ids=["alice"])


async def cpu_a_call(security: Security, signer: Signer | None) -> float:
    """Microseconds of CPU of one call; the best of some rounds."""
    server = Server("127.0.0.1:0", security=security)
    server.add(profiles_pb2_grpc.add_ProfilesServiceServicer_to_server, ProfilesService())
    await server.start()
    await server.set_serving(True)
    assertion = signer.current if signer else nobody
    best = float("inf")
    async with Channel(server.address, service="dbapi", tls=security.tls, assertion=assertion) as channel:
        stub = profiles_pb2_grpc.ProfilesServiceStub(channel)
        for _ in range(ROUNDS):
            began = time.process_time()
            for number in range(CALLS):
                with call.within(call.Call(user_id=f"user-{number % 100}")):
                    await stub.BatchGetProfiles(REQUEST)
            best = min(best, (time.process_time() - began) / CALLS * 1e6)
    await server.stop(0)
    return best


def cpu_of(work: Callable[[], object], times: int) -> float:
    """Microseconds of CPU of one piece of work."""
    began = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - began) / times * 1e6


async def main() -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        authority = Authority(directory)
        authority.issue(["dbapi"])
        make_assertion_keys(directory / "assertion.key", directory / "assertions.json")
        signer, verifier = Signer(directory / "assertion.key"), Verifier(directory / "assertions.json")
        tls = authority.tls_of("dbapi")  # of both sides
        extra = ("dbapi=messenger.profiles.v1.ProfilesService",)
        plain, proven = Security(), Security(verifier=verifier)
        for title, security, hand in (
            ("plaintext", plain, None),
            ("assertions", proven, signer),
            ("mutual TLS, allow-list", Security(tls=tls, extra_callers=extra), None),
            ("all of it", Security(tls=tls, extra_callers=extra, verifier=verifier), signer),
        ):
            print(f"{await cpu_a_call(security, hand):8.0f} µs CPU a call  {title}")  # noqa: T201

        signed = [signer.sign(f"user-{number}") for number in range(300)]
        for title, cost in (
            ("sign an assertion, once in 150 s a user", cpu_of(lambda: signer.sign("alice"), 300)),
            ("verify one, once in 300 s a user", _verify_all(verifier, signed)),
            ("look one up", cpu_of(lambda: verifier.user_of("", signed[0]), 20_000)),
        ):
            print(f"{cost:8.1f} µs CPU         {title}")  # noqa: T201


def _verify_all(verifier: Verifier, signed: list[str]) -> float:
    fresh = iter(signed)
    return cpu_of(lambda: verifier.user_of("", next(fresh)), len(signed))


if __name__ == "__main__":
    uvloop.run(main())
