"""A virtual server with a target: offered there alone, only where it may refer to it, and never more than is there."""

import pytest

from mcp_gateway.kube import schema
from mcp_gateway.values import JsonObject
from tests.support.cluster import Document, grant, virtual_server
from tests.support.kube.tenants import Tenant, until

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(120)]


def selection(tenant: Tenant, target: Tenant, *tools: str) -> Document:
    ref = {"name": target.extension_key.name, "namespace": target.name}
    return virtual_server(tenant.key("selection"), tools=[*tools], targetRef=ref)


def header(tenant: Tenant) -> dict[str, str]:
    return {"x-mcp-virtualserver": f"{tenant.name}/selection"}


def is_refused(at: Tenant, of: Tenant) -> bool:
    """Whether the virtual server of one is unknown at the host of another."""
    return "error" in at.ask("tools/list", {}, **header(of))


def test_it_narrows_at_its_target_and_is_unknown_everywhere_else(tenant: Tenant) -> None:
    other = tenant.cluster.tenant()
    add, echo, theirs = f"{tenant.prefix()}add", f"{tenant.prefix()}echo", f"{other.prefix()}add"
    other.apply(*other.everything())
    tenant.apply(*tenant.everything(), selection(tenant, tenant, add, theirs))
    tenant.wait_ready()
    other.wait_ready()
    until(lambda: tenant.tools(**header(tenant)) == {add})
    said = f"no server offers {theirs}"  # for a moment it may say more: servers are heard one after the other
    until(lambda: said in tenant.wait("Ready", "False", "NotReady", kind=schema.VIRTUAL_SERVER, name="selection"))
    assert {add, echo} < tenant.tools()
    arguments: JsonObject = {"a": 1, "b": 2}
    assert "content" in tenant.ask("tools/call", {"name": add, "arguments": arguments}, **header(tenant))
    for name in (echo, theirs):
        assert "error" in tenant.ask("tools/call", {"name": name, "arguments": arguments}, **header(tenant)), name
    assert is_refused(other, of=tenant)


def test_into_another_namespace_it_needs_a_grant_as_long_as_it_lasts(tenant: Tenant) -> None:
    other = tenant.cluster.tenant()
    tenant.apply(*tenant.everything())
    other.apply(*other.everything(), selection(other, tenant, f"{tenant.prefix()}add"))
    tenant.wait_ready()
    kind = schema.VIRTUAL_SERVER
    message = other.wait("ResolvedRefs", "False", "RefNotPermitted", kind=kind, name="selection")
    assert f"kind: MCPVirtualServer, namespace: {other.name}" in message
    assert is_refused(tenant, of=other)
    allowed = grant(tenant.name, (kind.group, kind.kind, other.name), (schema.GROUP, schema.EXTENSION.kind, ""))
    tenant.apply(allowed)
    other.wait("Ready", "True", kind=kind, name="selection")
    assert tenant.tools(**header(other)) == {f"{tenant.prefix()}add"}
    assert is_refused(other, of=other)
    tenant.remove(allowed)
    until(lambda: is_refused(tenant, of=other))
    other.wait("ResolvedRefs", "False", "RefNotPermitted", kind=kind, name="selection")
