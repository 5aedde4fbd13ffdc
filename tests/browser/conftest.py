"""Chromium, and windows of people in it who talk over the session's stack."""

import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Browser, async_playwright, expect

from mesh import tokens
from mesh.stack import Stack
from tests.browser.support import BROWSER_ARGS, OpenWindow, Past, Window, somebody
from tests.past import fill_mailbox

expect.set_options(timeout=20_000)  # of a machine that does other things, too


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The machine's Chromium."""
    path = shutil.which("chromium")
    if path is None:
        pytest.fail("Chromium is missing: apt-get install --no-install-recommends chromium, or `make test`")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=BROWSER_ARGS)
        yield browser
        await browser.close()


@pytest.fixture
def token(stack: Stack) -> Callable[[str], str]:
    """Makes a token of the stack for a user."""
    secret = stack.env()["JWT_SECRET"]
    return lambda user: tokens.issue(user, secret=secret, now=datetime.now(UTC), ttl=timedelta(hours=1))


@pytest.fixture
def past(stack: Stack) -> Past:
    """Gives a user a chat with a past."""
    shards = stack.env()["MONGO_SHARDS"].split()

    async def give(owner: str, texts: Sequence[str], *, read: bool = False) -> str:
        sender = somebody("alice")
        return await fill_mailbox(shards, owner=owner, sender=sender, texts=texts, read=read)

    return give


@pytest.fixture
async def window(browser: Browser, stack: Stack, token: Callable[[str], str]) -> AsyncIterator[OpenWindow]:
    """Opens a window in which a user is signed in; each has its own storage, as on another computer.

    `beside` another it opens as a tab of the same browser.

    Afterwards no page may have logged an error, violated its policy or asked a third party for anything.
    """
    windows: list[Window] = []

    async def open_window(
        user_id: str, *, beside: Window | None = None, init_script: str = "", **context: object
    ) -> Window:
        if beside:
            context_ = beside.page.context
        else:
            context_ = await browser.new_context(locale="en-US", **context)  # type: ignore[arg-type]
        context_.set_default_timeout(20_000)
        page = await context_.new_page()
        if init_script:
            await page.add_init_script(init_script)
        opened = Window(page, user_id, stack.settings.messenger_url)
        windows.append(opened)
        await opened.sign_in(token(user_id))
        return opened

    yield open_window
    for opened in windows:
        await opened.page.context.close()
    assert [deed for opened in windows for deed in opened.misdeeds] == []
