"""What files hold, read again when they change: keys and certificates are exchanged while processes run."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger()

T = TypeVar("T")

EVERY = 1.0
"""Seconds between two looks at the files; a look costs a stat a file."""


class Watched(Generic[T]):
    """A value made from files.

    Files that do not fit together, as halfway through an exchange, leave the value as it was.
    May be asked from any thread.

    Args:
        paths: the files.
        parse: their contents, in order, to the value; raises ValueError where they are not usable.
        every: seconds that may pass until a change is seen.

    Raises:
        OSError, ValueError: the files are missing or not usable at the very start.
    """

    def __init__(
        self, paths: Sequence[Path], parse: Callable[[Sequence[bytes]], T], *, every: float = EVERY
    ) -> None:
        self._paths = tuple(paths)
        self._parse = parse
        self._every = every
        self._looked = time.monotonic()
        self._stamp = self._look()
        self._value = self._read()

    @property
    def value(self) -> T:
        """The value; the very same object until the files change."""
        now = time.monotonic()
        if now - self._looked >= self._every:
            self._looked = now
            self._refresh()
        return self._value

    def refresh(self) -> T:
        """The value, after a look at the files right now."""
        self._refresh()
        return self._value

    def _refresh(self) -> None:
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self._value = self._read()
        except (OSError, ValueError) as error:
            log.warning(
                "files are not usable; what they held before stays", files=self._names, cause=str(error)
            )
        else:
            log.info("files were read again", files=self._names)

    @property
    def _names(self) -> list[str]:
        return [str(path) for path in self._paths]

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        stats = (path.stat() for path in self._paths)
        return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)

    def _read(self) -> T:
        return self._parse([path.read_bytes() for path in self._paths])
