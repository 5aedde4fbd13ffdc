"""Takes the pictures of docs/screenshots (`make screenshots`): a stack of its own, and people who talk.

The web client in windows of Chromium, and the terminal chat, whose screen Chromium turns into a picture, too.
"""

import asyncio
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, async_playwright, expect

from edge.client import Client
from edge.terminal.app import ChatApp
from mesh import tokens
from mesh.stack import Stack, StackSettings, ports
from tests.browser.support import BROWSER_ARGS, Window
from tests.past import fill_mailbox
from tests.terminal.support import Terminal

PICTURES = Path("docs/screenshots")
ME, PEER, ITEM = "nora-hall", "oliver-grant", "red-bicycle"
DESK = {"viewport": {"width": 1180, "height": 740}}
PHONE = {
    "viewport": {"width": 390, "height": 780},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
URL = "http://127.0.0.1:8000"
TERMINAL = (110, 30)
OTHERS: Sequence[tuple[str, timedelta, str]] = (
    ("maya-lindqvist", timedelta(minutes=26), "Table for four at eight, by the window."),
    ("sofia-rossi", timedelta(hours=26), "The contract is signed. Thank you for waiting!"),
    ("ben-carter", timedelta(days=2), "I left the keys with the neighbours."),
    ("yuki-tanaka", timedelta(days=3), "See you at the station."),
    ("liam-okafor", timedelta(days=5), "Photos from the weekend are in the folder."),
)
TALK: Sequence[tuple[str, str]] = (
    (PEER, "Hi Nora, is the bicycle still for sale?"),
    (ME, "Hello Oliver! Yes, it is."),
    (ME, "New chain and brakes this spring, the lamp works, too."),
    (PEER, "That sounds good. What size is the frame?"),
    (ME, "56 cm. I am 1.76 m and it fits me well."),
    (PEER, "Perfect. Could I come by for a test ride tomorrow after work, around six?"),
    (ME, "Six is fine. Ring the bell twice, the garage is behind the house: https://example.org/map"),
    (PEER, "Great, see you then!"),
)


async def talk(window: Callable[..., Any]) -> tuple[Window, Window]:
    """Both windows at the desk, after the talk."""
    mine, his = await window(ME, **DESK), await window(PEER, **DESK)
    await his.start_chat(ME, ITEM)
    await his.say(TALK[0][1])
    await mine.chat().filter(has_text="Oliver").click()
    await expect(mine.message(TALK[0][1])).to_be_visible()
    for sender, text in TALK[1:]:
        speaker, listener = (mine, his) if sender == ME else (his, mine)
        await speaker.say(text)
        await expect(listener.message(text)).to_be_visible()
    return mine, his


async def take(browser: Browser, stack: Stack) -> None:
    """All pictures."""
    shards = stack.env()["MONGO_SHARDS"].split()

    def token(user_id: str) -> str:
        secret = stack.env()["JWT_SECRET"]
        return tokens.issue(user_id, secret=secret, now=datetime.now(UTC), ttl=timedelta(hours=1))

    async def window(user_id: str, **context: Any) -> Window:
        page = await (
            await browser.new_context(locale="en-GB", reduced_motion="reduce", **context)
        ).new_page()
        opened = Window(page, user_id, stack.settings.messenger_url)
        await opened.sign_in(token(user_id))
        return opened

    for sender, ago, text in OTHERS:
        await fill_mailbox(shards, owner=ME, sender=sender, texts=[text], ago=ago)
    await window("maya-lindqvist")
    mine, his = await talk(window)
    for name in ("sofia", "ben", "yuki", "liam"):
        await mine.chat().filter(has_text=name.capitalize()).click()
        await expect(mine.messages()).to_have_count(1)
        await expect(mine.chat().filter(has_text=name.capitalize()).locator(".badge")).to_have_count(0)
    await mine.chat().filter(has_text="Oliver").click()
    await expect(mine.messages()).to_have_count(len(TALK))
    await mine.composer().fill("")
    await mine.page.mouse.move(0, 0)
    await his.composer().press_sequentially("By the way")
    await expect(mine.presence()).to_contain_text("typing")
    await mine.page.screenshot(path=PICTURES / "light.png")
    await mine.page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    await his.page.keyboard.press("Control+a")
    await his.page.keyboard.press("Delete")
    await expect(mine.presence()).to_contain_text("online")
    await mine.page.screenshot(path=PICTURES / "dark.png")
    phone = await window(ME, **PHONE)
    await expect(phone.page.locator(".here").first).to_be_visible()
    await phone.page.screenshot(path=PICTURES / "phone-list.png")
    await phone.chat().filter(has_text="Oliver").click()
    await expect(phone.messages()).to_have_count(len(TALK))
    await expect(phone.presence()).to_contain_text("online")
    await phone.page.screenshot(path=PICTURES / "phone.png")
    terminal = Terminal(ChatApp(Client(stack.settings.messenger_url, token(ME)), ME, URL))
    await terminal.start(TERMINAL)
    await terminal.shows("Oliver Grant", "Maya Lindqvist")
    await terminal.press("enter")
    await terminal.shows(TALK[-1][1])
    await terminal.type("Looking forward to it")
    await his.composer().press_sequentially("By the way")
    await terminal.shows("typing")
    await draw(browser, terminal.app.export_screenshot(title="python -m edge chat " + ME), "terminal.png")
    await terminal.close()


async def draw(browser: Browser, svg: str, name: str) -> None:
    """A picture of an SVG that has a terminal's text, in this machine's own monospaced font."""
    page = await (await browser.new_context(device_scale_factor=2)).new_page()
    await page.set_content(re.sub(r"@font-face \{[^}]*\}", "", svg))
    await page.locator("svg").first.screenshot(path=PICTURES / name)
    await page.context.close()


async def main(stack: Stack, chromium: str | None) -> None:
    """Starts the browser."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=BROWSER_ARGS)
        await take(browser, stack)
        await browser.close()


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    block = ports.reserve_block()
    with block.guard, tempfile.TemporaryDirectory() as directory:
        settings = StackSettings(
            stack_dir=Path(directory), stack_port_base=block.base, messenger_port=block.base + 90
        )
        stack = Stack(settings)
        try:
            stack.up(attached=True)
            asyncio.run(main(stack, shutil.which("chromium")))
            sys.stdout.write("".join(f"{path}\n" for path in sorted(PICTURES.glob("*.png"))))
        finally:
            stack.down()
