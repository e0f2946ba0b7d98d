"""Any order of events, any loss and any repetition lead to the same state and the same outcomes."""

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.config.compiled import read_compiled
from mcp_gateway.kube import schema
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.reconcile import extension, registration, route_status, virtual_server
from mcp_gateway.kube.reconcile.compile import document
from mcp_gateway.kube.reconcile.public_route import sweep
from mcp_gateway.kube.store import Store
from tests.support.authorities import PEM
from tests.support.cluster import (
    LATER,
    NOW,
    SILENCE,
    Cluster,
    Document,
    gateway,
    grant,
    listener,
    namespace,
    policy,
    route,
    rule,
    secret,
    seed,
    service,
)
from tests.support.cluster import (
    extension as extension_of,
)
from tests.support.cluster import (
    registration as registration_of,
)
from tests.support.cluster import (
    virtual_server as virtual_server_of,
)

OTHER_GATEWAY = Key("gateway-system", "other")
TEAM = (schema.GROUP, "MCPGatewayExtension", "team-b")

# Several shapes of the same few objects, so that conflicts, grants and references come and go.
VARIANTS: list[Document] = [
    namespace("mcp-test", {"team": "a"}),
    namespace("team-b"),
    gateway(),
    gateway(listener("mcp", "mcp.io"), listener("mcps", "*.mcp.local", port=8081)),
    gateway(listener("mcp", allowedRoutes={"namespaces": {"from": "Same"}})),
    gateway(listener("x", "*.mcp.local"), key=OTHER_GATEWAY),
    extension_of(),
    extension_of(section="mcp", publicHost="mcp.io"),
    extension_of(born=3, caCertBundleRef={"name": "ca"}),
    extension_of(Key("team-b", "e"), born=2),
    extension_of(Key("team-b", "e"), OTHER_GATEWAY, born=1),
    extension_of(Key("mcp-test", "second"), OTHER_GATEWAY, born=2),
    grant("gateway-system"),
    grant("gateway-system", TEAM, name="b"),
    route(),
    route(parents=[{"name": name, "namespace": "gateway-system"} for name in ("mcp-gateway", "other")]),
    route(rules=[rule(filters=[{"type": "RequestRedirect"}])]),
    route(Key("mcp-test", "mcp-gateway-route")),
    service(),
    service(address="None", ports=[{"port": 9090, "name": "https"}]),
    registration_of(),
    registration_of(born=5, credentialRef={"name": "t"}),
    registration_of(Key("mcp-test", "rival"), born=3),
    registration_of(Key("mcp-test", "rival"), born=3, prefix=""),
    virtual_server_of(),
    virtual_server_of(Key("team-b", "v"), targetRef={"name": "mcp-extension", "namespace": "mcp-test"}),
    secret("t", token=b"Bearer x"),
    secret("ca", ca__crt=PEM),
    policy(),
]
PLACES = list(Cluster().put(*VARIANTS).objects)

events = st.lists(
    st.one_of(
        st.integers(0, len(VARIANTS) - 1).map(lambda number: ("put", number)),
        st.integers(0, len(PLACES) - 1).map(lambda number: ("drop", number)),
        st.integers(0, len(PLACES) - 1).map(lambda number: ("status", number)),
        st.integers(0, len(schema.WATCHED) - 1).map(lambda number: ("list", number)),
    ),
    max_size=60,
)


def outcomes(store: Store) -> dict[str, Any]:
    """Everything that is decided of a state."""
    made: dict[str, Any] = {"document": store.once(document).content, "sweep": sweep(store)}
    for kind, key in PLACES:
        match kind:
            case schema.REGISTRATION:
                made[f"registration {key}"] = registration.reconcile(key, store, SILENCE, NOW)
            case schema.EXTENSION:
                made[f"extension {key}"] = extension.reconcile(key, store, SILENCE, NOW)
            case schema.VIRTUAL_SERVER:
                made[f"virtual server {key}"] = virtual_server.reconcile(key, store, SILENCE, NOW)
            case schema.HTTP_ROUTE:
                made[f"route {key}"] = route_status.reconcile(key, store, NOW)
            case _:
                pass
    return made


@given(history=events, lost=st.sets(st.integers(0, 59)))
def test_the_state_decides_and_not_the_way_there(history: list[tuple[str, int]], lost: set[int]) -> None:
    truth = seed()
    store = truth.store()
    for moment, (event, number) in enumerate(history):
        heard = moment not in lost
        if event == "put":
            found = VARIANTS[number]
            truth.put(found)
            kind = next(kind for kind in schema.WATCHED if kind.kind == found["kind"])
            if heard:
                store.put(kind, copy.deepcopy(found))
                outcomes(store)  # what was decided on the way must leave nothing behind
        elif event == "status":
            kind, key = PLACES[number]
            if (kind, key) in truth.objects:
                truth.write_status(kind, key, {"observedGeneration": 1})
                if heard:
                    store.put(kind, copy.deepcopy(truth.objects[kind, key]))
        elif event == "drop":
            kind, key = PLACES[number]
            truth.objects.pop((kind, key), None)
            if heard:
                store.drop(kind, key)
        elif heard:
            store.replace(schema.WATCHED[number], truth.of(schema.WATCHED[number]))
    truth.fill(store)
    assert outcomes(store) == outcomes(truth.store())


@given(chosen=st.lists(st.integers(0, len(VARIANTS) - 1), max_size=20))
def test_what_was_carried_out_is_followed_by_silence(chosen: list[int]) -> None:
    cluster = seed().put(*(VARIANTS[number] for number in chosen))
    store = cluster.store()
    for _ in range(3):  # a route of ours that appears is looked at once more
        found = [outcome for name, outcome in outcomes(store).items() if name not in ("document", "sweep")]
        for outcome in found:
            cluster.carry_out(outcome)
        cluster.fill(store)
    for kind, key in PLACES:
        if kind == schema.REGISTRATION:
            assert registration.reconcile(key, store, SILENCE, LATER).status is None
        elif kind == schema.EXTENSION:
            made = extension.reconcile(key, store, SILENCE, LATER)
            assert (made.status, made.apply, made.delete) == (None, (), ())
        elif kind == schema.HTTP_ROUTE:
            assert route_status.reconcile(key, store, LATER).route_status is None
        elif kind == schema.VIRTUAL_SERVER:
            assert virtual_server.reconcile(key, store, SILENCE, LATER).status is None


@given(
    chosen=st.lists(st.integers(0, len(VARIANTS) - 1), max_size=20), dropped=st.lists(st.integers(0, len(PLACES) - 1))
)
def test_whatever_is_compiled_can_be_read_by_the_data_plane(chosen: list[int], dropped: list[int]) -> None:
    cluster = seed().put(*(VARIANTS[number] for number in chosen))
    for number in dropped:
        cluster.objects.pop(PLACES[number], None)
    made = cluster.store().once(document)
    read = read_compiled(made.content)
    assert read.refused == {}
    hosts = [host for gateway in read.spec.gateways for host in gateway.hosts]
    assert len(hosts) == len(set(hosts)), "each host belongs to one gateway"
    assert read.revision == made.revision
    assert read.revisions == {
        **{("servers", str(key)): revision for key, revision in made.servers.items()},
        **{("virtualServers", str(key)): revision for key, revision in made.virtual_servers.items()},
        **{("gateways", str(key)): revision for key, revision in made.gateways.items()},
    }
