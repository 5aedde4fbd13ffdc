"""A chat of 5,000 messages: where it opens, how it scrolls, what the page keeps."""

import re
from dataclasses import dataclass

import pytest
from playwright.async_api import expect

from mesh.stack import Stack
from tests.browser.support import OpenWindow, Window, somebody
from tests.past import fill_mailbox

MESSAGES = 5_000
DRAWN = 200  # rows in the page at most: messages, day lines, the line of what is new
FRAME_MS = 50  # of a machine that does other things, too; docs/web-client.md has what a browser alone shows
IN_VIEW = """() => {
    const scroller = document.getElementById('scroller').getBoundingClientRect();
    const inView = (element) => {
        const { top, bottom } = element.getBoundingClientRect();
        return bottom > scroller.top && top < scroller.bottom;
    };
    return [...document.querySelectorAll('.message')].filter(inView).length;
}"""
# Scrolls as a finger does, a bit every frame; gives the frames' times in ms, and the most rows there were.
SCROLL = """async ({ frames, by }) => {
    const scroller = document.getElementById('scroller');
    const times = [];
    let [rows, last] = [0, performance.now()];
    for (let i = 0; i < frames; i += 1) {
        scroller.scrollTop += by;
        await new Promise(requestAnimationFrame);
        const now = performance.now();
        times.push(now - last);
        last = now;
        rows = Math.max(rows, document.getElementById('log').childElementCount);
    }
    times.sort((a, b) => a - b);
    return { median: times[frames >> 1], p95: times[Math.floor(frames * 0.95)], longest: times.at(-1), rows };
}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LongChat:
    """Bob's chat with Alice, who wrote all of it."""

    owner: str
    chat_id: str


@pytest.fixture(scope="module")
async def long_chat(stack: Stack) -> LongChat:
    """5,000 unread messages."""
    owner = somebody("bob")
    texts = [f"Line {number}" for number in range(MESSAGES)]
    shards = stack.env()["MONGO_SHARDS"].split()
    return LongChat(
        owner=owner, chat_id=await fill_mailbox(shards, owner=owner, sender=somebody("alice"), texts=texts)
    )


async def opened(window: OpenWindow, chat: LongChat) -> Window:
    """Bob, who looks at the chat."""
    bob = await window(chat.owner)
    await bob.open_chat()
    await expect(bob.messages().first).to_be_visible()
    return bob


async def test_it_opens_at_the_first_unread_message(window: OpenWindow, long_chat: LongChat) -> None:
    """Only what was seen is read, also after a reload; the end is a click away."""
    bob = await opened(window, long_chat)
    await expect(bob.message("Line 0")).to_be_in_viewport()
    await expect(bob.page.get_by_text("New messages")).to_be_in_viewport()
    await expect(bob.page).not_to_have_title(f"({MESSAGES}) Messenger")
    seen = MESSAGES - int(re.sub(r"\D", "", await bob.page.title()))
    assert 0 < seen <= await bob.page.evaluate(IN_VIEW)
    await bob.page.reload()
    await expect(bob.message(f"Line {seen}")).to_be_in_viewport()
    assert int(re.sub(r"\D", "", await bob.page.title())) > MESSAGES - 100
    await bob.page.get_by_role("button", name="To the newest").click()
    await expect(bob.message(f"Line {MESSAGES - 1}")).to_be_in_viewport()
    await expect(bob.page).to_have_title("Messenger")


async def test_all_of_it_scrolls_without_a_jump(window: OpenWindow, long_chat: LongChat) -> None:
    """From the end up through thousands of messages: in order, none missing, the page small, and back."""
    bob = await opened(window, long_chat)
    if await bob.message(f"Line {MESSAGES - 1}").count() == 0:
        await bob.page.get_by_role("button", name="To the newest").click()
    await expect(bob.message(f"Line {MESSAGES - 1}")).to_be_in_viewport()
    measured = await bob.page.evaluate(SCROLL, {"frames": 400, "by": -300})
    print(measured)  # noqa: T201  # shown by -s: the numbers of docs/web-client.md
    assert measured["rows"] <= DRAWN
    assert measured["median"] < FRAME_MS
    numbers = [
        int(text.removeprefix("Line ")) for text in await bob.messages().locator(".text").all_text_contents()
    ]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert numbers[-1] < MESSAGES - 1_500
    await bob.page.get_by_role("button", name="To the newest").click()
    await expect(bob.message(f"Line {MESSAGES - 1}")).to_be_in_viewport()


async def test_a_message_far_up_is_found_and_shown(window: OpenWindow, long_chat: LongChat) -> None:
    """A hit thousands of messages away opens there without loading all between; one scrolls on down."""
    bob = await opened(window, long_chat)
    await bob.page.get_by_role("button", name="Search in this chat").click()
    await bob.page.get_by_role("searchbox", name="Search in this chat").fill("Line 1234")
    await expect(bob.message("Line 1234")).to_be_in_viewport()
    assert await bob.messages().count() < DRAWN
    await bob.page.keyboard.press("Escape")
    await bob.page.evaluate(SCROLL, {"frames": 60, "by": 200})
    numbers = [
        int(text.removeprefix("Line ")) for text in await bob.messages().locator(".text").all_text_contents()
    ]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert numbers[-1] > 1_300
