"""Teams' profiles, items and checker are gone, not hanging: answers go without them, and find them again."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from tests.observability.support import eventually
from tests.outages.scene import Scene
from tests.outages.support import failed, missing

Gone = Callable[[str], AbstractAsyncContextManager[None]]


@pytest.mark.parametrize("part", ["profiles", "items"])
async def test_a_directory_is_down(part: str, scene: Scene, gone: Gone) -> None:
    """Everything works; answers with chats show what was known, and say so until it is back."""
    named = {"profiles": ("peer", "name"), "items": ("item", "title")}[part]
    assert await scene.is_whole()
    async with gone(part):
        alice, bob = await scene.ask_everything()
        assert failed([*alice, *bob]) == {}
        found = await scene.alice.ask("chats.get", chat_id=scene.chat_id)
        assert missing([found]) == {part}
        assert found.result["chat"][named[0]][named[1]]
        await scene.say_something()
    await eventually(scene.is_whole)
    found = await scene.alice.ask("chats.get", chat_id=scene.chat_id)
    assert found.result["chat"][named[0]][named[1]]


async def test_a_checker_is_down(scene: Scene, gone: Gone) -> None:
    """Messages pass unchecked, and `degraded` has nothing to say of that; later they are checked again."""
    async with gone("checker"):
        for _ in range(5):
            await scene.say_something()
        assert await scene.is_whole()
    before = scene.teams.asked["checker"]

    async def is_asked_again() -> bool:
        await scene.say_something()
        return scene.teams.asked["checker"] > before

    await eventually(is_asked_again)
