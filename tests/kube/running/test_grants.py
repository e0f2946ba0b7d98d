"""References across namespaces: allowed exactly while a ReferenceGrant of the target's namespace says so in full."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest

from mcp_gateway.kube import schema
from tests.support.cluster import Document, grant, plain
from tests.support.kube.tenants import Tenant, until

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(120)]

WRONG: Final[Mapping[str, Mapping[str, str]]] = {
    "source group": {"group": "example.com"},
    "source kind": {"kind": "MCPVirtualServer"},
    "source namespace": {"namespace": "default"},
    "target group": {"to_group": "example.com"},
    "target kind": {"to_kind": "GatewayClass"},
    "target name": {"to_name": "another"},
    "namespace": {"inside": "default"},
}


@pytest.mark.parametrize("field", WRONG)
def test_a_grant_that_is_wrong_in_one_field_allows_nothing_until_it_is_right(tenant: Tenant, field: str) -> None:
    wrong, right = _grant(tenant, WRONG[field]), _grant(tenant, {})
    everything = [one for one in tenant.everything() if one["kind"] != "ReferenceGrant"]
    tenant.apply(*everything, wrong)
    message = tenant.wait("Ready", "False", "ReferenceGrantRequired", kind=schema.EXTENSION, name="extension")
    assert tenant.system in message
    _settle(tenant)
    assert tenant.conditions(schema.EXTENSION, "extension")["Ready"][1] == "ReferenceGrantRequired"
    assert not tenant.serves()
    tenant.apply(right)
    until(tenant.serves)
    tenant.wait_ready()
    tenant.remove(right)
    until(lambda: not tenant.serves())
    tenant.wait("Ready", "False", "ReferenceGrantRequired", kind=schema.EXTENSION, name="extension")
    tenant.wait("Ready", "False", "NotReady")


Pieces = Callable[[Tenant, str], tuple[Document, ...]]
"""Everything, with one thing in a namespace of its own that nobody has allowed to be referred to."""


def _route_elsewhere(tenant: Tenant, other: str) -> tuple[Document, ...]:
    route = _moved(tenant.route(rules=[{"backendRefs": [{"name": "server", "port": 9090, "namespace": other}]}]), other)
    registration = tenant.registration()
    registration["spec"]["targetRef"]["namespace"] = other
    return tenant.gateway(), tenant.grant(), tenant.extension(), _moved(tenant.service(), other), route, registration


def _service_elsewhere(tenant: Tenant, other: str) -> tuple[Document, ...]:
    route = tenant.route(rules=[{"backendRefs": [{"name": "server", "port": 9090, "namespace": other}]}])
    service = _moved(tenant.service(), other)
    return tenant.gateway(), tenant.grant(), tenant.extension(), service, route, tenant.registration()


@pytest.mark.parametrize(
    "pieces", [pytest.param(_route_elsewhere, id="HTTPRoute"), pytest.param(_service_elsewhere, id="Service")]
)
def test_the_grant_that_a_message_asks_for_is_the_one_that_helps(tenant: Tenant, pieces: Pieces) -> None:
    other = tenant.cluster.create_namespace(f"{tenant.name}-other")
    tenant.apply(*pieces(tenant, other))
    message = tenant.wait("ResolvedRefs", "False", "RefNotPermitted")
    assert not tenant.serves()
    asked = _asked_for(message)
    assert asked["metadata"]["namespace"] == other
    tenant.apply(asked)
    until(tenant.serves)
    tenant.wait_ready()
    tenant.remove(asked)
    until(lambda: not tenant.serves())
    tenant.wait("ResolvedRefs", "False", "RefNotPermitted")


def test_without_a_grant_nobody_learns_whether_the_target_exists(tenant: Tenant) -> None:
    other = tenant.cluster.create_namespace(f"{tenant.name}-other")
    there, absent = tenant.registration("there"), tenant.registration("absent", route="no-such-route")
    for one in (there, absent):
        one["spec"]["targetRef"]["namespace"] = other
    tenant.apply(tenant.gateway(), tenant.grant(), tenant.extension(), _moved(tenant.route(), other), there, absent)
    told = [tenant.wait("ResolvedRefs", "False", "RefNotPermitted", name=name) for name in ("there", "absent")]
    assert told[0] == told[1].replace("no-such-route", "route")


def _settle(tenant: Tenant) -> None:
    """Wait until whatever was written before has been heard of: a later grant of somebody else has its effect."""
    other = tenant.cluster.tenant()
    other.apply(*other.everything())
    other.wait_ready()


def _grant(tenant: Tenant, wrong: Mapping[str, str]) -> Document:
    source = (wrong.get("group", schema.GROUP), wrong.get("kind", "MCPGatewayExtension"))
    target = (wrong.get("to_group", schema.GATEWAY_GROUP), wrong.get("to_kind", "Gateway"), wrong.get("to_name", ""))
    inside = wrong.get("inside", tenant.system)
    return grant(inside, (*source, wrong.get("namespace", tenant.name)), target, name=f"allow-{tenant.name}")


def _moved(document: Document, namespace: str) -> Document:
    made = plain(document)
    return {**made, "metadata": {**made["metadata"], "namespace": namespace}}


def _asked_for(message: str) -> Document:
    """The ReferenceGrant that a message spells out."""
    found = re.search(
        r"\((?P<version>\S+)\) in namespace (?P<inside>\S+) with from: \[(?P<source>{.*})] and to: \[(?P<target>{.*})]",
        message,
    )
    assert found is not None, message
    assert found["version"] == schema.REFERENCE_GRANT.api_version

    def entry(text: str) -> dict[str, Any]:
        pairs = (pair.split(": ") for pair in text.strip("{}").split(", "))
        return {key: value.strip('"') for key, value in pairs}

    spec = {"from": [entry(found["source"])], "to": [entry(found["target"])]}
    metadata = {"name": "asked-for", "namespace": found["inside"]}
    return {"apiVersion": found["version"], "kind": "ReferenceGrant", "metadata": metadata, "spec": spec}
