"""Every condition that is not True says what to do next, and what kstatus makes of it is what its user expects.

The table has everything that can be wrong; a verdict that the code can give and no row causes is a failure too.
"""

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import attrs
import pytest

from mcp_gateway.kube import reconcile, schema
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.reconcile import compile as compiling
from mcp_gateway.kube.reconcile import conditions, extension, registration, route_status, virtual_server
from mcp_gateway.kube.reconcile.compile import document
from mcp_gateway.kube.reconcile.reports import Reports
from mcp_gateway.kube.schema import Kind
from mcp_gateway.kube.store import Access, Settings
from tests.support.cluster import (
    EXTENSION,
    GATEWAY,
    GONE,
    NOW,
    ROUTE,
    SELECTION,
    SERVER,
    SILENCE,
    Cluster,
    Document,
    backend,
    gateway,
    grant,
    heard,
    listener,
    part_said,
    report,
    route,
    rule,
    secret,
    seed,
    server_said,
    service,
)
from tests.support.cluster import extension as extension_of
from tests.support.cluster import registration as registration_of
from tests.support.cluster import virtual_server as virtual_server_of
from tests.support.kstatus import kstatus

NEXT: Final = re.compile(
    r"(?:[;:,(] |\bor |\band )(?:add|ask|change|check|correct|create|delete|give|leave out|move|name|put|refer to"
    r"|register|remove|run|see|set|upgrade|use|wait|allow it with)\b"
)
"""What to do, where the sentence about it begins."""
REGISTRATION, VIRTUAL, OF_ROUTE = schema.REGISTRATION, schema.VIRTUAL_SERVER, schema.HTTP_ROUTE
IN_PROGRESS, FAILED = "InProgress", "Failed"
AWAY: Final = Key("team-b", "away")
REFUSAL: Final = {
    "parentRef": {"name": GATEWAY.name, "namespace": GATEWAY.namespace},
    "controllerName": "example.net/controller",
    "conditions": [
        {"type": "Accepted", "status": "False", "reason": "Quota", "message": "no", "observedGeneration": 1}
    ],
}


@attrs.frozen(kw_only=True)
class Row:
    """Something that is wrong, and what kstatus is to say of the object that suffers."""

    change: Callable[[Cluster], object]
    kind: Kind = REGISTRATION
    key: Key = SERVER
    reports: Callable[[Cluster], Reports] = lambda cluster: SILENCE
    expected: str = IN_PROGRESS
    settings: Settings = attrs.field(factory=Settings)


def put(*documents: Document) -> Callable[[Cluster], object]:
    return lambda cluster: cluster.put(*documents)


def drop(kind: Kind, key: Key) -> Callable[[Cluster], object]:
    return lambda cluster: cluster.drop(kind, key)


def nothing(cluster: Cluster) -> None:
    """All is as it should be, but for what the pods say."""


def ruled(**more: Any) -> Document:  # noqa: ANN401  # members of a rule
    return route(rules=[rule(**more)])


def outside(name: str, port: int = 80) -> list[Document]:
    made = service(type="ExternalName", externalName=name, clusterIP="", ports=[{"name": "http", "port": port}])
    return [made, route(rules=[rule(backend(port=port))])]


def said(state: str, **more: object) -> Callable[[Cluster], Reports]:
    """One pod says this of the server and of the virtual server, and that the extension is loaded."""

    def reports(cluster: Cluster) -> Reports:
        made = cluster.store().once(document)
        servers = [server_said(revision, state, key, **more) for key, revision in made.servers.items()]
        gateways = [part_said(revision, key) for key, revision in made.gateways.items()]
        virtual = [
            part_said(revision, key, state="Loaded" if state == "Connected" else state, **more)
            for key, revision in made.virtual_servers.items()
        ]
        return heard(report(servers=servers, virtualServers=virtual, gateways=gateways))

    return reports


def partly(cluster: Cluster) -> Reports:
    """One of two pods is connected."""
    (revision,) = cluster.store().once(document).servers.values()
    return heard(
        report("pod-1", servers=[server_said(revision)]),
        report("pod-2", servers=[server_said(revision, "ConnectionFailed", lastError="refused")]),
    )


def silent_pod(cluster: Cluster) -> Reports:
    return heard(report())


def full(cluster: Cluster) -> None:
    """As much as the configuration can hold; see ``small``."""
    cluster.put(virtual_server_of(), *(registration_of(Key("mcp-test", f"r{n}"), prefix=f"{n}_") for n in range(3)))


def secrets_are(access: Access) -> Callable[[Cluster], object]:
    def change(cluster: Cluster) -> None:
        cluster.put(registration_of(credentialRef={"name": "t"}))
        cluster.access["mcp-test"] = access

    return change


def of_credential(*documents: Document) -> Callable[[Cluster], object]:
    return put(registration_of(credentialRef={"name": "t"}), *documents)


def of_ca(*documents: Document) -> Callable[[Cluster], object]:
    return put(registration_of(caCertSecretRef={"name": "ca"}), *documents)


def refused_by_implementation(cluster: Cluster) -> None:
    cluster.put({**route(), "status": {"parents": [REFUSAL]}})


def rows() -> dict[str, Row]:
    closed = {"namespaces": {"from": "Same"}}
    grpc = {"namespaces": {"from": "All"}, "kinds": [{"kind": "GRPCRoute"}]}
    at_x = {"name": GATEWAY.name, "namespace": GATEWAY.namespace, "sectionName": "x"}
    second = extension_of(Key("team-b", "late"), born=5)
    team_b = grant("gateway-system", (schema.GROUP, "MCPGatewayExtension", "team-b"), name="b")
    return {
        # --- the extension ---
        "no grant": Row(change=drop(schema.REFERENCE_GRANT, Key("gateway-system", "allow")), kind=schema.EXTENSION),
        "no Gateway": Row(change=drop(schema.GATEWAY, GATEWAY), kind=schema.EXTENSION),
        "no such listener": Row(change=put(extension_of(section="x")), kind=schema.EXTENSION),
        "no HTTP listener": Row(change=put(gateway(listener("x", protocol="TCP"))), kind=schema.EXTENSION),
        "closed listener": Row(change=put(gateway(listener("x", allowedRoutes=closed))), kind=schema.EXTENSION),
        "second of its namespace": Row(
            change=put(extension_of(Key("mcp-test", "late"), born=5)),
            kind=schema.EXTENSION,
            key=Key("mcp-test", "late"),
            expected=FAILED,
        ),
        "second of its port": Row(
            change=put(second, team_b), kind=schema.EXTENSION, key=second_key(second), expected=FAILED
        ),
        "host of another": Row(
            change=put(
                gateway(key=Key("team-b", "gateway")),
                extension_of(Key("team-b", "late"), Key("team-b", "gateway"), born=5, publicHost="x.io"),
                extension_of(publicHost="x.io"),
            ),
            kind=schema.EXTENSION,
            key=Key("team-b", "late"),
            expected=FAILED,
        ),
        "bundle is missing": Row(change=put(extension_of(caCertBundleRef={"name": "ca"})), kind=schema.EXTENSION),
        "extension loaded by nobody": Row(change=nothing, kind=schema.EXTENSION, reports=lambda cluster: GONE),
        "extension not loaded yet": Row(change=nothing, kind=schema.EXTENSION, reports=silent_pod),
        "nobody has told of the extension": Row(change=nothing, kind=schema.EXTENSION),
        # --- the registration: where it belongs ---
        "route of another namespace": Row(change=put(registration_of(target=AWAY))),
        "no route": Row(change=drop(schema.HTTP_ROUTE, ROUTE)),
        "no Gateway among its parents": Row(change=put(route(parents=[{"name": "s", "kind": "Service"}]))),
        "no extension": Row(change=drop(schema.EXTENSION, EXTENSION)),
        "extension not accepted": Row(change=drop(schema.GATEWAY, GATEWAY)),
        "no such section": Row(change=put(route(parents=[at_x]))),
        "kinds of the listener": Row(change=put(gateway(listener("mcp", allowedRoutes=grpc)))),
        "namespaces of the listener": Row(
            change=put(gateway(listener("mcp"), listener("x", allowedRoutes=closed)), route(parents=[at_x]))
        ),
        "hostnames": Row(change=put(route(hostnames=["elsewhere.example"]))),
        "refused by an implementation": Row(change=refused_by_implementation),
        "prefix of another": Row(
            change=put(registration_of(Key("mcp-test", "late"), born=5)), key=Key("mcp-test", "late"), expected=FAILED
        ),
        "configuration is full": Row(change=full, key=Key("mcp-test", "r2"), expected=FAILED),
        # --- the registration: where it leads ---
        "no rule": Row(change=put(ruled(path="/other")), expected=FAILED),
        "costly pattern": Row(change=put(ruled(path="(a+)+", kind="RegularExpression")), expected=FAILED),
        "no backend": Row(change=put(route(rules=[{"backendRefs": []}])), expected=FAILED),
        "two backends": Row(change=put(route(rules=[rule(backend(), backend("b"))])), expected=FAILED),
        "filter": Row(change=put(ruled(filters=[{"type": "RequestRedirect"}])), expected=FAILED),
        "header of the route": Row(
            change=put(
                ruled(
                    filters=[
                        {
                            "type": "RequestHeaderModifier",
                            "requestHeaderModifier": {"set": [{"name": "Host", "value": "x"}]},
                        }
                    ]
                )
            ),
            expected=FAILED,
        ),
        "header of the registration": Row(
            change=put(registration_of(forwardHeaders=["Authorization"])), expected=FAILED
        ),
        "no Service": Row(change=put(route(rules=[rule(backend("absent"))]))),
        "Service of another namespace": Row(change=put(route(rules=[rule(backend("s", namespace="team-b"))]))),
        "the gateway itself": Row(
            change=put(route(rules=[rule(backend(schema.DATA_PLANE, 8080, namespace=schema.SYSTEM_NAMESPACE))]))
        ),
        "no such port": Row(change=put(route(rules=[rule(backend(port=1))]))),
        "no Service at all": Row(change=put(route(rules=[rule(backend("b", kind="Bucket"))])), expected=FAILED),
        "protocol": Row(change=put(service(ports=[{"port": 9090, "appProtocol": "h2c"}])), expected=FAILED),
        "inside by a way around": Row(change=put(*outside("x.y.svc"))),
        "no external name": Row(change=put(*outside(""))),
        "nothing outside": Row(change=put(*outside("x.io")), settings=Settings(external_backends=False)),
        "credential in the clear": Row(
            change=of_credential(secret("t", token=b"Bearer x"), *outside("x.io")), expected=FAILED
        ),
        # --- the registration: Secrets ---
        "no Secret": Row(change=of_credential()),
        "Secret without a label": Row(change=of_credential(secret("t", labelled=False, token=b"Bearer x"))),
        "no such key": Row(change=of_credential(secret("t", other=b"Bearer x"))),
        "empty credential": Row(change=of_credential(secret("t", token=b""))),
        "two lines of credential": Row(change=of_credential(secret("t", token=b"a\nb"))),
        "no certificate": Row(change=of_ca(secret("ca", ca__crt=b"x"))),
        "too many certificates": Row(change=of_ca(secret("ca", ca__crt=b"x" * 70_000))),
        "Secrets are forbidden": Row(change=secrets_are(Access.FORBIDDEN)),
        "Secrets are unknown": Row(change=secrets_are(Access.UNKNOWN)),
        # --- the registration: what the pods say ---
        "no data plane": Row(change=nothing, reports=lambda cluster: GONE),
        "nobody has told": Row(change=nothing),
        "not loaded yet": Row(change=nothing, reports=silent_pod),
        "wrong for the pods": Row(change=nothing, reports=said("InvalidEntry", lastError="url"), expected=FAILED),
        "too new for the pods": Row(change=nothing, reports=said("UnsupportedFeature", lastError="requires x")),
        "connecting": Row(change=nothing, reports=said("Connecting")),
        "not reachable": Row(change=nothing, reports=said("ConnectionFailed", lastError="refused")),
        "reachable for some": Row(change=nothing, reports=partly),
        "credential refused": Row(change=nothing, reports=said("AuthenticationFailed", lastError="401")),
        "no MCP": Row(change=nothing, reports=said("ProtocolError", lastError="HTML")),
        "tools not known": Row(change=nothing, reports=said("Connected", tools=None)),
        "disabled": Row(change=put(registration_of(state="Disabled")), reports=said("Disabled")),
        # --- the virtual server ---
        "virtual server at no extension": Row(change=drop(schema.EXTENSION, EXTENSION), kind=VIRTUAL, key=SELECTION),
        "extension of another namespace": Row(
            change=put(virtual_server_of(targetRef={"name": "e", "namespace": "team-b"})), kind=VIRTUAL, key=SELECTION
        ),
        "no such extension": Row(change=put(virtual_server_of(targetRef={"name": "e"})), kind=VIRTUAL, key=SELECTION),
        "its extension is not accepted": Row(
            change=lambda cluster: cluster.put(virtual_server_of(targetRef={"name": EXTENSION.name})).drop(
                schema.GATEWAY, GATEWAY
            ),
            kind=VIRTUAL,
            key=SELECTION,
        ),
        "no room for the virtual server": Row(
            change=lambda cluster: cluster.put(virtual_server_of(born=9)), kind=VIRTUAL, key=SELECTION, expected=FAILED
        ),
        "names that nobody serves": Row(
            change=nothing,
            kind=VIRTUAL,
            key=SELECTION,
            reports=said("Connected", missing=["a", "b", "c", "d"], missingCount=4),
        ),
    }


def second_key(document: Document) -> Key:
    return Key(document["metadata"]["namespace"], document["metadata"]["name"])


ROWS: Final = rows()
FULL: Final = {"configuration is full": 3, "no room for the virtual server": 1}
"""Rows in which no more than so many entries fit."""


def run(name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Document, list[Any]]:
    """The object that suffers, and all conditions of it and of its route."""
    row = ROWS[name]
    cluster = seed().put(virtual_server_of())
    row.change(cluster)
    cluster.settings = row.settings
    key = {schema.EXTENSION: EXTENSION}.get(row.kind, row.key) if row.key == SERVER else row.key
    if name in FULL:
        fitting = FULL[name]
        monkeypatch.setattr(compiling, "_fits", lambda made: len(made.servers) + len(made.virtual_servers) <= fitting)
    reports = row.reports(cluster)
    kinds = {REGISTRATION: registration, VIRTUAL: virtual_server, schema.EXTENSION: extension}
    cluster.carry_out(kinds[row.kind].reconcile(key, cluster.store(), reports, NOW))
    suffering = cluster.objects[row.kind, key]
    found = list(suffering["status"]["conditions"])
    if (OF_ROUTE, ROUTE) in cluster.objects:
        outcome = route_status.reconcile(ROUTE, cluster.store(), NOW).route_status
        entries: list[Any] = [] if outcome is None else list(outcome.parents)
        found += [one for entry in entries if entry is not REFUSAL for one in entry["conditions"] if len(one) > 5]
    return suffering, found


@pytest.mark.parametrize("name", ROWS)
def test_what_is_wrong_says_what_to_do_next(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    suffering, found = run(name, monkeypatch)
    failing = [one for one in found if one["status"] != "True"]
    assert failing
    for one in failing:
        assert NEXT.search(one["message"]), one
        assert "  " not in one["message"]
        assert one["message"] == one["message"].strip()
        assert "None" not in one["message"]
    ready = next(one for one in suffering["status"]["conditions"] if one["type"] == schema.READY)
    assert ready["status"] == "False"


@pytest.mark.parametrize("name", ROWS)
def test_kstatus_says_what_a_user_expects(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    suffering, _ = run(name, monkeypatch)
    assert kstatus(suffering) == ROWS[name].expected
    suffering["metadata"]["generation"] = 2  # a mended spec is tried, whatever became of the one before
    assert kstatus(suffering) == IN_PROGRESS


# --- the table is complete -------------------------------------------------------------------------------------------

Place = tuple[str, int]
"""A file, and the line on which a call begins."""


def places() -> set[Place]:
    """Wherever a verdict is given that is not True."""
    found: set[Place] = set()
    for file in Path(inspect.getfile(reconcile)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("bad", "unknown"):
                found.add((file.name, node.lineno))
    return found


@contextmanager
def witnessed(seen: set[Place]) -> Iterator[None]:
    """Note whoever gives such a verdict in this block."""
    verdicts = {conditions.bad.__code__, conditions.unknown.__code__}

    def note(frame: FrameType, event: str, arg: object) -> None:
        if event == "call" and frame.f_code in verdicts and frame.f_back is not None:
            seen.add((Path(frame.f_back.f_code.co_filename).name, frame.f_back.f_lineno))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)


def test_the_table_has_every_verdict_that_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[Place] = set()
    for name in ROWS:
        with monkeypatch.context() as patched, witnessed(seen):
            run(name, patched)
    constants = {place for place in places() if place[0] == "reports.py" and place[1] < 50}
    assert places() - seen - constants == set()
