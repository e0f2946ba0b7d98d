"""Gateways, listeners and extensions beside each other. Numbers are those of docs/kubernetes-acceptance.md."""

import pytest

from tests.kube.acceptance.conftest import Open
from tests.support.kube.documents import extension, grant, listener, registration, route, service
from tests.support.kube.objects import Document, condition
from tests.support.kube.place import Place, until

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(120)]

EXTENSION = "MCPGatewayExtension"


def only_from(namespace: str) -> Document:
    """Routes of one namespace may be attached."""
    labels = {"kubernetes.io/metadata.name": namespace}
    return {"namespaces": {"from": "Selector", "selector": {"matchLabels": labels}}}


def mark_of(place: Place, name: str) -> Document:
    """Our condition on a listener."""
    status = place.objects.get("Gateway", place.name, "gateway")["status"]
    (entry,) = [one for one in status["listeners"] if one["name"] == name]
    return condition({"status": entry}, EXTENSION)


def implement(place: Place, *names: str) -> None:
    """Be the implementation that writes the status of a Gateway's listeners."""
    value = place.objects.get("Gateway", place.name, "gateway")
    entries = [{"name": name, "attachedRoutes": 0, "supportedKinds": [], "conditions": []} for name in names]
    for field in ("managedFields", "resourceVersion"):
        del value["metadata"][field]
    place.objects.write_status({**value, "status": {"listeners": entries}})


async def test_a_server_is_http_whatever_its_listener_speaks(new_place: Open) -> None:
    """K-04."""
    tls = {"certificateRefs": [{"name": "certificate"}]}
    place = new_place(listener(), listener("secure", port=8443, protocol="HTTPS", tls=tls)).opened()
    place.apply(service(place.name, "server"), route(place.name, "server", section="secure"))
    place.start("server")
    place.register("server", "s_")
    await place.ready("server")
    endpoint = place.objects.get("MCPServerRegistration", place.name, "server")["status"]["endpoint"]
    assert endpoint.startswith("http://")
    assert await place.call("s_greet", name="you") == "Hi you, this is server"


async def test_each_gateway_has_its_own_servers_and_one_that_goes_takes_them_along(new_place: Open) -> None:
    """K-44, K-45, K-52, K-54."""
    a, b = new_place().opened(), new_place().opened()
    for place, prefix in ((a, "team_a_"), (b, "team_b_")):
        place.serve("server", name=place.name)
        place.register("server", prefix)
        await place.ready("server")
    assert {name[:7] for name in await a.names()} == {"team_a_"}
    assert {name[:7] for name in await b.names()} == {"team_b_"}
    assert await a.call("team_a_greet", name="x") == f"Hi x, this is {a.name}"
    assert await b.call("team_b_greet", name="x") == f"Hi x, this is {b.name}"
    for place in (a, b):
        spec = place.objects.get("HTTPRoute", place.name, "mcp-gateway-route")["spec"]
        assert spec["hostnames"] == [place.host]
        assert spec["parentRefs"][0]["name"] == "gateway"
        assert [one["matches"][0]["path"]["value"] for one in spec["rules"]] == ["/mcp", "/.well-known"]
        assert {one["backendRefs"][0]["name"] for one in spec["rules"]} == {"mcp-gateway-broker-router"}
    b.objects.delete(extension(b.name))
    await b.hides("team_b_greet")
    await until(lambda: not b.objects.get("HTTPRoute", b.name, "mcp-gateway-route"))
    assert "team_a_greet" in await a.names()


async def test_teams_share_a_gateway_with_a_listener_for_each(new_place: Open) -> None:
    """K-46, K-47, K-49."""
    a, b = new_place(), new_place()
    shared = new_place(
        listener("a", a.host, 8080, allowedRoutes=only_from(a.name)),
        listener("b", b.host, 8081, allowedRoutes=only_from(b.name)),
    )
    implement(shared, "a", "b")
    shared.apply(grant(shared.name, a.name), grant(shared.name, b.name))
    a.apply(extension(a.name, shared.name, section="a"))
    b.apply(extension(b.name, shared.name, section="a"))
    await until(lambda: "does not allow routes" in b.said("Ready", "extension", EXTENSION)[2])
    b.apply(extension(b.name, shared.name, section="b"))
    for place, section in ((a, "a"), (b, "b")):
        place.apply(
            service(place.name, "server"),
            route(place.name, "server", shared.name, section),
            registration(place.name, "server", f"team_{section}_"),
        )
        place.start("server", name=place.name)
    await a.ready("server")
    await b.ready("server")
    await until(lambda: a.is_ready("extension", EXTENSION) and b.is_ready("extension", EXTENSION))
    assert {name[:7] for name in await a.names()} == {"team_a_"}
    assert {name[:7] for name in await b.names()} == {"team_b_"}
    assert await b.call("team_b_greet", name="x") == f"Hi x, this is {b.name}"
    assert a.objects.get("HTTPRoute", a.name, "mcp-gateway-route")["spec"]["hostnames"] == [a.host]
    await until(lambda: mark_of(shared, "a") and mark_of(shared, "b"))
    assert (mark_of(shared, "a")["status"], mark_of(shared, "a")["reason"]) == ("True", "Programmed")
    a.objects.delete(extension(a.name))
    await until(lambda: not mark_of(shared, "a"))
    assert mark_of(shared, "b")


async def test_without_its_grant_an_extension_learns_nothing_and_then_waits_for_the_port(new_place: Open) -> None:
    """K-43, K-48."""
    owner, other = new_place(listener("one", "one.test"), listener("two", "two.test")), new_place()
    owner.apply(extension(owner.name, section="one"))
    await until(lambda: owner.is_ready("extension", EXTENSION))
    other.apply(extension(other.name, owner.name, section="two"))
    await until(lambda: other.said("Ready", "extension", EXTENSION)[1] == "ReferenceGrantRequired")
    owner.apply(grant(owner.name, other.name))
    await until(lambda: "conflict: listener port 8080" in other.said("Ready", "extension", EXTENSION)[2])
    assert f"{owner.name}/extension (listener one)" in other.said("Ready", "extension", EXTENSION)[2]
    owner.objects.delete(grant(owner.name, other.name))
    await until(lambda: other.said("Ready", "extension", EXTENSION)[1] == "ReferenceGrantRequired")
    owner.apply(grant(owner.name, other.name))
    owner.objects.delete(extension(owner.name))
    await until(lambda: other.is_ready("extension", EXTENSION))
