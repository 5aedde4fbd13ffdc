"""Frames as the library on the other side reads them."""

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from edge.frames import text_frame


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
def test_a_client_reads_what_was_framed(size: int) -> None:
    """At each border of the length's encoding the client gets one whole text frame, and nothing is left."""
    client = ClientProtocol(parse_uri("ws://127.0.0.1/ws"), state=OPEN, max_size=None)
    text = b"x" * size
    client.receive_data(text_frame(text) + text_frame(b"next"))
    assert client.events_received() == [Frame(Opcode.TEXT, text), Frame(Opcode.TEXT, b"next")]
