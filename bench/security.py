"""What certificates and assertions cost a call: CPU of client and server together, in one process.

Run: python -m bench.security
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from dbapi.directory import ProfilesService
from mesh import call
from mesh.assertion import Signer, Verifier
from mesh.channel import Channel, nobody
from mesh.server import Security, Server
from mesh.stack.ca import Authority, make_assertion_keys
from messenger.profiles.v1 import profiles_pb2, profiles_pb2_grpc

CALLS = 500
ROUNDS = 30
REQUEST = profiles_pb2.BatchGetProfilesRequest(user_ids=["alice"])


class Way:
    """A server and a client of it.

    Args:
        title: how they know each other.
        security: the server's; the client has the same certificate.
        signer: vouches for the users, where that is part of it.
    """

    def __init__(self, title: str, security: Security, signer: Signer | None = None) -> None:
        self.title = title
        self.best = float("inf")
        self._security = security
        self._assertion = signer.current if signer else nobody

    async def open(self, stack: AsyncExitStack) -> None:
        """Starts both."""
        server = Server("127.0.0.1:0", security=self._security)
        server.add(profiles_pb2_grpc.add_ProfilesServiceServicer_to_server, ProfilesService())
        await server.start()
        stack.push_async_callback(server.stop, 0)
        await server.set_serving(True)
        channel = Channel(server.address, service="dbapi", tls=self._security.tls, assertion=self._assertion)
        self._stub = profiles_pb2_grpc.ProfilesServiceStub(await stack.enter_async_context(channel))

    async def round(self) -> None:
        """Many calls of many users; keeps the microseconds of CPU a call of the best round."""
        began = time.process_time()
        for number in range(CALLS):
            with call.within(call.Call(user_id=f"user-{number % 100}")):
                await self._stub.BatchGetProfiles(REQUEST)
        self.best = min(self.best, (time.process_time() - began) / CALLS * 1e6)


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
        ways = (
            Way("plaintext", Security()),
            Way("assertions", Security(verifier=verifier), signer),
            Way("mutual TLS, allow-list", Security(tls=tls, extra_callers=extra)),
            Way("all of it", Security(tls=tls, extra_callers=extra, verifier=verifier), signer),
        )
        async with AsyncExitStack() as stack:
            for way in ways:
                await way.open(stack)
            for _ in range(ROUNDS):  # by turns, so that a busy machine is fair to all
                for way in ways:
                    await way.round()
        for way in ways:
            print(f"{way.best:8.0f} µs CPU a call  {way.title}")  # noqa: T201

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
