"""Whether a route belongs to a listener."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.kube.fields import Fields
from mcp_gateway.kube.gateway_api import gateway_of, http_route_of
from mcp_gateway.kube.reconcile.attach import attach, hosts_meet
from tests.support.cluster import Document, gateway, listener, route


@pytest.mark.parametrize(
    "one, other, meet",
    [
        ("", "", True),
        ("", "a.io", True),
        ("a.io", "a.io", True),
        ("a.io", "b.io", False),
        ("*.a.io", "x.a.io", True),
        ("*.a.io", "x.y.a.io", True),
        ("*.a.io", "a.io", False),
        ("*.a.io", "xa.io", False),
        ("*.a.io", "*.a.io", True),
        ("*.a.io", "*.x.a.io", True),
        ("*.a.io", "*.b.io", False),
        ("*.a.io", "*.io", True),
    ],
)
def test_hosts(one: str, other: str, meet: bool) -> None:
    assert hosts_meet(one, other) is hosts_meet(other, one) is meet


_NAMES = st.lists(st.sampled_from(["a", "b", "io"]), min_size=1, max_size=4).map(".".join)
_HOSTS = st.one_of(_NAMES, _NAMES.map("*.{}".format))


@given(one=_HOSTS, other=_HOSTS, host=_NAMES)
def test_two_patterns_that_fit_one_host_meet(one: str, other: str, host: str) -> None:
    def fits(pattern: str) -> bool:
        return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern

    if fits(one) and fits(other):
        assert hosts_meet(one, other)


def attached(listeners: list[Document], labels: dict[str, str] | None = None, **ref: object) -> str:
    parent = {"name": "mcp-gateway", "namespace": "gateway-system", **ref}
    found = http_route_of(Fields(route(parents=[parent])))
    where = gateway_of(Fields(gateway(*listeners)))
    return attach(found, found.parents[0], where, where.listeners, labels or {}).verdict.reason


def allowed(**namespaces: object) -> dict[str, object]:
    return {"namespaces": namespaces}


@pytest.mark.parametrize(
    "routes, reason",
    [
        pytest.param({}, "NotAllowedByListeners", id="the same namespace by default"),
        pytest.param(allowed(**{"from": "All"}), "Accepted", id="all"),
        pytest.param(allowed(**{"from": "Martians"}), "NotAllowedByListeners", id="an unknown word"),
        pytest.param(allowed(**{"from": "Selector", "selector": {}}), "Accepted", id="an empty selector"),
        pytest.param(
            allowed(**{"from": "Selector", "selector": {"matchLabels": {"team": "b"}}}),
            "NotAllowedByListeners",
            id="another label",
        ),
        pytest.param(
            {**allowed(**{"from": "All"}), "kinds": [{"kind": "HTTPRoute"}]}, "Accepted", id="the kind is named"
        ),
        pytest.param(
            {**allowed(**{"from": "All"}), "kinds": [{"kind": "GRPCRoute"}]}, "NotAllowedByListeners", id="another kind"
        ),
        pytest.param(
            {**allowed(**{"from": "All"}), "kinds": [{"group": "other.io", "kind": "HTTPRoute"}]},
            "NotAllowedByListeners",
            id="another group",
        ),
    ],
)
def test_allowed_routes(routes: dict[str, object], reason: str) -> None:
    assert attached([listener("a", allowedRoutes=routes)], {"team": "a"}) == reason


def test_one_listener_that_takes_it_is_enough() -> None:
    listeners = [listener("a", allowedRoutes={}), listener("b", "x.io"), listener("c", "*.mcp.local")]
    assert attached(listeners) == "Accepted"
    assert attached(listeners, sectionName="a") == "NotAllowedByListeners"
    assert attached(listeners, sectionName="b") == "NoMatchingListenerHostname"
    assert attached(listeners, sectionName="c", port=8080) == "Accepted"
    assert attached(listeners, sectionName="c", port=1) == "NoMatchingParent"
    assert attached([listener("a", allowedRoutes={}), listener("b", "x.io")]) == "NoMatchingListenerHostname"
