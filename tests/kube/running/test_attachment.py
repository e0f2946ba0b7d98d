"""Whose word counts on a route: ours, from specs alone, and an implementation's explicit and present refusal."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest

from mcp_gateway.kube import schema
from mcp_gateway.values import JsonObject
from tests.support.cluster import Document, listener
from tests.support.kube.tenants import Tenant, until

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(120)]

THEIRS: Final = "example.net/gateway-controller"
TIME: Final = "2026-01-01T00:00:00Z"


def condition(type_: str, status: str, reason: str, generation: int, message: str = "") -> dict[str, Any]:
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": TIME,
    }


def entries(tenant: Tenant, ours: bool) -> list[JsonObject]:
    """Those in the route's status that are ours, or theirs."""
    found = tenant.document(schema.HTTP_ROUTE, tenant.key("route")).get("status", {}).get("parents", [])
    return [one for one in found if one["controllerName"].startswith(schema.CONTROLLER_NAME) is ours]


def judge(
    tenant: Tenant, status: str, reason: str, *, behind: int = 0, politely: bool = True, **parent: object
) -> None:
    """Let an implementation say of the route whether it accepts it; a rude one drops what others have said."""
    key = tenant.key("route")
    route = tenant.document(schema.HTTP_ROUTE, key)
    generation = route["metadata"]["generation"] - behind
    accepted = condition("Accepted", status, reason, generation, "the plan has no more routes")
    ref = {"name": tenant.gateway_key.name, "namespace": tenant.gateway_key.namespace, **parent}
    entry: dict[str, Any] = {"parentRef": ref, "controllerName": THEIRS, "conditions": [accepted]}
    others = entries(tenant, ours=True) if politely else []
    tenant.say(schema.HTTP_ROUTE, key, {"parents": [*others, entry]})


def change(tenant: Tenant) -> None:
    """A new generation of the route, that means the same."""
    tenant.apply(tenant.route(hostnames=[f"route.{tenant.name}.local", f"other.{tenant.name}.local"]))


def test_without_an_implementation_the_specs_decide(tenant: Tenant) -> None:
    tenant.apply(*tenant.everything())
    tenant.wait_ready()
    assert tenant.serves()
    (ours,) = entries(tenant, ours=True)
    said = {one["type"]: one["status"] for one in ours["conditions"]}  # type: ignore[union-attr,index,call-overload]  # as the API has it
    assert said == {"Accepted": "True", "ResolvedRefs": "True", "Programmed": "True"}


def test_an_implementation_that_accepts_changes_nothing_and_keeps_its_word(tenant: Tenant) -> None:
    tenant.apply(*tenant.everything())
    tenant.wait_ready()
    judge(tenant, "True", "Accepted")
    (theirs,) = entries(tenant, ours=False)
    change(tenant)
    until(lambda: _observed(entries(tenant, ours=True)) == 2)
    assert entries(tenant, ours=False) == [theirs]
    tenant.wait_ready()


def test_an_implementation_that_refuses_has_a_veto_until_it_takes_it_back(tenant: Tenant) -> None:
    tenant.apply(*tenant.everything())
    until(tenant.serves)
    judge(tenant, "False", "OverQuota")
    message = tenant.wait("Accepted", "False", "OverQuota")
    assert THEIRS in message
    assert "the plan has no more routes" in message
    tenant.wait("Ready", "False", "NotReady")
    until(lambda: not tenant.serves())
    judge(tenant, "True", "Accepted")
    until(tenant.serves)
    tenant.wait_ready()


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"status": "False", "reason": "OverQuota", "behind": 1}, id="of an older generation"),
        pytest.param({"status": "Unknown", "reason": "Pending"}, id="that it does not know yet"),
        pytest.param({"status": "False", "reason": "OverQuota", "name": "another"}, id="of another parent"),
        pytest.param({"status": "False", "reason": "OverQuota", "sectionName": "mcp"}, id="of another listener"),
    ],
)
def test_what_an_implementation_says_is_no_veto(tenant: Tenant, said: Mapping[str, Any]) -> None:
    tenant.apply(*tenant.everything())
    tenant.wait_ready()
    change(tenant)
    judge(tenant, **said)
    tenant.apply(tenant.registration(hint="looked at after that"))
    until(lambda: tenant.document(schema.REGISTRATION, tenant.key("server"))["status"]["observedGeneration"] == 2)
    tenant.wait_ready()
    assert tenant.serves()


def test_a_refusal_ends_with_the_generation_that_it_was_said_of(tenant: Tenant) -> None:
    tenant.apply(*tenant.everything())
    until(tenant.serves)
    judge(tenant, "False", "OverQuota")
    until(lambda: not tenant.serves())
    change(tenant)
    until(tenant.serves)
    tenant.wait_ready()


def test_an_implementation_that_drops_our_entry_gets_it_back_beside_its_own(tenant: Tenant) -> None:
    tenant.apply(*tenant.everything())
    tenant.wait_ready()
    judge(tenant, "True", "Accepted", politely=False)
    until(lambda: entries(tenant, ours=True))
    assert len(entries(tenant, ours=False)) == 1


def _observed(found: list[JsonObject]) -> int:
    (entry,) = found
    conditions: Any = entry["conditions"]
    return int(conditions[0]["observedGeneration"])


# --- what the specs say ----------------------------------------------------------------------------------------------

Change = Callable[[Tenant], Document]


def _parents(*refs: dict[str, object]) -> Change:
    return lambda tenant: tenant.route(parents=[{"name": "gateway", "namespace": tenant.system, **one} for one in refs])


def _listeners(**more: object) -> Change:
    return lambda tenant: tenant.gateway(**more)


def _namespaces(**namespaces: object) -> Change:
    return _listeners(allowedRoutes={"namespaces": namespaces})


def _servers_only(tenant: Tenant) -> Document:
    """A Gateway that lets the extension in and not the servers' routes."""
    made = tenant.gateway()
    closed = listener("servers", f"*.{tenant.name}.local", allowedRoutes={"namespaces": {"from": "Same"}})
    return {**made, "spec": {**made["spec"], "listeners": [made["spec"]["listeners"][0], closed]}}


@pytest.mark.parametrize(
    "wrong, right, reason, words",
    [
        pytest.param(
            _parents({"sectionName": "nobody"}), _parents({"sectionName": "servers"}),
            "NoMatchingParent", ("named by its parentRef", "mcp (8080), servers (8080)"), id="section",
        ),
        pytest.param(
            _parents({"port": 9999}), _parents({"port": 8080}),
            "NoMatchingParent", ("port 9999", "servers (8080)"), id="port",
        ),
        pytest.param(
            _parents({"name": "another"}), _parents({}),
            "NoMatchingParent", ("no MCPGatewayExtension targets Gateway", "create"), id="another Gateway",
        ),
        pytest.param(
            lambda tenant: tenant.route(hostnames=["elsewhere.example"]), lambda tenant: tenant.route(),
            "NoMatchingListenerHostname", ("elsewhere.example", "change the hostnames"), id="hostname",
        ),
        pytest.param(
            _servers_only, _namespaces(**{"from": "All"}),
            "NoMatchingListenerHostname", ("change the hostnames",), id="listener closed to the namespace",
        ),
        pytest.param(
            _listeners(allowedRoutes={"namespaces": {"from": "All"}, "kinds": [{"kind": "GRPCRoute"}]}),
            _namespaces(**{"from": "All"}),
            "NotAllowedByListeners", ("allowedRoutes",), id="kinds",
        ),
    ],
)  # fmt: skip  # one case, two lines
def test_a_route_that_does_not_fit_is_refused_by_reason_and_served_once_it_fits(
    tenant: Tenant, wrong: Change, right: Change, reason: str, words: tuple[str, ...]
) -> None:
    tenant.apply(*tenant.everything())
    until(tenant.serves)
    tenant.apply(wrong(tenant))
    message = tenant.wait("Accepted", "False", reason)
    assert all(one in message for one in words), message
    until(lambda: not tenant.serves())
    tenant.apply(right(tenant))
    until(tenant.serves)
    tenant.wait_ready()


def test_the_namespaces_that_a_listener_admits_are_the_border_between_tenants(tenant: Tenant) -> None:
    """Same, then a selector whose label the namespace has not, then it has."""
    same = _namespaces(**{"from": "Same"})(tenant)
    tenant.apply(*tenant.everything(), same)
    message = tenant.wait("Accepted", "False", "NotAllowedByListeners", kind=schema.EXTENSION, name="extension")
    assert f'does not allow routes from namespace "{tenant.name}"' in message
    tenant.wait("Accepted", "Unknown", "Pending")
    selector = {"matchLabels": {"plan": "gold"}}
    tenant.apply(_namespaces(**{"from": "Selector", "selector": selector})(tenant))
    tenant.cluster.create_namespace(tenant.name, plan="silver")
    tenant.wait("Accepted", "False", "NotAllowedByListeners", kind=schema.EXTENSION, name="extension")
    tenant.cluster.create_namespace(tenant.name, plan="gold")
    until(tenant.serves)
    tenant.wait_ready()
    tenant.cluster.create_namespace(tenant.name)
    until(lambda: not tenant.serves())


def test_the_listeners_in_use_are_marked_where_an_implementation_has_an_entry_and_only_while_they_are(
    tenant: Tenant,
) -> None:
    tenant.apply(*tenant.everything())
    tenant.wait_ready()
    kind, key = schema.GATEWAY, tenant.gateway_key
    programmed = condition("Programmed", "True", "Programmed", 1)
    supported: list[Any] = [{"group": schema.GATEWAY_GROUP, "kind": "HTTPRoute"}]
    entry: dict[str, Any] = {"attachedRoutes": 1, "supportedKinds": supported, "conditions": [programmed]}
    tenant.say(kind, key, {"listeners": [{"name": "mcp", **entry}]})

    def marks() -> list[Any]:
        (found,) = tenant.document(kind, key)["status"]["listeners"]
        assert found["conditions"][0] == programmed
        return [(one["type"], one["status"], one["message"]) for one in found["conditions"][1:]]

    named = f"listener in use by MCP Gateway: {tenant.name}/extension"
    until(lambda: marks() == [("MCPGatewayExtension", "True", named)])
    tenant.remove(tenant.extension())
    until(lambda: marks() == [])
