"""Under which address a client is counted, behind which proxies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.addresses import UNKNOWN, Proxies

PROXIES = Proxies(["127.0.0.0/8", "10.0.0.0/8", "fd00::/8"])
CLIENT = "203.0.113.7"


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "counted"),
    [
        (CLIENT, [], CLIENT),
        (CLIENT, ["198.51.100.1"], CLIENT),
        ("10.0.0.1", [CLIENT], CLIENT),
        ("10.0.0.1", [f"198.51.100.1, {CLIENT}"], CLIENT),
        ("10.0.0.1", ["198.51.100.1", CLIENT], CLIENT),
        ("10.0.0.1", [f"198.51.100.1, {CLIENT}, 10.9.9.9"], CLIENT),
        ("10.0.0.1", [f"{CLIENT}:4711"], CLIENT),
        ("10.0.0.1", [f"::ffff:{CLIENT}"], CLIENT),
        ("10.0.0.1", [f"{CLIENT}, nonsense"], UNKNOWN),
        ("10.0.0.1", [f"nonsense, {CLIENT}"], CLIENT),
        ("10.0.0.1", ["10.0.0.2"], UNKNOWN),
        ("10.0.0.1", [], UNKNOWN),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["127.0.0.1"], "127.0.0.1"),
        ("", [CLIENT], UNKNOWN),
        ("fd00::1", ["[2001:db8:1:2:3:4:5:6]:443"], "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", [], "2001:db8:1:2::/64"),
    ],
)
def test_who_it_is(peer: str, forwarded_for: list[str], counted: str) -> None:
    """The last whom no proxy of ours vouches for; nobody where all are proxies; an IPv6 customer is one."""
    assert PROXIES.client(peer, forwarded_for) == counted


def test_x_real_ip_counts_where_there_is_nothing_else() -> None:
    """Some proxies set X-Real-IP alone; it is believed from a proxy of ours only, and after the other."""
    assert PROXIES.client("10.0.0.1", [], CLIENT) == CLIENT
    assert PROXIES.client("10.0.0.1", ["198.51.100.1"], CLIENT) == "198.51.100.1"
    assert PROXIES.client("198.51.100.1", [], CLIENT) == "198.51.100.1"


def test_no_network_is_refused() -> None:
    """A setting that is no network is refused at the start."""
    with pytest.raises(ValueError, match=r"10\.0\.0"):
        Proxies(["10.0.0"])


@given(st.lists(st.text(max_size=60), max_size=5))
def test_a_client_cannot_name_itself(forged: list[str]) -> None:
    """Whatever a client writes in front of what the proxy adds, it is counted under its own address."""
    assert PROXIES.client("10.0.0.1", [*forged, CLIENT]) == CLIENT
    assert PROXIES.client(CLIENT, forged) == CLIENT
