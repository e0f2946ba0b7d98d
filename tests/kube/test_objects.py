"""Views of objects: what is read, what is filled in, and that a bad object falls alone."""

import copy
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from mcp_gateway.kube import schema
from mcp_gateway.kube.fields import Fields, Malformed
from mcp_gateway.kube.gateway_api import Filter, HTTPRoute, Match, Requirement, Selector
from mcp_gateway.kube.objects import Key, Owner, Secret
from mcp_gateway.kube.own_objects import Extension, Registration, Report, SecretRef, VirtualServer
from mcp_gateway.kube.readers import READERS
from tests.kube.crds import schema as crd_schema
from tests.support.cluster import (
    Document,
    backend,
    extension,
    gateway,
    grant,
    namespace,
    policy,
    registration,
    route,
    rule,
    secret,
    service,
    virtual_server,
)

OWN = [schema.REGISTRATION, schema.EXTENSION, schema.VIRTUAL_SERVER, schema.REPORT]


def view(kind: schema.Kind, document: Document) -> Any:  # noqa: ANN401 -- whichever view the kind has
    return READERS[kind](Fields(document))


def test_every_watched_kind_can_be_read() -> None:
    assert set(READERS) == set(schema.WATCHED)


# --- every field of the CRDs -----------------------------------------------------------------------------------------


def values(part: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """For each leaf of a schema two different values that it admits."""
    for name, below in part.get("properties", {}).items():
        at = (*path, name)
        match below["type"]:
            case "object":
                yield from values(below, at)
            case "array" if "properties" in below["items"]:
                for leaf, one, other in values(below["items"]):
                    yield (*at, "[]", *leaf), one, other
            case "array":
                yield at, ["a"], ["b"]
            case "integer":
                yield at, 11, 12
            case "boolean":
                yield at, True, False
            case _ if "enum" in below:
                yield at, below["enum"][0], below["enum"][-1]
            case _:
                yield at, "a", "b"


def with_value(path: tuple[str, ...], value: object, base: Document) -> Document:
    made = copy.deepcopy(base)
    at: Any = made
    for step, after in zip(path, (*path[1:], None), strict=True):
        if step == "[]":
            if not at:
                at.append({"name": "x"} if path[-1] != "name" else {})
            at = at[0]
        elif after is None:
            at[step] = value
        else:
            at = at.setdefault(step, [] if after == "[]" else {})
    return made


UNREAD = {
    ("targetRef", "group"),  # one value each, by enum
    ("targetRef", "kind"),
    ("description",),  # for people
    # What a person sees in a report; the controller keeps its own times and counts.
    ("startTime",),
    ("configRevision",),
    ("serverCount",),
    ("connectedCount",),
    ("servers", "[]", "since"),
    ("servers", "[]", "prompts"),
    ("servers", "[]", "resources"),
}


@pytest.mark.parametrize("kind", OWN, ids=lambda kind: kind.kind)
def test_every_field_of_a_crd_makes_a_difference_to_its_view(kind: schema.Kind) -> None:
    base: Document = {"targetRef": {"name": "x"}} if kind is not schema.REPORT else {}
    for path, one, other in values(crd_schema(kind.plural, "spec")):
        if path in UNREAD:
            continue
        start = with_value((*path[:-1], "name"), "x", base) if path[-1] == "key" else base
        made = [
            view(kind, {"metadata": {"name": "a", "namespace": "b"}, "spec": with_value(path, value, start)})
            for value in (one, other)
        ]
        assert made[0] != made[1], path


# --- our kinds -------------------------------------------------------------------------------------------------------


def test_a_registration_of_the_first_generation() -> None:
    made: Registration = view(schema.REGISTRATION, registration())
    assert made.route == Key("mcp-test", "mcp-api-key-server-route")
    assert (made.prefix, made.path, made.enabled, made.settings) == ("myserver_", "/mcp", True, {})


def test_the_prefix_may_have_either_name() -> None:
    made: Registration = view(schema.REGISTRATION, registration(prefix=""))
    assert made.prefix == ""
    spec = {"prefix": "a_", "targetRef": {"name": "x"}}
    other: Registration = view(schema.REGISTRATION, {"metadata": {"name": "n", "namespace": "mine"}, "spec": spec})
    assert (other.prefix, other.route) == ("a_", Key("mine", "x"))


def test_settings_have_the_names_of_the_configuration() -> None:
    made: Registration = view(
        schema.REGISTRATION,
        registration(
            credentialRef={"name": "t"},
            caCertSecretRef={"name": "c", "key": "other"},
            timeouts={"call": "5s"},
            limits={"concurrency": 3},
            tools={"include": ["a"]},
            forwardHeaders=["X-A"],
            tags=[],
            hint="h",
            state="Disabled",
        ),
    )
    assert made.credential == SecretRef(name="t", key="token")
    assert made.ca == SecretRef(name="c", key="other")
    assert not made.enabled
    assert made.settings == {
        "timeouts": {"call": "5s"},
        "limits": {"concurrency": 3},
        "tools": {"include": ["a"]},
        "forwardHeaders": ["X-A"],
        "hint": "h",
    }


def test_an_extension_belongs_to_the_instance_of_its_label() -> None:
    assert view(schema.EXTENSION, extension()).instance == "default"
    unlabelled = extension(instance="x")
    unlabelled["metadata"]["labels"] = {schema.LABEL_INSTANCE: ""}
    assert view(schema.EXTENSION, unlabelled).instance == "default"
    made: Extension = view(schema.EXTENSION, extension(instance="b", publicHost="MCP.Example.com", section="s"))
    assert (made.instance, made.public_host, made.section) == ("b", "mcp.example.com", "s")


def test_a_virtual_server_may_name_an_extension() -> None:
    assert view(schema.VIRTUAL_SERVER, virtual_server()).extension is None
    made: VirtualServer = view(schema.VIRTUAL_SERVER, virtual_server(targetRef={"name": "e"}))
    assert made.extension == Key("mcp-test", "e")


def test_a_report_that_says_little_is_a_report() -> None:
    made: Report = view(schema.REPORT, {"metadata": {"name": "p", "namespace": "s"}, "spec": {}})
    assert (made.instance, made.complete, made.servers) == ("default", False, {})


# --- Kubernetes and the Gateway API ----------------------------------------------------------------------------------


def test_metadata() -> None:
    document = namespace("n", {"a": "b"})
    document["metadata"] |= {
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "u"}],
    }
    meta = view(schema.NAMESPACE, document).meta
    assert meta.deleting
    assert meta.owners == (Owner(group="apps", kind="Deployment", name="d", uid="u"),)
    assert meta.seniority == ("2026-01-01T00:00:00Z", "", "n")
    assert str(meta.key) == "n"


def test_a_secret_never_shows() -> None:
    made: Secret = view(schema.SECRET, secret("s", token=b"hunter2"))
    assert made.data == {"token": b"hunter2"}
    assert "hunter2" not in repr(made)


def test_a_route_gets_the_defaults_of_the_gateway_api() -> None:
    document = route(parents=[{"name": "g"}], rules=[{"backendRefs": [{"name": "s", "port": 1, "weight": 0}]}])
    made: HTTPRoute = view(schema.HTTP_ROUTE, document)
    assert made.parents[0].key == Key("mcp-test", "g")
    assert made.rules[0].matches == (Match(),)
    assert made.rules[0].backends[0].weight == 0
    assert str(made.parents[0]) == "Gateway mcp-test/g"


def test_filters_of_a_route() -> None:
    filters = [
        {
            "type": "RequestHeaderModifier",
            "requestHeaderModifier": {
                "add": [{"name": "b", "value": "2"}],
                "set": [{"name": "a", "value": "1"}],
                "remove": ["c"],
            },
        },
        {
            "type": "URLRewrite",
            "urlRewrite": {"hostname": "H.example", "path": {"type": "ReplaceFullPath", "replaceFullPath": "/x"}},
        },
        {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/y"}}},
    ]
    made: HTTPRoute = view(schema.HTTP_ROUTE, route(rules=[rule(backend(filters=filters))]))
    assert made.rules[0].backends[0].filters == (
        Filter(type="RequestHeaderModifier", set_headers=(("a", "1"), ("b", "2")), removed_headers=("c",)),
        Filter(type="URLRewrite", hostname="h.example", path_type="ReplaceFullPath", path="/x"),
        Filter(type="URLRewrite", path_type="ReplacePrefixMatch", path="/y"),
    )


def test_a_match_that_looks_at_more_than_the_path_is_told_apart() -> None:
    rules = [
        {
            "matches": [
                {"headers": [{"name": "a", "value": "b"}]},
                {"queryParams": [{"name": "a", "value": "b"}]},
                {"method": "GET"},
            ]
        }
    ]
    made: HTTPRoute = view(schema.HTTP_ROUTE, route(rules=rules))
    assert [(match.narrowed, match.method) for match in made.rules[0].matches] == [
        (True, ""),
        (True, ""),
        (False, "GET"),
    ]


@pytest.mark.parametrize(
    "operator, values, labels, holds",
    [
        ("In", ("a", "b"), {"k": "a"}, True),
        ("In", ("a",), {}, False),
        ("NotIn", ("a",), {"k": "b"}, True),
        ("NotIn", ("a",), {}, True),
        ("NotIn", ("a",), {"k": "a"}, False),
        ("Exists", (), {"k": ""}, True),
        ("Exists", (), {}, False),
        ("DoesNotExist", (), {}, True),
        ("DoesNotExist", (), {"k": ""}, False),
        ("Resembles", ("a",), {"k": "a"}, False),
    ],
)
def test_requirements_of_a_selector(
    operator: str, values: tuple[str, ...], labels: dict[str, str], holds: bool
) -> None:
    assert Requirement(key="k", operator=operator, values=values).holds(labels) is holds
    selector = Selector(labels={"x": "y"}, requirements=(Requirement(key="k", operator=operator, values=values),))
    assert selector.matches({**labels, "x": "y"}) is holds
    assert not selector.matches(labels)


# --- what cannot be read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, document, words",
    [
        pytest.param(schema.SERVICE, {"metadata": {}}, "metadata.name is missing", id="no name"),
        pytest.param(schema.SERVICE, {}, "metadata.name is missing", id="nothing"),
        pytest.param(schema.SERVICE, {"metadata": []}, "metadata must be an object", id="list for an object"),
        pytest.param(schema.SERVICE, {"metadata": {"name": 1}}, "metadata.name must be text", id="number for text"),
        pytest.param(
            schema.SERVICE,
            {"metadata": {"name": "a"}, "spec": {"ports": {}}},
            "spec.ports must be a list",
            id="object for a list",
        ),
        pytest.param(
            schema.SERVICE,
            {"metadata": {"name": "a"}, "spec": {"ports": [1]}},
            "spec.ports[0] must be an object",
            id="number for an object",
        ),
        pytest.param(
            schema.SERVICE,
            {"metadata": {"name": "a"}, "spec": {"ports": [{"port": True}]}},
            "spec.ports[0].port must be a whole number",
            id="true for a number",
        ),
        pytest.param(
            schema.NAMESPACE,
            {"metadata": {"name": "a", "labels": {"x": 1}}},
            "metadata.labels[x] must be text",
            id="label",
        ),
        pytest.param(
            schema.SECRET, {"metadata": {"name": "a"}, "data": {"x": "%"}}, "data must be base64", id="not base64"
        ),
        pytest.param(
            schema.HTTP_ROUTE,
            {"metadata": {"name": "a"}, "spec": {"hostnames": [1]}},
            "spec.hostnames[0] must be text",
            id="hostnames",
        ),
        pytest.param(
            schema.REGISTRATION,
            {"metadata": {"name": "a"}, "spec": {"targetRef": "x"}},
            "spec.targetRef.namespace does not lead through objects",
            id="path through text",
        ),
    ],
)
def test_a_malformed_object_says_where(kind: schema.Kind, document: Document, words: str) -> None:
    with pytest.raises(Malformed, match=words.replace("[", r"\[")):
        view(kind, document)


def test_members_that_nobody_knows_are_ignored() -> None:
    document = service()
    document["spec"]["brandNew"] = {"a": [1]}
    assert view(schema.SERVICE, document) == view(schema.SERVICE, service())


@pytest.mark.parametrize(
    "document",
    [extension(), gateway(), grant("x"), policy(), registration(), route(), secret("s"), service(), virtual_server()],
    ids=lambda document: document["kind"],
)
def test_what_only_writers_need_takes_no_part_in_equality(document: Document) -> None:
    kind = next(kind for kind in schema.WATCHED if kind.kind == document["kind"])
    other = copy.deepcopy(document)
    other["metadata"]["resourceVersion"] = "2"
    other["metadata"]["managedFields"] = [{"manager": "x"}]
    other["status"] = {"conditions": [], "listeners": [{"name": "x"}], "parents": []}
    assert view(kind, document) == view(kind, other)
    assert attrs.asdict(view(kind, document)) != attrs.asdict(view(kind, other))
