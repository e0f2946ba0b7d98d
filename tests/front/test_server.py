"""Binding: which sockets an address gives, and what is said when it gives none."""

import platform
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

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


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize("address", [":0", "[::]:0"])
@pytest.mark.parametrize("loopback", ["127.0.0.1", "::1"])
def test_every_address_is_one_of_both_families(address: str, loopback: str) -> None:
    with bound(address) as sockets:
        port = sockets[0].getsockname()[1]
        with socket.create_connection((loopback, port), timeout=5):
            pass


KERNEL_WITHOUT = """
import ctypes, errno, platform, struct, sys
from mcp_gateway.front.server import addresses, bind

libc = ctypes.CDLL(None, use_errno=True)
call = {"x86_64": 41, "aarch64": 198}[platform.machine()]
instructions = [
    (0x20, 0, 0, 0),  # the number of the call
    (0x15, 0, 3, call),  # socket?
    (0x20, 0, 0, 16),  # its first argument
    (0x15, 0, 1, int(sys.argv[1])),  # this family?
    (0x06, 0, 0, 0x00050000 | errno.EAFNOSUPPORT),
    (0x06, 0, 0, 0x7FFF0000),  # allow
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in instructions))
program = ctypes.create_string_buffer(struct.pack("HP", len(instructions), ctypes.addressof(code)))
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
print(*addresses(bind(sys.argv[2])))
"""
"""A program for which a family of addresses does not exist (seccomp), as with the kernel's ``ipv6.disable=1``."""


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64") or not has_ipv6(), reason="for Linux on x86_64 and aarch64"
)
@pytest.mark.parametrize(
    "missing, address, bound_at",
    [
        pytest.param(socket.AF_INET6, ":0", "0.0.0.0:", id="no IPv6"),
        pytest.param(socket.AF_INET, ":0", "[::]:", id="IPv6 only"),
        pytest.param(socket.AF_INET, "[::]:0", "[::]:", id="IPv6 only, and said so"),
    ],
)
async def test_every_address_is_what_this_machine_has(missing: int, address: str, bound_at: str) -> None:
    command = [sys.executable, "-c", KERNEL_WITHOUT, str(int(missing)), address]
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    (where,) = done.stdout.decode().split()
    assert where.startswith(bound_at)


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64") or not has_ipv6(), reason="for Linux on x86_64 and aarch64"
)
async def test_an_address_of_a_family_that_is_missing_is_said_in_one_line() -> None:
    command = [sys.executable, "-c", KERNEL_WITHOUT, str(int(socket.AF_INET6)), "[::1]:0"]
    done = await trio.run_process(command, capture_stderr=True, check=False)
    assert "cannot listen on [::1]:0: Address family not supported" in done.stderr.decode()


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
