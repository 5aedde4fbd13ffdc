"""The web client over the whole stack: two people in two windows really talk."""

import asyncio
from typing import Any

import pytest
from playwright.async_api import Route, WebSocketRoute, expect

from tests.browser.support import OpenWindow, Past, somebody, two_people

NO_WEBSOCKET = """
window.WebSocket = class {
    constructor() { setTimeout(() => this.onclose({ code: 1006, reason: '' })); }
    close() {}
};
"""
# What the reader has at the top edge: the text of the first visible message, and its distance from the edge.
FIRST_VISIBLE = """() => {
    const top = document.getElementById('scroller').getBoundingClientRect().top;
    const messages = [...document.querySelectorAll('.message')];
    const first = messages.find((m) => m.getBoundingClientRect().bottom > top);
    return [first.querySelector('.text').textContent, Math.round(first.getBoundingClientRect().top - top)];
}"""
# A drawing between the reader's scrolling and the event that tells of it must not take the reader back.
SCROLL_AND_DRAW = "document.getElementById('scroller').scrollTop = 500; dispatchEvent(new Event('focus'))"
LINES = 130
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}


async def test_messages_appear_without_reloading_both_ways(window: OpenWindow) -> None:
    """What one says stands in the other's window, in order, each once."""
    alice, bob = await two_people(window)
    await alice.composer().fill("Hello Bob")
    await alice.composer().press("Enter")
    await bob.open_chat()
    await expect(bob.message("Hello Bob")).to_be_visible()
    await bob.say("Hello Alice")
    await expect(alice.message("Hello Alice")).to_be_visible()
    await alice.say("Nice to see you")
    await expect(bob.message("Nice to see you")).to_be_visible()
    for person in (alice, bob):
        texts = person.messages().locator(".text")
        await expect(texts).to_have_text(["Hello Bob", "Hello Alice", "Nice to see you"])


async def test_unread_counts_up_and_clears(window: OpenWindow) -> None:
    """Badge and title count what is not read, opening the chat clears them, and a line shows what is new."""
    alice, bob = await two_people(window)
    for number in range(1, 4):
        await alice.say(f"Number {number}")
        await expect(bob.unread()).to_have_text(f"{number} unread")
        await expect(bob.page).to_have_title(f"({number}) Messenger")
    await bob.open_chat()
    await expect(bob.messages()).to_have_count(3)
    await expect(bob.page.get_by_text("New messages")).to_be_visible()
    await expect(bob.unread()).to_have_count(0)
    await expect(bob.page).to_have_title("Messenger")
    await expect(alice.unread()).to_have_count(0)


async def test_ticks_turn_when_the_peer_reads(window: OpenWindow) -> None:
    """One tick when the server has the message, two when the peer's device has it, coloured when read."""
    alice = await window(somebody("alice"))
    bob_id = somebody("bob")
    await alice.start_chat(bob_id)
    await alice.say("Are you there?")
    await expect(alice.tick("Are you there?", "Sent")).to_be_visible()
    bob = await window(bob_id)
    await expect(alice.tick("Are you there?", "Delivered")).to_be_visible()
    await expect(bob.unread()).to_have_text("1 unread")
    await expect(alice.tick("Are you there?", "Read")).to_have_count(0)
    await bob.open_chat()
    await expect(alice.tick("Are you there?", "Read")).to_be_visible()


async def test_a_window_that_nobody_looks_at_reads_nothing(window: OpenWindow) -> None:
    """An open conversation in a window without focus stays unread until its reader comes back."""
    alice, bob = await two_people(window)
    await alice.say("First")
    await bob.open_chat()
    await expect(alice.tick("First", "Read")).to_be_visible()
    await bob.look_away()
    await alice.say("Second")
    await expect(bob.message("Second")).to_be_visible()
    await expect(bob.unread()).to_have_text("1 unread")
    await expect(alice.tick("Second", "Delivered")).to_be_visible()
    await bob.look_back()
    await expect(alice.tick("Second", "Read")).to_be_visible()
    await expect(bob.unread()).to_have_count(0)


async def test_reload_keeps_everything(window: OpenWindow) -> None:
    """After a reload the same chat is open with messages, ticks and draft; no token stays in the address."""
    alice, bob = await two_people(window)
    await alice.say("Before")
    await bob.open_chat()
    await expect(alice.tick("Before", "Read")).to_be_visible()
    await alice.composer().fill("Half a thou")
    assert "token" not in alice.page.url
    await alice.page.reload()
    await expect(alice.tick("Before", "Read")).to_be_visible()
    await expect(alice.composer()).to_have_value("Half a thou")
    await bob.say("After")
    await expect(alice.message("After")).to_be_visible()
    await expect(alice.messages()).to_have_count(2)


async def test_markup_is_shown_as_text(window: OpenWindow) -> None:
    """Tags that a user writes are text in the conversation and in the list; only web addresses are links."""
    alice, bob = await two_people(window)
    nasty = "<script>document.title='x'</script><img src=x onerror=alert(1)> javascript:alert(1)"
    await alice.say(nasty)
    await expect(bob.chat()).to_contain_text(nasty)
    await bob.open_chat()
    await expect(bob.message(nasty)).to_be_visible()
    assert await bob.page.locator(".text :is(script, img, a)").count() == 0


async def test_two_windows_of_one_user_are_in_step(window: OpenWindow) -> None:
    """What is said and read in one window shows in the user's other one."""
    alice, bob = await two_people(window)
    bobs_other = await window(bob.user_id)
    await alice.say("To both of you")
    await expect(bobs_other.unread()).to_have_text("1 unread")
    await bob.open_chat()
    await expect(bobs_other.unread()).to_have_count(0)
    await bobs_other.open_chat()
    await bob.say("From the first")
    await expect(bobs_other.tick("From the first", "Read")).to_be_visible()
    await expect(bobs_other.messages()).to_have_count(2)


async def test_scrolling_up_loads_more_and_keeps_the_place(window: OpenWindow, past: Past) -> None:
    """Older pages come in above without moving what is being read, back to the first message."""
    user_id = somebody("bob")
    await past(user_id, [f"Line {number}" for number in range(LINES)], read=True)
    bob = await window(user_id)
    await bob.open_chat()
    await expect(bob.message(f"Line {LINES - 1}")).to_be_in_viewport()
    assert await bob.message("Line 0").count() == 0
    before = await bob.messages().count()
    await bob.page.evaluate(SCROLL_AND_DRAW)
    place = await bob.page.evaluate(FIRST_VISIBLE)
    await expect(bob.messages()).not_to_have_count(before)
    assert await bob.page.evaluate(FIRST_VISIBLE) == place
    await bob.page.evaluate("document.getElementById('scroller').scrollTop = 0")
    await expect(bob.messages()).to_have_count(LINES)
    texts = await bob.messages().locator(".text").all_text_contents()
    assert texts == [f"Line {number}" for number in range(LINES)]


@pytest.mark.parametrize("context", [{}, PHONE], ids=["desktop", "phone"])
async def test_going_back_to_a_chat_restores_the_place(
    window: OpenWindow, past: Past, context: dict[str, object]
) -> None:
    """A chat that was left scrolled up opens where it was left, to the pixel; left at its end, at the end."""
    user_id = somebody("bob")
    await past(user_id, [f"Line {number}" for number in range(LINES)], read=True)
    bob = await window(user_id, **context)
    await bob.open_chat()
    await expect(bob.message(f"Line {LINES - 1}")).to_be_in_viewport()
    await bob.page.evaluate(SCROLL_AND_DRAW)
    place = await bob.page.evaluate(FIRST_VISIBLE)
    await bob.page.keyboard.press("Escape")
    await bob.start_chat(somebody("carol"))
    await expect(bob.messages()).to_have_count(0)
    await bob.page.keyboard.press("Escape")
    await bob.chat(f"Line {LINES - 1}").click()
    await expect(bob.messages().first).to_be_visible()
    assert await bob.page.evaluate(FIRST_VISIBLE) == place
    await bob.page.get_by_role("button", name="To the newest").click()
    await expect(bob.message(f"Line {LINES - 1}")).to_be_in_viewport()
    await bob.page.keyboard.press("Escape")
    await bob.chat(f"Line {LINES - 1}").click()
    await expect(bob.message(f"Line {LINES - 1}")).to_be_in_viewport()


async def test_a_lost_connection_loses_and_doubles_nothing(window: OpenWindow) -> None:
    """What both sides say while a connection is gone arrives when it is back, once; the page says so."""
    alice, bob = await two_people(window)
    sockets: list[WebSocketRoute] = []
    network = asyncio.Event()
    network.set()

    def route(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        if network.is_set():
            socket.connect_to_server()

    await bob.page.route_web_socket("**/ws", route)
    await bob.page.reload()
    await alice.say("One")
    await bob.open_chat()
    await expect(bob.message("One")).to_be_visible()
    network.clear()
    await sockets[-1].close(code=4000, reason="draining")
    await bob.say("Two")
    await alice.say("Three")
    await expect(bob.status()).to_have_text("Connecting…")
    await expect(bob.tick("Two", "Sending")).to_be_visible()
    assert await bob.message("Three").count() == 0
    network.set()
    await sockets[-1].close(code=4000, reason="draining")
    await expect(bob.message("Three")).to_be_visible()
    await expect(alice.message("Two")).to_be_visible()
    await expect(bob.status()).to_be_empty()
    for person in (alice, bob):
        await expect(person.messages()).to_have_count(3)


async def test_without_websocket_the_same_over_http(window: OpenWindow) -> None:
    """Where WebSocket does not get through, the page says so and talks over HTTP."""
    alice = await window(somebody("alice"))
    bob = await window(somebody("bob"), init_script=NO_WEBSOCKET)
    await expect(bob.status()).to_contain_text("without WebSocket")
    await alice.start_chat(bob.user_id)
    await alice.say("Can you hear me?")
    await expect(bob.unread()).to_have_text("1 unread")
    await bob.open_chat()
    await bob.say("Over HTTP")
    await expect(alice.message("Over HTTP")).to_be_visible()
    await expect(alice.tick("Can you hear me?", "Read")).to_be_visible()


async def test_on_a_phone_list_and_conversation_are_two_views(window: OpenWindow) -> None:
    """At a phone's width one view shows at a time, back returns to the list, nothing sticks out sideways."""
    alice = await window(somebody("alice"))
    bob = await window(somebody("bob"), **PHONE)
    await alice.start_chat(bob.user_id)
    await alice.say("W" * 300)
    await bob.open_chat()
    await expect(bob.chat()).to_be_hidden()
    await bob.composer().fill("From my phone")
    await bob.page.get_by_role("button", name="Send").tap()
    await expect(alice.message("From my phone")).to_be_visible()
    assert await bob.page.evaluate("document.documentElement.scrollWidth") == PHONE["viewport"]["width"]
    await bob.page.get_by_role("link", name="Back").tap()
    await expect(bob.chat()).to_be_visible()
    await expect(bob.composer()).to_be_hidden()


async def test_who_has_begun_to_sign_in_is_not_disturbed(window: OpenWindow) -> None:
    """What the page asks the edge about itself may take long: a box that was opened meanwhile stays open."""
    alice = await window(somebody("alice"))
    asked, answer = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        asked.set()
        await answer.wait()
        await route.continue_()

    await alice.page.route("**/dev/token", hold)
    await alice.page.get_by_role("button", name="Sign out").click()
    await asked.wait()
    await alice.page.get_by_text("Sign in with a token").click()
    await alice.page.get_by_label("Access token").fill("one.two.three")
    answer.set()
    await expect(alice.page.get_by_label("Your name")).to_be_visible()
    await expect(alice.page.get_by_label("Access token")).to_be_focused()
    await expect(alice.page.get_by_role("button", name="Use the token")).to_be_visible()


async def test_a_token_that_is_not_accepted_is_said(window: OpenWindow) -> None:
    """A forged token leads back to the sign-in page with the reason."""
    alice = await window(somebody("alice"))
    await alice.page.get_by_role("button", name="Sign out").click()
    await alice.page.get_by_text("Sign in with a token").click()
    await alice.page.get_by_label("Access token").fill("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.forged")
    await alice.page.get_by_role("button", name="Use the token").click()
    await expect(alice.page.locator("#sign-in").get_by_role("alert")).to_have_text(
        "This token was not accepted."
    )
    assert await alice.page.evaluate("sessionStorage.getItem('token')") is None
