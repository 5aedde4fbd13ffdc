"""How the checkers' verdicts become one."""

from hypothesis import given
from hypothesis import strategies as st

from antispam.verdict import PASS, Decision, Verdict, merge, reject, unchecked

verdicts = st.lists(
    st.one_of(
        st.just(PASS),
        st.builds(reject, st.sampled_from(["flood", "links"]), st.just("SPAM")),
        st.builds(unchecked, st.sampled_from(["slow", "dead"]), st.just("OUT_OF_TIME")),
    )
)


@given(verdicts)
def test_any_reject_wins(given_verdicts: list[Verdict]) -> None:
    """A reject beats everything, a missing answer beats a pass, and only passes make a pass."""
    decisions = {verdict.decision for verdict in given_verdicts}
    expected = next((one for one in (Decision.REJECT, Decision.UNCHECKED) if one in decisions), Decision.PASS)
    assert merge(given_verdicts).decision is expected


def test_the_first_that_decides_is_named() -> None:
    """Of several rejects the first checker's reason is the verdict's."""
    merged = merge([PASS, unchecked("slow", "OUT_OF_TIME"), reject("flood", "A"), reject("links", "B")])
    assert merged == reject("flood", "A")
