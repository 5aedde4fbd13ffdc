"""TCP ports of this machine's loopback: which are taken, and which block is free."""

import itertools
import os
import random
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mesh.stack.errors import StackError

BLOCK = 100
# Below the ports that Linux hands out to outgoing connections (ip_local_port_range), beside the default base.
TEST_BLOCKS = range(22000, 32000, BLOCK)


def taken(port: int) -> bool:
    """Whether somebody listens on this port; one that only lingers (TIME_WAIT) is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def require_free(wanted: Iterable[tuple[str, int, str]]) -> None:
    """Checks ports before anything is started.

    Args:
        wanted: program, port, and the setting that moves the port.

    Raises:
        StackError: names each port that is taken, its program and the cure.
    """
    lines = [
        f"Port {port} is taken, {program} needs it. "
        f"See who has it: ss -ltnp 'sport = :{port}'. Stop that, or choose another: {setting}"
        for program, port, setting in wanted
        if taken(port)
    ]
    if lines:
        raise StackError("\n".join(lines))


@dataclass(frozen=True, slots=True, kw_only=True)
class PortBlock:
    """A block of free ports; nobody else who asks here gets it while `guard` is open."""

    base: int
    guard: socket.socket


def reserve_block(blocks: Sequence[int] = TEST_BLOCKS) -> PortBlock:
    """Finds BLOCK free ports in a row and holds the last one as the sign that they are given away.

    Raises:
        StackError: no block is free.
    """
    # Not the first one first: two that start at once would probe the same ports.
    start = random.Random(os.getpid()).randrange(len(blocks))  # noqa: S311 - no secret
    for base in itertools.chain(blocks[start:], blocks[:start]):
        guard = socket.socket()
        try:
            guard.bind(("127.0.0.1", base + BLOCK - 1))
            guard.listen()
        except OSError:
            guard.close()
            continue
        if not any(taken(port) for port in range(base, base + BLOCK - 1)):
            return PortBlock(base=base, guard=guard)
        guard.close()
    raise StackError(f"No {BLOCK} free ports in a row between {blocks[0]} and {blocks[-1]}; stop old stacks.")
