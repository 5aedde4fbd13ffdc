"""The web client over the whole stack: all that one does in a messenger besides sending."""

from collections.abc import Callable

from playwright.async_api import Browser, WebSocketRoute, expect

from mesh.stack import Stack
from tests.browser.support import OpenWindow, Past, Window, somebody, two_people


async def test_an_edit_shows_on_both_sides(window: OpenWindow) -> None:
    """Arrow-up in the empty field edits the last message, Escape leaves it; both sides see the new text."""
    alice, bob = await two_people(window)
    await alice.say("See you at five")
    await bob.open_chat()
    await expect(bob.message("See you at five")).to_be_visible()
    await alice.composer().press("ArrowUp")
    await expect(alice.composer()).to_have_value("See you at five")
    await alice.composer().press("Escape")
    await expect(alice.composer()).to_have_value("")
    await alice.choose("See you at five", "Edit")
    await alice.say("See you at six")
    for person in (alice, bob):
        await expect(person.message("See you at six")).to_contain_text("edited")
        await expect(person.messages()).to_have_count(1)
        await expect(person.chat()).to_contain_text("See you at six")


async def test_deleting_for_me_and_for_everyone(window: OpenWindow) -> None:
    """For me: it stays on the other side. For everyone: gone on both. The peer's only for me."""
    alice, bob = await two_people(window)
    await alice.say("Only for you")
    await alice.say("A slip")
    await bob.open_chat()
    await bob.choose("Only for you", "Delete")
    await expect(bob.page.get_by_role("button", name="For everyone")).to_have_count(0)
    await bob.answer("For me")
    await expect(bob.message("Only for you")).to_have_count(0)
    await alice.choose("A slip", "Delete")
    await alice.answer("For everyone")
    for person in (alice, bob):
        await expect(person.message("A slip")).to_have_count(0)
        await expect(person.chat()).to_contain_text("Deleted message")
    await expect(alice.message("Only for you")).to_be_visible()
    await bob.page.reload()
    await expect(bob.message("Deleted message")).to_have_count(2)


async def test_changes_show_in_a_list_whose_chat_was_not_opened(window: OpenWindow) -> None:
    """The list follows edits and deletions of a message whose conversation has not been loaded."""
    alice, bob = await two_people(window)
    await alice.say("First")
    await alice.say("See you at five")
    await expect(bob.chat()).to_contain_text("See you at five")
    await alice.choose("See you at five", "Edit")
    await alice.say("See you at six")
    await expect(bob.chat()).to_contain_text("See you at six")
    await alice.choose("See you at six", "Delete")
    await alice.answer("For everyone")
    await expect(bob.chat()).to_contain_text("Deleted message")
    await expect(bob.unread()).to_have_text("1 unread")
    await bob.open_chat()
    await expect(bob.messages().locator(".text")).to_have_text(["First", "Deleted message"])


async def test_a_page_that_a_change_has_overtaken(window: OpenWindow) -> None:
    """What was changed between the reading of a page and its arrival stands there as it is now."""
    alice, bob = await two_people(window)
    pages: list[Callable[[], None]] = []
    holds = True

    def route(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def pass_on(frame: str | bytes) -> None:
            if holds and '"has_more"' in str(frame):
                pages.append(lambda: socket.send(frame))
            else:
                socket.send(frame)

        server.on_message(pass_on)

    await alice.say("Old")
    await alice.say("A slip")
    await bob.page.route_web_socket("**/ws", route)
    await bob.page.reload()
    await bob.open_chat()
    await expect(bob.page.get_by_text("Loading…")).to_be_visible()
    await alice.choose("Old", "Edit")
    await alice.say("New")
    await alice.choose("A slip", "Delete")
    await alice.answer("For everyone")
    await expect(bob.chat()).to_contain_text("Deleted message")
    holds = False
    for page in pages:
        page()
    await expect(bob.messages().locator(".text")).to_have_text(["New", "Deleted message"])


async def test_search_in_all_chats_goes_to_the_message(window: OpenWindow, past: Past) -> None:
    """What was found is listed newest first with its chat; choosing it opens the conversation there."""
    user_id = somebody("bob")
    await past(user_id, ["The key is under the mat", *(f"Line {number}" for number in range(300))], read=True)
    bob = await window(user_id)
    await bob.page.get_by_role("searchbox", name="Search all chats").fill("UNDER the")
    found = bob.page.get_by_role("list", name="Found").get_by_role("link")
    await expect(found).to_have_count(1)
    await expect(found.locator("mark")).to_have_text("under the")
    await found.click()
    await expect(bob.message("The key is under the mat")).to_be_in_viewport()
    await bob.page.get_by_role("searchbox", name="Search all chats").press("Escape")
    await expect(bob.chat()).to_be_visible()


async def test_search_in_one_chat_steps_from_hit_to_hit(window: OpenWindow, past: Past) -> None:
    """The bar counts the hits and goes to older and newer ones; a long way up and back to the end."""
    user_id = somebody("bob")
    texts = [f"Line {number}" for number in range(200)]
    texts[3], texts[150] = "A needle", "Another needle"
    await past(user_id, texts, read=True)
    bob = await window(user_id)
    await bob.open_chat()
    await expect(bob.message("Line 199")).to_be_in_viewport()
    await bob.page.get_by_role("button", name="Search in this chat").click()
    await bob.page.get_by_role("searchbox", name="Search in this chat").fill("needle")
    await expect(bob.page.get_by_text("1 of 2")).to_be_visible()
    await expect(bob.message("Another needle")).to_be_in_viewport()
    await bob.page.keyboard.press("Enter")
    await expect(bob.message("A needle")).to_be_in_viewport()
    await bob.page.keyboard.press("Shift+Enter")
    await expect(bob.message("Another needle")).to_be_in_viewport()
    await bob.page.keyboard.press("Escape")
    await bob.page.get_by_role("button", name="To the newest").click()
    await expect(bob.message("Line 199")).to_be_in_viewport()


async def test_blocking_ends_it_and_unblocking_begins_again(window: OpenWindow) -> None:
    """Who blocked sees a banner, on each device; who was blocked sees "not sent", and may try again."""
    alice, bob = await two_people(window)
    bobs_other = await window(bob.user_id)
    await alice.say("Hello")
    await bob.open_chat()
    await bob.choose_for_chat("Block")
    await bobs_other.open_chat()
    await bob.answer("Block")
    await expect(bob.page.get_by_text("You blocked")).to_be_visible()
    await expect(bob.composer()).to_be_hidden()
    await expect(bobs_other.page.get_by_text("You blocked")).to_be_visible()
    await alice.say("Hello?")
    await expect(alice.message("Hello?").locator("..")).to_contain_text("does not take messages from you")
    await expect(alice.tick("Hello?", "Not sent")).to_be_visible()
    await bob.page.reload()
    await bob.page.get_by_role("button", name="Unblock").click()
    for device in (bob, bobs_other):
        await expect(device.composer()).to_be_visible()
    await alice.page.get_by_role("button", name="Try again").click()
    await expect(bob.message("Hello?")).to_be_visible()
    await expect(bob.messages()).to_have_count(2)


async def test_typing_and_presence_show_and_end(window: OpenWindow) -> None:
    """The peer is online while there, types while typing, and was last seen when the window has gone."""
    alice, bob = await two_people(window)
    await alice.say("Hello")
    await bob.open_chat()
    await expect(alice.presence()).to_have_text("online")
    await bob.composer().press_sequentially("Well, ")
    await expect(alice.presence()).to_have_text("typing…")
    await expect(alice.chat()).to_contain_text("typing…")
    await bob.say("Hello to you")
    await expect(alice.presence()).to_have_text("online")
    await bob.page.context.close()
    await expect(alice.presence()).to_contain_text("last seen just now")


async def test_three_devices_of_two_people_are_in_step(window: OpenWindow) -> None:
    """What is sent, edited, deleted and read on one of Bob's devices shows on his other, and on Alice's."""
    alice, bob = await two_people(window)
    bobs_other = await window(bob.user_id)
    await alice.say("Which day?")
    await bob.open_chat()
    await bobs_other.open_chat()
    await bob.say("Monday")
    await expect(bobs_other.message("Monday")).to_be_visible()
    await bobs_other.choose("Monday", "Edit")
    await bobs_other.say("Tuesday")
    await bob.say("No")
    for person in (alice, bob, bobs_other):
        await expect(person.messages().locator(".text")).to_have_text(["Which day?", "Tuesday", "No"])
    await bob.choose("No", "Delete")
    await bob.answer("For everyone")
    for person in (alice, bob, bobs_other):
        await expect(person.message("Deleted message")).to_be_visible()
    await expect(bobs_other.tick("Tuesday", "Read")).to_be_visible()


async def test_offline_and_back(window: OpenWindow) -> None:
    """Without a network the page says so and keeps what is written; with it all arrives, once."""
    alice, bob = await two_people(window)
    await alice.say("One")
    await bob.open_chat()
    await expect(bob.message("One")).to_be_visible()
    await bob.page.context.set_offline(True)
    await expect(bob.status()).to_contain_text("You are offline")
    await bob.say("Two")
    await expect(bob.tick("Two", "Sending")).to_be_visible()
    await alice.say("Three")
    await bob.page.context.set_offline(False)
    await expect(bob.message("Three")).to_be_visible()
    await expect(bob.status()).to_be_empty()
    for person in (alice, bob):
        await expect(person.messages()).to_have_count(3)
    bob.forgive("ERR_INTERNET_DISCONNECTED")


async def test_drafts_stay_with_their_chats(window: OpenWindow) -> None:
    """Each chat has its own draft, which the list shows; it is still there after another chat."""
    alice, _ = await two_people(window)
    await alice.composer().fill("To Bob")
    await alice.start_chat(somebody("carol"))
    await expect(alice.composer()).to_have_value("")
    await alice.composer().fill("To Carol")
    await alice.chat("Draft: To Bob").click()
    await expect(alice.composer()).to_have_value("To Bob")


async def test_drafts_outlive_the_tab(window: OpenWindow) -> None:
    """A new tab has the user's drafts and nobody else's; sending ends one of them, signing out all."""
    alice, bob = await two_people(window)
    await alice.say("Hello")
    await expect(alice.tick("Hello", "Sent").or_(alice.tick("Hello", "Delivered"))).to_be_visible()
    await alice.composer().fill("Half a thou")
    await alice.page.close()
    bob = await window(bob.user_id, beside=alice)
    await bob.open_chat()
    await expect(bob.message("Hello")).to_be_visible()
    await expect(bob.composer()).to_have_value("")
    alice = await window(alice.user_id, beside=bob)
    await alice.chat("Draft: Half a thou").click()
    await expect(alice.composer()).to_have_value("Half a thou")
    await alice.page.get_by_role("button", name="Send").click()
    await expect(bob.message("Half a thou")).to_be_visible()
    assert await alice.page.evaluate("Object.keys(localStorage)") == []
    await alice.composer().fill("Never mind")
    assert await alice.page.evaluate("Object.keys(localStorage)") != []
    await alice.page.get_by_role("button", name="Sign out").click()
    assert await alice.page.evaluate("Object.keys(localStorage)") == []


async def test_a_half_made_edit_stays_with_its_chat(window: OpenWindow) -> None:
    """After another chat the editing goes on where it was, and behind it the draft is still there."""
    alice, bob = await two_people(window)
    await alice.say("See you at five")
    await alice.composer().fill("By the way")
    await alice.choose("See you at five", "Edit")
    await alice.composer().fill("See you at six")
    await alice.start_chat(somebody("carol"))
    await expect(alice.composer()).to_have_value("")
    await alice.say("Hello")
    await alice.chat("Draft: By the way").click()
    await expect(alice.composer()).to_have_value("See you at six")
    await alice.page.get_by_role("button", name="Send").click()
    await expect(alice.composer()).to_have_value("By the way")
    await bob.open_chat()
    await expect(bob.messages().locator(".text")).to_have_text(["See you at six"])
    await alice.chat("Hello").click()
    await expect(alice.composer()).to_have_value("")
    await alice.chat("Draft: By the way").click()
    await expect(alice.composer()).to_have_value("By the way")


async def test_signing_in_by_a_name(browser: Browser, stack: Stack, token: Callable[[str], str]) -> None:
    """On a local stack a name is enough; who was signed in stays so, until signing out."""
    context = await browser.new_context()
    page = await context.new_page()
    user_id = somebody("dora")
    window = Window(page, user_id, stack.settings.messenger_url)
    await page.goto(window.base_url)
    await page.get_by_label("Your name").fill(user_id)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name=user_id)).to_be_visible()
    await page.reload()
    await expect(page.get_by_role("heading", name=user_id)).to_be_visible()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("Your name")).to_be_focused()
    await context.close()
    assert window.misdeeds == []
