"""The rules: what they reject, and that innocent chat passes."""

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antispam.checkers.blocklist import GTUBE, Blocklist
from antispam.checkers.flood import Flood
from antispam.checkers.links import Links
from antispam.checkers.near_duplicate import NearDuplicate, normalise, resemblance, sketch
from antispam.recent import Recent
from antispam.rules import Rule, Rules, time_of_sending
from antispam.verdict import PASS, Candidate, reject, unchecked

OFFER = "Dear {}, buy the finest watches in town at half the price, only today, and tell all your friends!"
HELLO = Candidate(message_id="1", sender_id="anna", receiver_id="boris", text="Hello, is it still for sale?")


def to(receiver: int, text: str = HELLO.text) -> Candidate:
    """A message of one sender to one of many receivers."""
    return replace(HELLO, message_id=f"m{receiver}", receiver_id=f"u{receiver}", text=text)


class TestFlood:
    """More than any human sends."""

    def test_the_limit_itself_passes(self) -> None:
        """As many messages as may be sent pass, one more does not."""
        flood = Flood(messages=100, window=10)
        assert [flood.check(HELLO, n * 0.01) for n in range(100)] == [""] * 100
        assert flood.check(HELLO, 1.5) == "TOO_MANY_MESSAGES"

    def test_the_window_slides(self) -> None:
        """Messages that left the window make room for new ones; other senders have room of their own."""
        flood = Flood(messages=2, window=10)
        assert [flood.check(HELLO, now) for now in (0.0, 9.0, 9.5)] == ["", "", "TOO_MANY_MESSAGES"]
        assert flood.check(replace(HELLO, sender_id="clara"), 9.6) == ""
        assert flood.check(HELLO, 19.5) == ""

    def test_too_many_receivers(self) -> None:
        """Writing to more different people than allowed within the window is a flood."""
        flood = Flood(receivers=3, window=10)
        assert [flood.check(to(n), 0.0) for n in (1, 2, 3, 1, 2)] == [""] * 5
        assert flood.check(to(4), 1.0) == "TOO_MANY_RECEIVERS"
        assert flood.check(to(5), 11.5) == ""

    @given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 6)), max_size=60))
    def test_agrees_with_counting(self, steps: list[tuple[float, int]]) -> None:
        """The bounded state decides exactly like one that keeps every message."""
        flood, sent, now = Flood(messages=5, receivers=4, window=10), list[tuple[float, int]](), 0.0
        for pause, receiver in steps:
            now += pause
            sent.append((now, receiver))
            window = [one for one in sent if one[0] > now - 10]
            spread = len({who for _, who in window}) > 4
            expected = "TOO_MANY_RECEIVERS" if spread else "TOO_MANY_MESSAGES" if len(window) > 5 else ""
            assert flood.check(to(receiver), now) == expected


class TestNearDuplicate:
    """One text for many."""

    def test_the_eighth_receiver_is_spared(self) -> None:
        """Nearly the same long text passes seven times, not eight; a name does not make it another text."""
        rule = NearDuplicate()
        names = ["Anna", "Boris", "Clara", "Dmitri", "Elena", "Fyodor", "Galina", "Henri"]
        reasons = [rule.check(to(n, OFFER.format(name)), n) for n, name in enumerate(names)]
        assert reasons == [""] * 7 + ["NEAR_DUPLICATE"]

    def test_one_receiver_may_hear_it_often(self) -> None:
        """Repeating oneself to the same person is no mass mail."""
        rule = NearDuplicate()
        assert [rule.check(to(1, OFFER), n) for n in range(50)] == [""] * 50

    def test_short_texts_do_not_count(self) -> None:
        """Everybody says hello to everybody."""
        rule = NearDuplicate()
        assert [rule.check(to(n), 0) for n in range(50)] == [""] * 50

    def test_different_texts_do_not_count(self) -> None:
        """Answering many people, each something else, passes."""
        rule = NearDuplicate()
        topics = [
            "bicycle",
            "station",
            "garden",
            "weekend",
            "delivery",
            "photo",
            "address",
            "lamp",
            "table",
            "mirror",
        ]
        answers = [
            f"Yes, the {topic} is still here, and about the {topic[::-1]} I do not know" for topic in topics
        ]
        assert [rule.check(to(n, text), n) for n, text in enumerate(answers)] == [""] * 10

    def test_the_window_slides(self) -> None:
        """The same text once in a while is a habit, not a mass mail."""
        rule = NearDuplicate(window=60)
        assert [rule.check(to(n, OFFER), n * 10.0) for n in range(30)] == [""] * 30

    @given(st.text(max_size=300), st.text(max_size=300))
    def test_resemblance_is_a_similarity(self, one: str, other: str) -> None:
        """It is symmetric, between 0 and 1, and 1 for equal texts."""
        a, b = sketch(normalise(one)), sketch(normalise(other))
        assert 0 <= resemblance(a, b) == resemblance(b, a) <= 1
        assert resemblance(a, a) == 1

    @given(st.text(max_size=100))
    def test_looks_do_not_matter(self, text: str) -> None:
        """Case, spaces and punctuation do not make another text."""
        assert normalise(text + "!! ") == normalise("  -" + text)
        assert normalise(normalise(text)) == normalise(text)


class TestLinks:
    """Links and contacts."""

    def test_blocked_domain(self) -> None:
        """A blocked domain is found with a path, below it and in any case, and not inside of another name."""
        rule = Links(blocked_domains=["evil.example"])
        for text in ("http://evil.example/x", "see EVIL.example", "a.b.evil.example now", "(evil.example)"):
            assert rule.check(to(1, text), 0) == "BLOCKED_DOMAIN", text
        for text in ("http://notevil.example", "evil.example.org", "evil example"):
            assert rule.check(to(1, text), 0) == "", text

    def test_too_many_links(self) -> None:
        """Five different links pass, six do not; one that is repeated is one."""
        links = [f"https://shop.example/{n}" for n in range(6)]
        assert Links().check(to(1, " ".join(links[:5] * 3)), 0) == ""
        assert Links().check(to(1, " ".join(links)), 0) == "TOO_MANY_LINKS"

    def test_too_many_contacts(self) -> None:
        """E-mail addresses and international phone numbers count together."""
        contacts = ["+44 20 7946 0000", "+1 (555) 010-9999", *(f"a{n}@mail.example" for n in range(4))]
        assert Links().check(to(1, ", ".join(contacts[:5])), 0) == ""
        assert Links().check(to(1, ", ".join(contacts)), 0) == "TOO_MANY_CONTACTS"

    def test_dates_and_prices_are_no_contacts(self) -> None:
        """A list of days, prices and order numbers passes."""
        text = " ".join(f"2026-11-{n:02} 10:00, 12 500 000, 4006381333931" for n in range(1, 29))
        assert Links().check(to(1, text), 0) == ""

    @pytest.mark.parametrize("piece", ["a", "a.", "a-", "+1", "a@a.", "www.", "http://", "+1 ", "a@"])
    def test_no_text_takes_long(self, piece: str) -> None:
        """The patterns do not blow up on any text, as a quadratic one would."""
        started = time.process_time()
        Links(blocked_domains=["x.example"]).check(to(1, piece * (4096 // len(piece))), 0)
        assert time.process_time() - started < 0.05


class TestBlocklist:
    """Blocked senders and words."""

    def test_gtube(self) -> None:
        """The standard test string is spam without any configuration, also within a text."""
        assert Blocklist().check(to(1, GTUBE), 0) == "BLOCKED_WORD"
        assert Blocklist().check(to(1, f"try this: {GTUBE}."), 0) == "BLOCKED_WORD"

    def test_whole_words(self) -> None:
        """A word is blocked in any case, but not as a part of another word."""
        rule = Blocklist(words=["ass"])
        assert rule.check(to(1, "What an ASS!"), 0) == "BLOCKED_WORD"
        assert rule.check(to(1, "a first class bass"), 0) == ""

    def test_senders(self) -> None:
        """Blocked senders are rejected whatever they write; without a list nobody is."""
        assert Blocklist(senders=["anna"]).check(HELLO, 0) == "BLOCKED_SENDER"
        assert Blocklist(words=()).check(HELLO, 0) == ""


@given(st.text(min_size=1, max_size=4096))
def test_ordinary_rules_pass_a_lone_message(text: str) -> None:
    """No single text without links, contacts and blocked words is rejected, whatever it looks like."""
    if "@" in text or "+" in text or "www" in text.casefold() or "http" in text.casefold():
        return
    rules: list[Rule] = [Blocklist(), Links(), Flood(), NearDuplicate()]
    assert [rule.check(to(1, text), 0) for rule in rules] == [""] * 4


async def test_a_redelivered_message_counts_once() -> None:
    """The same message again gets the same verdict, and the flood does not grow by it."""
    rules = Rules([Flood(messages=1)], clock=lambda _: 0.0)
    assert await rules.check([HELLO] * 5) == [PASS] * 5
    assert await rules.check([replace(HELLO, message_id="2")]) == [reject("flood", "TOO_MANY_MESSAGES")]


async def test_an_edit_is_judged_by_its_own_text() -> None:
    """A message that passed and is then edited into spam is not remembered as good."""
    rules = Rules([Blocklist()])
    assert await rules.check([HELLO]) == [PASS]
    assert await rules.check([replace(HELLO, text=GTUBE)]) == [reject("blocklist", "BLOCKED_WORD")]


async def test_what_is_judged_late_counts_when_it_was_sent() -> None:
    """A sender whose messages waited an hour for antispam is no flood when they come at once."""
    hour = [replace(HELLO, message_id=str(n), created_at=n * 60_000) for n in range(60)]
    assert await Rules([Flood(messages=1)], clock=time_of_sending()).check(hour) == [PASS] * 60
    second = [replace(HELLO, message_id=str(n), created_at=n) for n in range(2)]
    assert (await Rules([Flood(messages=1)], clock=time_of_sending()).check(second))[1] != PASS


async def test_a_broken_rule_leaves_messages_unchecked() -> None:
    """A rule that raises is no verdict, and the other rules still reject."""

    class Broken:
        name = "broken"

        def check(self, candidate: Candidate, now: float) -> str:
            raise ZeroDivisionError

    rules = Rules([Broken(), Blocklist()], clock=lambda _: 0.0)
    assert await rules.check([to(1), to(2, GTUBE)]) == [
        unchecked("broken", "CHECKER_FAILED"),
        reject("blocklist", "BLOCKED_WORD"),
    ]


@given(st.lists(st.integers(0, 20)))
def test_recent_is_bounded(keys: list[int]) -> None:
    """It holds the keys that were touched last, no more than its size."""
    recent: Recent[int, list[int]] = Recent(5, list)
    for key in keys:
        recent.touch(key)
    newest = list(dict.fromkeys(reversed(keys)))[:5]
    assert len(recent) == len(newest)
    assert all(key in recent._values for key in newest)
