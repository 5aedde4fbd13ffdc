"""WebSocket text frames of a server: whole, unmasked, not compressed. Pure.

Source: RFC 6455, section 5.2.
"""

TEXT = 0x81
"""FIN and the opcode of text."""


def text_frame(text: bytes) -> bytes:
    """The frame that carries a text.

    Args:
        text: UTF-8, under 2**63 bytes.
    """
    size = len(text)
    if size < 126:
        return bytes((TEXT, size)) + text
    if size < 65_536:
        return bytes((TEXT, 126)) + size.to_bytes(2, "big") + text
    return bytes((TEXT, 127)) + size.to_bytes(8, "big") + text
