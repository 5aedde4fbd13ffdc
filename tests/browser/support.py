"""One person's browser window, as a reader of the page sees it: by labels and roles."""

import re
import uuid
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from playwright.async_api import ConsoleMessage, Locator, Page, Request, expect

BROWSER_ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


Past = Callable[..., Awaitable[str]]
"""Gives a user a chat with a past: `await past(owner, texts)`, `read=True` where it has been read."""

OpenWindow = Callable[..., Awaitable["Window"]]
"""Opens a window in which a user is signed in: `await window(user_id)`; options are the browser context's.

`beside=other` makes it a tab of the browser in which the other window is.
"""


def somebody(name: str) -> str:
    """A user id that no other test has."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


class Window:
    """A signed-in page; notes everything that a well-behaved page does not do.

    Args:
        page: the browser's page.
        user_id: who is signed in.
        base_url: the messenger's address.
    """

    def __init__(self, page: Page, user_id: str, base_url: str) -> None:
        self.page = page
        self.user_id = user_id
        self.base_url = base_url
        self.misdeeds: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.misdeeds.append(f"uncaught: {error}"))
        page.on("request", self._on_request)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):  # violations of the Content-Security-Policy are errors
            self.misdeeds.append(f"{message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme != "data" and url.netloc != urlsplit(self.base_url).netloc:
            self.misdeeds.append(f"third-party request: {request.url}")

    async def sign_in(self, token: str) -> None:
        """Signs in by the address, as a link with a token does."""
        await self.page.goto(f"{self.base_url}/#token={token}")
        await expect(self.page.get_by_role("heading", name=self.user_id)).to_be_visible()

    async def start_chat(self, peer_id: str, item_id: str = "") -> None:
        """Opens a new chat by the dialog."""
        await self.page.get_by_role("button", name="New chat").click()
        await self.page.get_by_label("User id").fill(peer_id)
        await self.page.get_by_label("About item").fill(item_id)
        await self.page.get_by_role("button", name="Open chat").click()
        await expect(self.page.get_by_role("dialog")).to_be_hidden()
        await expect(self.page.get_by_role("region", name="Messages")).to_be_visible()

    async def open_chat(self) -> None:
        """Opens the only chat of the list."""
        await self.chat().click()
        await expect(self.page.get_by_role("region", name="Messages")).to_be_visible()

    async def say(self, text: str) -> None:
        """Writes a message and sends it."""
        await self.composer().fill(text)
        await self.page.get_by_role("button", name="Send").click()

    def composer(self) -> Locator:
        """The field for a new message."""
        return self.page.get_by_role("textbox", name="Message")

    def chat(self, about: str = "") -> Locator:
        """The only chat in the list, or the only one with this text."""
        return self.page.get_by_role("navigation", name="Chats").get_by_role("link").filter(has_text=about)

    def unread(self) -> Locator:
        """The unread badge of that chat."""
        return self.chat().locator(".badge")

    def status(self) -> Locator:
        """The line that says what is wrong with the connection."""
        return self.page.locator("#status")

    def messages(self) -> Locator:
        """The conversation's messages, oldest first."""
        return self.page.locator("#log .message")

    def message(self, text: str) -> Locator:
        """The message with exactly this text."""
        exact = re.compile(f"^{re.escape(text)}$")
        return self.messages().filter(has=self.page.locator(".text", has_text=exact))

    def tick(self, text: str, label: str) -> Locator:
        """The mark `Sending`, `Sent`, `Delivered` or `Read` at an own message."""
        return self.message(text).get_by_role("img", name=label)

    def presence(self) -> Locator:
        """What is known of the peer: online, typing, last seen."""
        return self.page.locator("#peer-about")

    async def choose(self, text: str, action: str) -> None:
        """Opens the menu of a message and chooses from it."""
        message = self.message(text)
        await message.hover()
        await message.get_by_role("button", name="Message actions").click()
        await self.page.get_by_role("menuitem", name=action).click()

    async def choose_for_chat(self, action: str) -> None:
        """Opens the menu of the conversation and chooses from it."""
        await self.page.get_by_role("button", name="More").click()
        await self.page.get_by_role("menuitem", name=action).click()

    async def answer(self, label: str) -> None:
        """Answers the question that is asked."""
        await self.page.get_by_role("dialog").get_by_role("button", name=label, exact=True).click()

    def forgive(self, misdeed: str) -> None:
        """Takes back misdeeds with this text, where the test asked for them."""
        self.misdeeds = [one for one in self.misdeeds if misdeed not in one]

    async def look_away(self) -> None:
        """The window is not the focused one any more."""
        await self.page.evaluate("document.hasFocus = () => false")

    async def look_back(self) -> None:
        """The window is focused again."""
        await self.page.evaluate("delete document.hasFocus; dispatchEvent(new Event('focus'))")


async def two_people(window: OpenWindow, **context: object) -> tuple[Window, Window]:
    """Alice, who has opened a chat with Bob, and Bob, who looks at his list.

    `context` are options of Alice's browser.
    """
    alice, bob = somebody("alice"), somebody("bob")
    hers, his = await window(alice, **context), await window(bob)
    await hers.start_chat(bob)
    return hers, his
