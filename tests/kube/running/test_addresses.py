"""Where a server must not be, whatever a tenant writes: on the gateway's own machine, its link, or in the gateway."""

import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Final

import attrs
import pytest

from mcp_gateway.kube import schema
from tests.support.cluster import Document, backend
from tests.support.kube.installation import SYSTEM
from tests.support.kube.tenants import Running, Tenant, until

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(120)]

AWAY: Final = "192.0.2.7"
"""RFC 5737: nobody's; a check that looks at addresses alone finds no fault with it."""


@attrs.define
class Trap:
    """A port of this machine that must not be connected to."""

    listener: socket.socket
    visits: int = 0

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def run(self) -> None:
        while True:
            try:
                visitor, _ = self.listener.accept()
            except OSError:
                return
            self.visits += 1
            visitor.close()


@pytest.fixture
def trap() -> Iterator[Trap]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Trap(listener)
        threading.Thread(target=made.run, daemon=True).start()
        yield made
        listener.shutdown(socket.SHUT_RDWR)


def external(tenant: Tenant, name: str, port: int) -> tuple[Document, ...]:
    """A server outside the cluster, as far as a tenant says."""
    ports = [{"name": "http", "port": port}]
    service = tenant.service(type="ExternalName", externalName=name, ports=ports)
    del service["spec"]["clusterIP"]
    rules = [{"backendRefs": [backend("server", port)]}]
    registration = tenant.registration(timeouts={"connect": "1s"})
    return tenant.gateway(), tenant.grant(), tenant.extension(), service, tenant.route(rules=rules), registration


@pytest.mark.parametrize(
    "addresses",
    [
        pytest.param(["127.0.0.1"], id="loopback"),
        pytest.param(["169.254.169.254"], id="metadata of the cloud"),
        pytest.param(["fe80::1"], id="link-local"),
        pytest.param(["::1"], id="loopback of IPv6"),
        pytest.param(["::ffff:127.0.0.1"], id="loopback in IPv6's clothes"),
        pytest.param(["0.0.0.0"], id="unspecified"),
        pytest.param(["224.0.0.1"], id="multicast"),
        pytest.param([AWAY, "127.0.0.1"], id="one good and one bad"),
    ],
)
def test_a_name_outside_that_leads_to_this_machine_or_its_link_is_not_dialled(
    tenant: Tenant, trap: Trap, addresses: Sequence[str]
) -> None:
    name = f"{tenant.name}.example.com"
    tenant.cluster.names.give(name, [*addresses])
    tenant.apply(*external(tenant, name, trap.port))
    message = tenant.wait("Connected", "False", "ConnectionFailed")
    assert f"{name}. leads to" in message
    assert "where no server may be" in message
    assert not tenant.serves()
    assert trap.visits == 0


@pytest.mark.parametrize("name", ["localhost", "169.254.169.254", "127.0.0.1"])
def test_what_is_no_name_of_another_host_is_not_dialled(tenant: Tenant, trap: Trap, name: str) -> None:
    tenant.cluster.names.give("localhost", ["127.0.0.1"])
    tenant.apply(*external(tenant, name, trap.port))
    message = tenant.wait("Ready", "False", "NotReady")
    until(lambda: "where no server may be" in tenant.wait("Ready", "False"))
    assert trap.visits == 0, message


def test_a_name_that_changes_between_check_and_connect_gains_nothing(tenant: Tenant, trap: Trap) -> None:
    """It is looked up once for a connection, and what was checked is what is connected to."""
    name = f"{tenant.name}.example.com"
    tenant.cluster.names.give(name, [AWAY], ["127.0.0.1"])
    tenant.apply(*external(tenant, name, trap.port))
    until(lambda: tenant.cluster.names.looked_up(name) >= 4)
    tenant.wait("Connected", "False", "ConnectionFailed")
    assert trap.visits == 0


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("mcp-gateway-broker-router.mcp-system.svc.cluster.local", id="by its Service"),
        pytest.param("mcp-gateway-broker-router.mcp-system.svc", id="shorter"),
        pytest.param("kubernetes.default.svc.cluster.local", id="API server"),
    ],
)
def test_an_external_name_leads_to_nothing_inside_the_cluster(tenant: Tenant, name: str) -> None:
    tenant.apply(*external(tenant, name, 9090))
    message = tenant.wait("ResolvedRefs", "False", "RefNotPermitted")
    assert "refer to that Service itself" in message


def test_an_external_name_does_not_lead_to_the_admin_port(tenant: Tenant) -> None:
    name, port = f"{tenant.name}.example.com", int(tenant.cluster.admin_where.rpartition(":")[2])
    tenant.cluster.names.give(name, ["127.0.0.1"])
    tenant.apply(*external(tenant, name, port))
    assert "a loopback address" in tenant.wait("Connected", "False", "ConnectionFailed")


def test_the_gateway_is_no_server_of_its_own(tenant: Tenant) -> None:
    """The grant that lets the route to us reach our Service allows no registration to make a circle of it."""
    own = backend(schema.DATA_PLANE, schema.DATA_PLANE_PORT, namespace=SYSTEM)
    tenant.apply(tenant.gateway(), tenant.grant(), tenant.extension(), tenant.registration())
    tenant.wait("Ready", "True", kind=schema.EXTENSION, name="extension")
    tenant.apply(tenant.route(rules=[{"backendRefs": [own]}]))
    message = tenant.wait("ResolvedRefs", "False", "RefNotPermitted")
    assert "the gateway itself" in message


def test_a_secret_is_never_sent_in_the_clear_to_a_server_outside(tenant: Tenant, cluster: Running) -> None:
    name = f"{tenant.name}.example.com"
    tenant.cluster.names.give(name, [AWAY])
    *others, registration = external(tenant, name, 80)
    registration["spec"]["credentialRef"] = {"name": "token"}
    cluster.kubectl("create", "secret", "generic", "token", "-n", tenant.name, "--from-literal=token=Bearer s3cr3t")
    cluster.kubectl("label", "secret", "token", "-n", tenant.name, f"{schema.LABEL_CREDENTIAL}=true")
    tenant.apply(*others, registration)
    message = tenant.wait("ResolvedRefs", "False", "UnsupportedProtocol")
    assert "never sent over plain HTTP" in message
