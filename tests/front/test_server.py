"""Binding: which sockets an address gives, and what is said when it gives none."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mcp_gateway.front.server import BindError, addresses, bind, is_loopback_bind


@contextmanager
def bound(address: str, *, reuse_port: bool = False) -> Iterator[list[socket.socket]]:
    sockets = bind(address, reuse_port=reuse_port)
    try:
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_port_zero_takes_a_free_one() -> None:
    with bound("127.0.0.1:0") as sockets:
        (address,) = addresses(sockets)
        assert address.startswith("127.0.0.1:")
        assert not address.endswith(":0")
        assert is_loopback_bind(sockets)


def test_a_name_is_bound_on_each_of_its_addresses_with_one_port() -> None:
    with bound("localhost:0") as sockets:
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
        assert is_loopback_bind(sockets)


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_ipv6_in_brackets() -> None:
    with bound("[::1]:0") as sockets:
        assert addresses(sockets)[0].startswith("[::1]:")
        assert is_loopback_bind(sockets)
    with bound("[::]:0") as sockets:
        assert sockets[0].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0
        assert not is_loopback_bind(sockets)


def test_every_address_is_not_loopback() -> None:
    for address in (":0", "0.0.0.0:0"):
        with bound(address) as sockets:
            assert not is_loopback_bind(sockets)


@pytest.mark.parametrize(
    "address", ["", "8080", "localhost", "localhost:", "localhost:http", "127.0.0.1:65536", "::1:80", "a:1:2", "a:-1"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(BindError, match="expected HOST:PORT"):
        bind(address)


def test_an_address_in_use_is_said_in_one_line() -> None:
    with bound("127.0.0.1:0") as sockets:
        (address,) = addresses(sockets)
        with pytest.raises(BindError) as caught:
            bind(address)
    assert str(caught.value) == f"cannot listen on {address}: the address is in use"


def test_an_address_of_another_machine_is_said_in_one_line() -> None:
    with pytest.raises(BindError, match=r"cannot listen on 192\.0\.2\.1:0: \w+"):
        bind("192.0.2.1:0")


def test_a_name_that_does_not_exist_is_said_in_one_line() -> None:
    with pytest.raises(BindError, match=r"cannot listen on a\.invalid:80: "):
        bind("a.invalid:80")


def test_workers_can_share_a_port() -> None:
    with bound("127.0.0.1:0", reuse_port=True) as sockets:
        (address,) = addresses(sockets)
        with bound(address, reuse_port=True) as others:
            assert addresses(others) == [address]
