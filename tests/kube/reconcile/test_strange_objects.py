"""Whatever stands in an object, it falls alone or is decided about; nothing raises."""

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.kube import schema
from mcp_gateway.kube.fields import Fields
from mcp_gateway.kube.gateway_api import http_route_of
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.reconcile.route import choose
from mcp_gateway.kube.store import Change
from tests.kube.reconcile.test_any_order import VARIANTS, outcomes
from tests.support.cluster import SERVICE, Document, backend, route, rule, seed, service

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70_000) | st.text(max_size=8) | st.just("a.b/c"),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=8), below, max_size=3),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:  # noqa: ANN401 -- JSON
    """The path of every value inside another."""
    found = [path] if path else []
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in items:
        found += places(below, (*path, key))
    return found


def changed(document: Document, path: tuple[Any, ...], value: object) -> Document:
    made = copy.deepcopy(document)
    at: Any = made
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return made


@given(data=st.data())
def test_a_strange_object_is_no_obstacle_to_the_others(data: st.DataObject) -> None:
    cluster = seed()
    store = cluster.store()
    for _ in range(data.draw(st.integers(1, 4))):
        document = data.draw(st.sampled_from(VARIANTS))
        strange = changed(document, data.draw(st.sampled_from(places(document))), data.draw(JSON))
        kind = next(kind for kind in schema.WATCHED if kind.kind == document["kind"])
        assert isinstance(store.put(kind, strange), Change)
        outcomes(store)
    assert isinstance(store.replace(schema.SERVICE, [service()]), Change)
    assert store.service(SERVICE) is not None


@given(pattern=st.text(alphabet=r"abc/.*+?()[]{}|\^$-&~1,", max_size=20), path=st.text(alphabet="abc/", max_size=30))
def test_any_pattern_of_a_route_is_tried_or_refused(pattern: str, path: str) -> None:
    document = route(rules=[rule(backend("a"), path=pattern, kind="RegularExpression"), rule(backend("b"))])
    found = choose(http_route_of(Fields(document)), f"/{path}")
    assert found is not None


def test_a_pattern_that_counts_too_far_is_no_obstacle() -> None:
    document = route(rules=[rule(backend("a"), path="a{99999999999}", kind="RegularExpression"), rule(backend("b"))])
    found: Any = choose(http_route_of(Fields(document)), "/mcp")
    assert found.backend.key == Key("mcp-test", "b")
