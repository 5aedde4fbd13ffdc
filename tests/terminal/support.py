"""One person's terminal, as its reader sees it: by what stands on the screen."""

import asyncio
from collections.abc import Awaitable, Callable

from textual.pilot import Pilot
from textual.widget import Widget

from edge.terminal.app import ChatApp
from edge.terminal.composer import Composer
from edge.tracking import Backoff
from tests.contract.device import PATIENCE

QUICK = Backoff(first=0.02, most=0.1)
WIDE = 100, 30

OpenTerminal = Callable[..., Awaitable["Terminal"]]
"""Opens the chat of a user: `await terminal(user_id)`, with `peer`, `url`, `size`."""


class Terminal:
    """The chat on a screen that nobody draws.

    Attributes:
        app: the chat.
    """

    def __init__(self, app: ChatApp) -> None:
        self.app = app
        self._pilot: Pilot[None]
        self._open = asyncio.Event()
        self._over = asyncio.Event()

    async def start(self, size: tuple[int, int]) -> None:
        """Runs the app, in a task of its own: its context variables are nobody else's."""
        self._task = asyncio.create_task(self._run(size))
        opened = asyncio.create_task(self._open.wait())
        await asyncio.wait((self._task, opened), return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            await self._task

    async def _run(self, size: tuple[int, int]) -> None:
        async with self.app.run_test(size=size, notifications=True) as self._pilot:
            self._open.set()
            await self._over.wait()

    async def close(self) -> None:
        """Ends it, and raises what went wrong in it."""
        self._over.set()
        await self._task

    @property
    def screen(self) -> str:
        """All that stands there, line by line."""
        with self.app._context():
            return "\n".join(strip.text for strip in self.app.screen._compositor.render_strips())

    async def press(self, *keys: str) -> None:
        """Presses keys."""
        with self.app._context():
            await self._pilot.press(*keys)

    def focus(self, view: type[Widget]) -> None:
        """Turns to a view."""
        with self.app._context():
            self.app.query_one(view).focus()

    @property
    def field(self) -> str:
        """What stands in the field in which one writes."""
        return self.app.query_one(Composer).text

    def fill(self, text: str) -> None:
        """Puts a text into that field, as pasting does."""
        with self.app._context():
            self.app.query_one(Composer).write(text)

    async def type(self, text: str) -> None:
        """Types a text."""
        await self.press(*("space" if letter == " " else letter for letter in text))

    async def say(self, text: str) -> None:
        """Types a text and enters it."""
        await self.type(text)
        await self.press("enter")

    async def until(self, true: Callable[[], object], what: str = "") -> None:
        """Waits for something that the screen or the app shows."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not self._is(true):  # noqa: ASYNC110  # a screen has no event
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"never came: {what}\n{self.screen}") from None

    def _is(self, true: Callable[[], object]) -> object:
        with self.app._context():
            return true()

    async def shows(self, *texts: str) -> None:
        """Waits until all of these stand on the screen."""
        await self.until(lambda: all(text in self.screen for text in texts), " and ".join(texts))

    async def hides(self, text: str) -> None:
        """Waits until this stands there no more."""
        await self.until(lambda: text not in self.screen, f"anything but {text}")

    def line_of(self, text: str) -> str:
        """The line on which a text stands."""
        return next((line for line in self.screen.splitlines() if text in line), "")
