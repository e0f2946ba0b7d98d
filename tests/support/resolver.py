"""Names that resolve to what a test says."""

import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

import attrs
import trio

Address: TypeAlias = (
    tuple[Literal[socket.AddressFamily.AF_INET], socket.SocketKind, int, str, tuple[str, int]]
    | tuple[
        Literal[socket.AddressFamily.AF_INET6],
        socket.SocketKind,
        int,
        str,
        tuple[str, int, int, int] | tuple[int, bytes],
    ]
)
Addresses: TypeAlias = list[Address]


@attrs.frozen
class ScriptedResolver(trio.abc.HostnameResolver):
    """Every name gives the same addresses."""

    answer: Callable[[], Awaitable[Addresses]]

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002  # the name that trio gives it
        proto: int = 0,
        flags: int = 0,
    ) -> Addresses:
        return await self.answer()

    async def getnameinfo(self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int) -> tuple[str, str]:
        raise NotImplementedError


def at(host: str, port: int) -> Addresses:
    """One TCP address."""
    if ":" in host:
        return [(socket.AddressFamily.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))]
    return [(socket.AddressFamily.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]


@contextmanager
def resolving(answer: Callable[[], Awaitable[Addresses]]) -> Iterator[None]:
    """Names resolve by ``answer`` in this block."""
    before = trio.socket.set_custom_hostname_resolver(ScriptedResolver(answer))
    try:
        yield
    finally:
        trio.socket.set_custom_hostname_resolver(before)
