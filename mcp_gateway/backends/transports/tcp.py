"""A TCP connection in three steps: resolve a name, check its addresses, connect to one of them.

Owns the three steps. Deliberately knows nothing of TLS, proxies and HTTP (``dial``).
Invariant: what is connected to is an address that was checked, never the name again,
so that a name which changes its mind between the steps gains nothing.
"""

import ipaddress
import socket
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Final, TypeAlias

import attrs
import trio

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

STAGGER_S: Final = 0.25
"""RFC 8305, 5: "Connection Attempt Delay ... 250 milliseconds"."""
_CARRIES_IPV4: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052, 2.1: the well-known prefix, whose last 32 bits are an IPv4 address."""
_THIS_NETWORK: Final = ipaddress.IPv4Network("0.0.0.0/8")
"""RFC 1122, 3.2.1.3; Linux connects 0.0.0.0 to the machine itself."""


@attrs.frozen(kw_only=True)
class Address:
    """One way to connect: ``sockaddr`` is what the socket is given, numbers only."""

    family: int
    sockaddr: tuple[str | int | bytes, ...]

    @property
    def ip(self) -> IpAddress:
        """Without the zone of a link-local IPv6 address."""
        return ipaddress.ip_address(str(self.sockaddr[0]).partition("%")[0])


async def resolve(host: str, port: int) -> tuple[Address, ...]:
    """Every address of a name, the families alternating (RFC 8305, 4), the resolver's order otherwise.

    Raises:
        OSError: there is none.
    """
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [Address(family=family, sockaddr=sockaddr) for family, _, _, _, sockaddr in found]
    first = [address for address in addresses if address.family == addresses[0].family]
    others = [address for address in addresses if address.family != addresses[0].family]
    mixed = chain.from_iterable(zip_longest(first, others))
    return tuple(dict.fromkeys(address for address in mixed if address is not None))


def refusal(host: str, addresses: Sequence[Address]) -> str:
    """Why a name must not be connected to: one of its addresses is the machine's own or its link's; empty: it may be.

    One is enough: a name with a good and a bad address is somebody's try to get past.
    """
    found = ((address.ip, unroutable(address.ip)) for address in addresses)
    return next((f"{host} leads to {ip}, {why}, where no server may be" for ip, why in found if why), "")


def unroutable(ip: IpAddress) -> str:
    """What keeps an address from being another machine's; empty: nothing."""
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _CARRIES_IPV4 else None)
        if inner is not None:
            return unroutable(inner)
    elif ip in _THIS_NETWORK:
        return "an unspecified address"
    kinds = (
        (ip.is_loopback, "a loopback address"),
        (ip.is_link_local, "a link-local address"),
        (ip.is_multicast, "a multicast address"),
        (ip.is_unspecified, "an unspecified address"),
    )
    return next((kind for is_one, kind in kinds if is_one), "")


async def connect(addresses: Sequence[Address]) -> trio.SocketStream:
    """Connect to the first of several addresses that answers, each tried ``STAGGER_S`` after the one before it.

    Raises:
        OSError: none did; the reason of the first.
    """
    winners: list[trio.SocketStream] = []
    failures: list[OSError] = []
    won = False
    try:
        async with trio.open_nursery() as nursery:
            for address in addresses:
                failed = trio.Event()
                nursery.start_soon(_attempt, address, winners, failures, failed, nursery.cancel_scope)
                with trio.move_on_after(STAGGER_S):
                    await failed.wait()
        won = bool(winners)
    finally:
        if winners and not won:  # cancelled from outside in the very moment
            winners[0].socket.close()
    if not won:
        raise failures[0]
    return winners[0]


async def _attempt(
    address: Address,
    winners: list[trio.SocketStream],
    failures: list[OSError],
    failed: trio.Event,
    race: trio.CancelScope,
) -> None:
    try:
        sock = trio.socket.socket(address.family, socket.SOCK_STREAM)  # fails where the machine has no such family
        connected = False
        try:
            await sock.connect(address.sockaddr)
            connected = not winners
        finally:
            if not connected:
                sock.close()
    except OSError as error:
        failures.append(error)
        failed.set()
        return
    if connected:
        winners.append(trio.SocketStream(sock))  # sets TCP_NODELAY
        race.cancel("connected to another address")


def leads_home(stream: trio.SocketStream) -> bool:
    """Whether a connection has both its ends on this machine: then one of its own addresses was connected to."""
    own, peer = stream.socket.getsockname(), stream.socket.getpeername()
    return bool(own[0] == peer[0])
