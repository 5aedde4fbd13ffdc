"""Bound series, and what Prometheus is told of them."""

import socket
import urllib.request

import pytest

from mesh import metrics

PINGS = metrics.counter("test_pings", "Pings.", ("from",))
DEPTH = metrics.gauge("test_depth", "Depth.")
TOOK = metrics.histogram("test_took", "Time.", ("by",), bounds=(0.1, 1.0), unit="s")


def test_a_series_is_bound_once() -> None:
    """The same label values are the same series; a wrong number of them is a mistake that says so."""
    assert PINGS.labels("a") is PINGS.labels("a")
    assert PINGS.labels("a") is not PINGS.labels("b")
    with pytest.raises(ValueError, match="from"):
        PINGS.labels("a", "b")


def test_prometheus_text() -> None:
    """All kinds come out under the names that Prometheus gives them; a bucket includes its bound."""
    PINGS.labels("x").add(3)
    DEPTH.labels().set(7)
    metrics.watch("test_watched", "Looked up.", lambda: 5.0)
    for seconds in (0.1, 0.5, 9.0):
        TOOK.labels("y").record(seconds)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/metrics"
    with metrics.served("test", f"127.0.0.1:{port}"), urllib.request.urlopen(url) as answer:  # ours
        lines = answer.read().decode().splitlines()
    assert {
        'test_pings_total{from="x"} 3.0',
        "test_depth 7.0",
        "test_watched 5.0",
        'test_took_seconds_bucket{by="y",le="0.1"} 1.0',
        'test_took_seconds_bucket{by="y",le="1.0"} 2.0',
        'test_took_seconds_bucket{by="y",le="+Inf"} 3.0',
        'test_took_seconds_count{by="y"} 3.0',
        'test_took_seconds_sum{by="y"} 9.6',
    } <= set(lines)
