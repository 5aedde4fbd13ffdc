"""Whose address a connection comes from, pure: behind proxies of ours it is the one that they name.

Anybody can write `X-Forwarded-For`. So it counts only where the peer is a proxy of ours, and is read from its
right end, where each proxy has added whom it saw: the first that is no proxy of ours is the client.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

IP = IPv4Address | IPv6Address

NETWORK_OF_ONE = 64
"""Bits of an IPv6 address that tell customers apart; the rest a client chooses as it likes (RFC 6177)."""

UNKNOWN = ""
"""Whoever hides behind a proxy of ours that does not say for whom it speaks."""


class Proxies:
    """The proxies whose word counts.

    Args:
        networks: their addresses, as networks (`10.0.0.0/8`).

    Raises:
        ValueError: one of them is none.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ip_network(network) for network in networks]

    def client(self, peer: str, forwarded_for: Iterable[str], real_ip: str = "") -> str:
        """Under which address a client is counted.

        Args:
            peer: the other end of the connection.
            forwarded_for: the values of `X-Forwarded-For`, as they stand in the request.
            real_ip: the value of `X-Real-IP`; counts where there is no other.

        Returns:
            An IPv4 address or an IPv6 network; `UNKNOWN` where only proxies are named, for such an address
            stands for many. Loopback is known: it is the machine itself.
        """
        address = _parsed(peer)
        if address is None:
            return UNKNOWN  # a unix socket
        hops = ",".join(forwarded_for) or real_ip
        while self._trusts(address) and hops:
            hops, _, named = hops.rpartition(",")
            further = _parsed(named)
            if further is None:
                break  # what cannot be read is nobody's word
            address = further
        return UNKNOWN if self._trusts(address) and not address.is_loopback else _counted(address)

    def _trusts(self, address: IP) -> bool:
        return any(address in network for network in self._networks)


@lru_cache(maxsize=4096)
def _parsed(text: str) -> IP | None:
    """An address with or without a port, brackets and zone; None where it is none."""
    host = text.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _counted(address: IP) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(ip_network((address, NETWORK_OF_ONE), strict=False))
