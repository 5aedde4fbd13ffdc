"""Everybody can use the web client: axe finds no violation, and the keyboard is enough."""

from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from mesh.stack import Stack
from tests.browser.support import OpenWindow, Window, two_people

LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True},
}


async def violations(page: Page) -> str:
    """What axe objects to, for people; "" when nothing."""
    # An animation that runs shows a colour that does not stay.
    await page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished))")
    results = await Axe().run(page)
    found = results.response["violations"]
    return "\n".join(f"{one['id']}: {[node['html'] for node in one['nodes']]}" for one in found)


@pytest.mark.parametrize("look", LOOKS)
async def test_axe_finds_nothing(window: OpenWindow, look: str) -> None:
    """No violation in the list, a conversation, a menu, a dialog, a search, a banner."""
    alice, _ = await two_people(window, **LOOKS[look])
    page = alice.page
    await alice.say("Hello, see https://example.org")
    await alice.say("A slip")
    await expect(alice.tick("A slip", "Delivered")).to_be_visible()
    await alice.choose("A slip", "Edit")
    assert await violations(page) == ""
    await alice.composer().press("Escape")
    await alice.choose("A slip", "Delete")
    assert await violations(page) == ""
    await alice.answer("For me")
    await alice.message("Hello, see https://example.org").click(button="right", position={"x": 15, "y": 15})
    await expect(page.get_by_role("menu")).to_be_visible()
    assert await violations(page) == ""
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Search in this chat").click()
    await page.get_by_role("searchbox", name="Search in this chat").fill("hello")
    await expect(page.get_by_text("1 of 1")).to_be_visible()
    assert await violations(page) == ""
    await alice.choose_for_chat("Block")
    await alice.answer("Block")
    await expect(page.get_by_text("You blocked")).to_be_visible()
    assert await violations(page) == ""
    await page.goto(f"{alice.base_url}/#")
    await page.get_by_role("searchbox", name="Search all chats").fill("hello")
    await expect(page.get_by_role("list", name="Found").get_by_role("link")).to_have_count(1)
    assert await violations(page) == ""


@pytest.mark.parametrize("look", LOOKS)
async def test_axe_finds_nothing_on_the_sign_in_page(browser: Browser, stack: Stack, look: str) -> None:
    """No violation before anybody is signed in, with names and with a token."""
    context = await browser.new_context(**LOOKS[look])
    page = await context.new_page()
    await page.goto(stack.settings.messenger_url)
    await expect(page.get_by_label("Your name")).to_be_focused()
    await page.get_by_text("Sign in with a token").click()
    assert await violations(page) == ""
    await context.close()


async def tab_to(window: Window, label: str) -> None:
    """Presses Tab until the element with this label has the focus."""
    for _ in range(20):
        await window.page.keyboard.press("Tab")
        element = "document.activeElement"
        if await window.page.evaluate(f"({element}.ariaLabel ?? {element}.textContent).includes({label!r})"):
            return
    raise AssertionError(f"Tab does not come to {label!r}")


async def test_the_keyboard_is_enough(window: OpenWindow) -> None:
    """Choosing a chat, answering, a message and its menu, editing it, back to the list: without a mouse."""
    alice, bob = await two_people(window)
    keys = bob.page.keyboard
    await alice.say("First")
    await alice.say("Second")
    await expect(bob.unread()).to_have_text("2 unread")
    await tab_to(bob, "Second")
    await keys.press("Enter")
    await expect(bob.composer()).to_be_focused()
    await keys.type("Thrid")
    await keys.press("Enter")
    await expect(bob.tick("Thrid", "Read")).to_be_visible()
    await keys.press("Shift+Tab")
    await expect(bob.message("Thrid")).to_be_focused()
    await keys.press("ArrowUp")
    await expect(bob.message("Second")).to_be_focused()
    await keys.press("ArrowDown")
    await keys.press("Enter")
    await expect(bob.page.get_by_role("menuitem", name="Edit")).to_be_focused()
    await keys.press("ArrowUp")
    await expect(bob.page.get_by_role("menuitem", name="Delete")).to_be_focused()
    await keys.press("Home")
    await keys.press("Enter")
    await expect(bob.composer()).to_be_focused()
    await keys.press("Control+a")
    await keys.type("Third")
    await keys.press("Enter")
    await expect(alice.message("Third")).to_be_visible()
    await keys.press("Escape")
    await expect(bob.chat()).to_be_focused()


async def test_what_comes_in_is_read_out(window: OpenWindow) -> None:
    """A new message of the open conversation is announced with its sender; what is sent by oneself is not."""
    alice, bob = await two_people(window)
    await alice.say("One")
    await bob.open_chat()
    await bob.say("Two")
    await expect(alice.message("Two")).to_be_visible()
    await expect(alice.page.get_by_role("log")).to_contain_text(": Two")
    await expect(bob.page.get_by_role("log")).to_be_empty()
