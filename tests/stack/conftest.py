"""A small stack for tests of the stack itself: its only servers are Redis, the others are said to exist."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.stack import Stack, StackSettings, ports


@pytest.fixture
def small_settings(tmp_path: Path) -> Iterator[StackSettings]:
    """Settings of a stack on ports of its own, whose servers are two Redis nodes."""
    block = ports.reserve_block()
    with block.guard:
        yield StackSettings(
            stack_dir=tmp_path / "stack",
            stack_port_base=block.base,
            messenger_port=block.base + 90,
            mongo_shards=("mongodb://elsewhere",),
            amqp_url="amqp://elsewhere",
        )


@pytest.fixture
def small(small_settings: StackSettings) -> Iterator[Stack]:
    """The small stack, not started; stopped at the end in any case."""
    stack = Stack(small_settings)
    yield stack
    stack.down()
