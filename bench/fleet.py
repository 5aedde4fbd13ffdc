"""Processes that make load: each runs one driver on a loop of its own and does what the parent tells it."""

import asyncio
import multiprocessing
import resource
import signal
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

import psutil
import uvloop

ANSWER_S = 300.0
"""Seconds that a driver may take for one command."""

Make = Callable[..., Any]
"""Makes a driver, inside its process: an object whose coroutine methods are the commands."""


class Fleet:
    """Drivers in processes of their own; they end with the context, and with the parent in any case.

    Args:
        make: the driver's class.
        shares: what each process's driver is made with.
    """

    def __init__(self, make: Make, shares: Sequence[tuple[Any, ...]]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for share in shares:
            here, there = spawn.Pipe()
            process = spawn.Process(target=_serve, args=(there, make, share), daemon=True)
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: object, _at: TracebackType | None) -> None:
        for pipe in self._pipes:
            pipe.close()  # which ends the process
        for process in self._processes:
            process.join(5)
            process.kill()
            process.join()

    def __len__(self) -> int:
        return len(self._pipes)

    def seconds(self) -> float:
        """Processor time that the drivers have used."""
        return sum(sum(psutil.Process(process.pid).cpu_times()[:2]) for process in self._processes)

    def each(self, command: str, *arguments: Any) -> list[Any]:
        """Every driver's answer to a command; they work on it side by side.

        Raises:
            RuntimeError: a driver failed; the text is its traceback.
        """
        return self.each_with(command, [arguments] * len(self))

    def each_with(self, command: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The same, with arguments of each driver's own."""
        for pipe, of_one in zip(self._pipes, arguments, strict=True):
            pipe.send((command, of_one))
        return [self._answer(pipe, command) for pipe in self._pipes]

    def _answer(self, pipe: Connection, command: str) -> Any:
        if not pipe.poll(ANSWER_S):
            raise RuntimeError(f"A load generator did not finish {command!r} in {ANSWER_S:.0f} s.")
        try:
            good, answer = pipe.recv()
        except EOFError:
            raise RuntimeError(f"A load generator died at {command!r}.") from None
        if not good:
            raise RuntimeError(f"A load generator failed at {command!r}:\n{answer}")
        return answer


def _serve(pipe: Connection, make: Make, share: tuple[Any, ...]) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C, and closes the pipe
    uvloop.run(_obey(pipe, make, share))


async def _obey(pipe: Connection, make: Make, share: tuple[Any, ...]) -> None:
    driver = make(*share)
    while True:
        try:
            # In a thread: a loop would make the pipe non-blocking, and long answers then break off.
            command, arguments = await asyncio.to_thread(pipe.recv)
        except EOFError:
            return
        pipe.send(await _outcome(driver, command, arguments))


async def _outcome(driver: Any, command: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return True, await getattr(driver, command)(*arguments)
    except Exception:
        return False, traceback.format_exc()
