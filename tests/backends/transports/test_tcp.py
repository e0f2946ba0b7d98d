"""A name becomes addresses, the addresses are judged, one of them is connected to."""

import errno
import ipaddress
import math
import socket
from collections.abc import AsyncIterator, Mapping

import attrs
import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from mcp_gateway.backends.transports import tcp
from mcp_gateway.backends.transports.dial import Dialler
from mcp_gateway.backends.transports.origin import read_origin
from mcp_gateway.backends.transports.tcp import Address
from mcp_gateway.config.spec import HttpTarget, TlsSpec
from mcp_gateway.errors import BackendGone, Executed
from mcp_gateway.values import BackendKey


@attrs.define(eq=False)
class Network(trio.abc.SocketFactory, trio.abc.HostnameResolver):
    """Names that lead anywhere, and addresses that answer, refuse or stay silent."""

    names: Mapping[str, list[str]] = attrs.field(factory=dict)
    refused: Mapping[str, int] = attrs.field(factory=dict)
    """By address: the error of a connect; all others connect."""
    slow_s: Mapping[str, float] = attrs.field(factory=dict)
    """By address: how long a connect takes; others none."""
    families: frozenset[int] = frozenset({socket.AF_INET, socket.AF_INET6})
    """Those that the machine has."""
    own: str = "198.51.100.1"
    """The machine's address."""
    began_at: float = attrs.field(factory=trio.current_time)
    tried: list[tuple[str, float]] = attrs.field(factory=list)
    opened: list["FakeSocket"] = attrs.field(factory=list)

    @property
    def left(self) -> list[str]:
        """Sockets that are still open."""
        return [sock.ip for sock in self.opened if not sock.closed]

    def socket(
        self,
        family: int = -1,
        type: int = -1,  # noqa: A002  # the name that Trio gives it
        proto: int = -1,
    ) -> "trio.socket.SocketType":
        """See ``trio.abc.SocketFactory``."""
        if family not in self.families:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        made = FakeSocket(self)
        self.opened.append(made)
        return made

    async def getaddrinfo(  # type: ignore[override]  # the part that is asked for here
        self,
        host: bytes | None,
        port: bytes | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002  # the name that Trio gives it
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]]:
        """See ``trio.abc.HostnameResolver``."""
        await trio.lowlevel.checkpoint()
        found = self.names[(host or b"").decode()]
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (ip, 80, 0, 0))
            if ":" in ip
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80))
            for ip in found
        ]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        """Nobody asks."""
        raise NotImplementedError


class FakeSocket(trio.socket.SocketType):
    """What ``connect`` and ``trio.SocketStream`` use of a socket."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.ip = ""
        self.closed = False

    @property
    def type(self) -> socket.SocketKind:
        """What ``trio.SocketStream`` insists on."""
        return socket.SOCK_STREAM

    async def connect(self, address: tuple[str, int]) -> None:
        """Take as long, and end, as the network says."""
        self.ip = address[0]
        self.network.tried.append((self.ip, round(trio.current_time() - self.network.began_at, 6)))
        how = self.network.refused.get(self.ip, 0)
        await trio.sleep(self.network.slow_s.get(self.ip, 0.0))
        if how:
            raise OSError(how, "refused by the test")

    def getsockname(self) -> tuple[str, int]:
        """This end."""
        return self.network.own, 50_000

    def getpeername(self) -> tuple[str, int]:
        """The other end."""
        return self.ip, 80

    def setsockopt(self, /, level: int, optname: int, value: object = None, optlen: int | None = None) -> None:
        """Options change nothing."""

    def close(self) -> None:
        """Count."""
        self.closed = True


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    made = Network()
    trio.socket.set_custom_socket_factory(made)
    trio.socket.set_custom_hostname_resolver(made)
    yield made
    trio.socket.set_custom_socket_factory(None)
    trio.socket.set_custom_hostname_resolver(None)


def addresses(*ips: str) -> tuple[Address, ...]:
    return tuple(Address(family=socket.AF_INET, sockaddr=(ip, 80)) for ip in ips)


@pytest.mark.parametrize(
    "ip, why",
    [
        pytest.param("127.0.0.1", "a loopback address", id="loopback"),
        pytest.param("127.9.9.9", "a loopback address", id="all of 127/8"),
        pytest.param("::1", "a loopback address", id="loopback of IPv6"),
        pytest.param("::ffff:127.0.0.1", "a loopback address", id="mapped"),
        pytest.param("64:ff9b::7f00:1", "a loopback address", id="translated"),
        pytest.param("169.254.169.254", "a link-local address", id="metadata service"),
        pytest.param("64:ff9b::a9fe:a9fe", "a link-local address", id="metadata service, translated"),
        pytest.param("fe80::1", "a link-local address", id="link of IPv6"),
        pytest.param("0.0.0.0", "an unspecified address", id="this machine"),
        pytest.param("0.1.2.3", "an unspecified address", id="this network"),
        pytest.param("::", "an unspecified address", id="unspecified of IPv6"),
        pytest.param("224.0.0.1", "a multicast address", id="multicast"),
        pytest.param("ff02::1", "a multicast address", id="multicast of IPv6"),
        pytest.param("10.96.0.1", "", id="a cluster's own"),
        pytest.param("192.0.2.1", "", id="another machine"),
        pytest.param("2001:db8::1", "", id="another machine by IPv6"),
        pytest.param("::ffff:10.0.0.1", "", id="another machine, mapped"),
    ],
)
def test_addresses_of_this_machine_and_its_link_are_told_apart(ip: str, why: str) -> None:
    assert tcp.unroutable(ipaddress.ip_address(ip)) == why


def test_one_bad_address_is_enough() -> None:
    assert tcp.refusal("x.test", addresses("192.0.2.1")) == ""
    told = tcp.refusal("x.test", addresses("192.0.2.1", "127.0.0.1"))
    assert told == "x.test leads to 127.0.0.1, a loopback address, where no server may be"
    zoned = Address(family=socket.AF_INET6, sockaddr=("fe80::1%eth0", 80, 0, 2))
    assert "link-local" in tcp.refusal("x.test", [zoned])


async def test_the_families_alternate(autojump_clock: MockClock, network: Network) -> None:
    network.names = {"x.test": ["2001:db8::1", "2001:db8::2", "192.0.2.1", "2001:db8::1"]}
    found = await tcp.resolve("x.test", 80)
    assert [str(address.ip) for address in found] == ["2001:db8::1", "192.0.2.1", "2001:db8::2"]


async def test_a_silent_address_costs_a_quarter_of_a_second(autojump_clock: MockClock, network: Network) -> None:
    network.slow_s = {"192.0.2.1": math.inf}
    stream = await tcp.connect(addresses("192.0.2.1", "192.0.2.2", "192.0.2.3"))
    assert network.tried == [("192.0.2.1", 0.0), ("192.0.2.2", 0.25)]
    assert network.left == ["192.0.2.2"]
    assert stream.socket is network.opened[1]


async def test_a_refusing_address_costs_nothing(autojump_clock: MockClock, network: Network) -> None:
    network.refused = {"192.0.2.1": errno.ECONNREFUSED}
    await tcp.connect(addresses("192.0.2.1", "192.0.2.2"))
    assert network.tried == [("192.0.2.1", 0.0), ("192.0.2.2", 0.0)]
    assert network.left == ["192.0.2.2"]


async def test_a_family_that_the_machine_has_not_costs_nothing(autojump_clock: MockClock, network: Network) -> None:
    network.families = frozenset({socket.AF_INET})
    absent = Address(family=socket.AF_INET6, sockaddr=("2001:db8::1", 80, 0, 0))
    await tcp.connect([absent, *addresses("192.0.2.2")])
    assert network.tried == [("192.0.2.2", 0.0)]
    with pytest.raises(OSError, match="not supported"):
        await tcp.connect([absent])


async def test_when_all_fail_the_first_reason_is_told(autojump_clock: MockClock, network: Network) -> None:
    network.refused = {"192.0.2.1": errno.ECONNREFUSED, "192.0.2.2": errno.EHOSTUNREACH}
    with pytest.raises(OSError, match="refused by the test") as caught:
        await tcp.connect(addresses("192.0.2.1", "192.0.2.2"))
    assert caught.value.errno == errno.ECONNREFUSED
    assert network.left == []


async def test_of_two_that_connect_at_once_one_is_kept(autojump_clock: MockClock, network: Network) -> None:
    network.slow_s = {"192.0.2.1": tcp.STAGGER_S}
    first = await tcp.connect(addresses("192.0.2.1", "192.0.2.2"))
    assert network.left == [first.socket.ip]  # type: ignore[attr-defined]  # the fake one


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.3])
async def test_cancelling_leaves_no_socket(autojump_clock: MockClock, network: Network, after_s: float) -> None:
    network.slow_s = {"192.0.2.1": math.inf, "192.0.2.2": math.inf}
    with trio.move_on_after(after_s) as scope:
        await tcp.connect(addresses("192.0.2.1", "192.0.2.2"))
    assert scope.cancelled_caught
    assert network.left == []


async def test_cancelling_in_the_moment_of_success_leaves_no_socket(
    autojump_clock: MockClock, network: Network
) -> None:
    with trio.CancelScope() as scope:

        async def connect(self: FakeSocket, address: tuple[str, int]) -> None:
            self.ip = address[0]
            scope.cancel("just now")

        FakeSocket.connect, before = connect, FakeSocket.connect  # type: ignore[method-assign]  # one moment of it
        try:
            await tcp.connect(addresses("192.0.2.1"))
        finally:
            FakeSocket.connect = before  # type: ignore[method-assign]  # as it was
    assert scope.cancelled_caught
    assert network.left == []


async def test_a_name_is_judged_at_every_dial_and_never_asked_again(
    autojump_clock: MockClock, network: Network
) -> None:
    origin = read_origin(HttpTarget(url="http://x.test/mcp"))
    dialler = Dialler(key=BackendKey("x"), origin=origin, tls=TlsSpec(), connect_s=5.0, routable_only=True)
    for ips in (["127.0.0.1"], ["192.0.2.1", "::1"], ["169.254.169.254"]):
        network.names = {"x.test": ips}
        with pytest.raises(BackendGone, match=r"x\.test leads to .* where no server may be") as caught:
            await dialler.dial()
        assert caught.value.executed is Executed.NO
    assert network.tried == []


async def test_an_address_of_our_own_is_not_another_machine_s(autojump_clock: MockClock, network: Network) -> None:
    """A name that a tenant owns may lead to our pod, whose address looks like any other."""
    network.names = {"x.test": [network.own]}
    origin = read_origin(HttpTarget(url="http://x.test/mcp"))
    dialler = Dialler(key=BackendKey("x"), origin=origin, tls=TlsSpec(), connect_s=5.0, routable_only=True)
    with pytest.raises(BackendGone, match="leads to the gateway's own machine") as caught:
        await dialler.dial()
    assert caught.value.executed is Executed.NO
    assert network.left == []


def test_a_target_of_a_file_may_be_anywhere() -> None:
    assert not HttpTarget(url="http://127.0.0.1/mcp").routable_only
