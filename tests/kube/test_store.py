"""The store: what is known, what is not known, and who refers to whom."""

import pytest

from mcp_gateway.kube import schema
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.store import Access, Change, Settings, Store
from tests.support.cluster import (
    EXTENSION,
    GATEWAY,
    ROUTE,
    SERVER,
    SERVICE,
    Document,
    extension,
    namespace,
    policy,
    registration,
    route,
    secret,
    seed,
    service,
    virtual_server,
)


def versioned(document: Document, version: str, **more: object) -> Document:
    return {**document, "metadata": {**document["metadata"], "resourceVersion": version}, **more}


def test_a_change_of_substance_is_told_from_a_detail_and_from_nothing() -> None:
    store = Store()
    assert store.put(schema.REGISTRATION, registration()) is Change.SUBSTANCE
    assert store.put(schema.REGISTRATION, registration()) is Change.NOTHING
    assert store.put(schema.REGISTRATION, versioned(registration(), "2", status={"x": 1})) is Change.DETAIL
    found = store.registration(SERVER)
    assert found is not None
    assert (found.meta.resource_version, found.status) == ("2", {"x": 1})
    assert store.put(schema.REGISTRATION, registration(path="/x")) is Change.SUBSTANCE
    assert store.drop(schema.REGISTRATION, SERVER) is Change.SUBSTANCE
    assert store.drop(schema.REGISTRATION, SERVER) is Change.NOTHING


def test_nothing_may_be_decided_before_every_kind_has_been_listed_once() -> None:
    store = Store()
    assert "mcpserverregistrations.mcp.kagenti.com" in store.unlisted
    for kind in schema.WATCHED:
        store.replace(kind, [])
    assert not store.unlisted
    store.put(schema.REGISTRATION, registration(credentialRef={"name": "token"}))
    assert store.unlisted == ("secrets in mcp-test",)
    store.set_access("mcp-test", Access.FORBIDDEN)
    assert not store.unlisted


def test_with_namespaces_to_watch_each_of_them_has_to_be_listed() -> None:
    store = Store(settings=Settings(namespace="own", watch_namespaces=("a", "b")))
    assert store.scopes(schema.REGISTRATION) == ("a", "b")
    assert store.scopes(schema.REFERENCE_GRANT) == ("a", "b", "own")
    assert store.scopes(schema.REPORT) == ("own",)
    assert store.scopes(schema.NAMESPACE) == (None,)
    assert not store.scopes(schema.SECRET)
    for kind in schema.WATCHED:
        for scope in store.scopes(kind)[:1]:
            store.replace(kind, [], scope)
    assert "mcpserverregistrations.mcp.kagenti.com" in store.unlisted
    for kind in schema.WATCHED:
        for scope in store.scopes(kind)[1:]:
            store.replace(kind, [], scope)
    assert not store.unlisted


def test_without_them_a_kind_is_listed_everywhere_at_once() -> None:
    store = Store()
    assert store.scopes(schema.REGISTRATION) == store.scopes(schema.NAMESPACE) == (None,)
    assert store.scopes(schema.REPORT) == ("mcp-system",)


def test_a_list_that_fails_takes_nothing_away() -> None:
    store = seed().store()
    store.fail(schema.SERVICE, "403 Forbidden")
    assert store.unreadable == {"services": "403 Forbidden"}
    assert store.service(SERVICE) is not None
    assert store.replace(schema.SERVICE, []) is Change.SUBSTANCE
    assert (store.unreadable, store.service(SERVICE)) == ({}, None)


def test_a_namespace_that_fails_hides_no_other_one() -> None:
    store = Store(settings=Settings(watch_namespaces=("a", "b")))
    store.fail(schema.SERVICE, "403 Forbidden", "a")
    store.fail(schema.SERVICE, "500", "b")
    store.replace(schema.SERVICE, [], "b")
    assert store.unreadable == {"services in a": "403 Forbidden"}


def test_a_whole_list_removes_what_is_not_in_it_in_its_own_namespace_only() -> None:
    store = Store()
    store.put(schema.SECRET, secret("a", inside="one"))
    store.put(schema.SECRET, secret("b", inside="two"))
    assert store.replace(schema.SECRET, [secret("c", inside="one")], namespace="one") is Change.SUBSTANCE
    assert store.keys(schema.SECRET) == (Key("one", "c"), Key("two", "b"))
    assert store.access("one") is Access.LISTED
    assert store.access("two") is Access.UNKNOWN
    assert store.replace(schema.SECRET, [secret("c", inside="one")], namespace="one") is Change.NOTHING


def test_a_malformed_object_falls_alone_and_is_named() -> None:
    store = Store()
    store.put(schema.SERVICE, service())
    other = Key("mcp-test", "other")
    bad = {"metadata": {"name": "other", "namespace": "mcp-test"}, "spec": {"ports": 1}}
    assert store.replace(schema.SERVICE, [service(), bad]) is Change.SUBSTANCE
    assert store.malformed == {(schema.SERVICE, other): "spec.ports must be a list"}
    assert store.service(SERVICE) is not None
    store.put(schema.SERVICE, service(other))
    assert store.malformed == {}
    store.put(schema.SERVICE, bad)
    assert store.service(other) is None
    store.replace(schema.SERVICE, [])
    assert store.malformed == {}
    store.put(schema.SERVICE, {"metadata": 1})
    assert store.malformed == {(schema.SERVICE, Key("", "")): "metadata must be an object"}
    store.replace(schema.SERVICE, [{"metadata": 1}])
    assert len(store.malformed) == 1


def test_who_refers_to_whom() -> None:
    store = seed().store()
    assert store.referrers(schema.HTTP_ROUTE, ROUTE, schema.REGISTRATION) == (SERVER,)
    assert store.referrers(schema.GATEWAY, GATEWAY, schema.HTTP_ROUTE) == (ROUTE,)
    assert store.referrers(schema.GATEWAY, GATEWAY, schema.EXTENSION) == (EXTENSION,)
    assert store.referrers(schema.SERVICE, SERVICE, schema.HTTP_ROUTE) == (ROUTE,)
    store.put(schema.VIRTUAL_SERVER, virtual_server(targetRef={"name": EXTENSION.name}))
    assert store.referrers(schema.EXTENSION, EXTENSION, schema.VIRTUAL_SERVER) == (Key("mcp-test", "finance"),)
    store.put(schema.BACKEND_TLS_POLICY, policy())
    assert store.referrers(schema.SERVICE, SERVICE, schema.BACKEND_TLS_POLICY) == (Key("mcp-test", "tls"),)
    store.put(schema.HTTP_ROUTE, route(rules=[]))
    assert store.referrers(schema.SERVICE, SERVICE, schema.HTTP_ROUTE) == ()
    store.drop(schema.HTTP_ROUTE, ROUTE)
    assert store.referrers(schema.GATEWAY, GATEWAY, schema.HTTP_ROUTE) == ()


def test_secrets_are_wanted_only_where_one_is_named() -> None:
    store = Store()
    assert not store.secret_namespaces
    store.put(schema.REGISTRATION, registration(caCertSecretRef={"name": "ca"}))
    store.put(schema.EXTENSION, extension(Key("infra", "e"), caCertBundleRef={"name": "ca"}))
    assert list(store.secret_namespaces) == ["infra", "mcp-test"]
    store.drop(schema.REGISTRATION, SERVER)
    assert list(store.secret_namespaces) == ["infra"]


def test_what_is_being_deleted_is_gone() -> None:
    store = Store()
    document = registration()
    document["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    store.put(schema.REGISTRATION, document)
    assert (store.registration(SERVER), store.registrations()) == (None, ())


def test_lists_are_ordered_by_age_and_then_by_name() -> None:
    store = Store()
    for born, name in ((2, "a"), (1, "c"), (1, "b")):
        store.put(schema.REGISTRATION, registration(Key("n", name), born=born))
    assert [one.meta.key.name for one in store.registrations()] == ["b", "c", "a"]


def test_labels_of_a_namespace() -> None:
    store = Store()
    assert store.namespace_labels("a") == {}
    store.put(schema.NAMESPACE, namespace("a", {"team": "x"}))
    assert store.namespace_labels("a")["team"] == "x"


def test_a_decision_about_the_whole_is_made_once_per_state() -> None:
    store, asked = Store(), []

    def decide(view: Store) -> int:
        asked.append(len(view.registrations()))
        return asked[-1]

    assert (store.once(decide), store.once(decide)) == (0, 0)
    store.put(schema.REGISTRATION, registration())
    store.put(schema.REGISTRATION, versioned(registration(), "2"))
    assert (store.once(decide), store.once(decide)) == (1, 1)
    assert asked == [0, 1]


@pytest.mark.parametrize(
    "instance, name",
    [
        pytest.param("default", "mcp.kagenti.com/gateway-controller", id="the default instance"),
        pytest.param("b", "mcp.kagenti.com/gateway-controller/b", id="another"),
    ],
)
def test_each_instance_has_a_name_of_its_own_as_a_controller(instance: str, name: str) -> None:
    assert Settings(instance=instance).controller_name == name


def test_access_to_secrets_is_a_change_when_it_is_one() -> None:
    store = Store()
    assert store.set_access("a", Access.FORBIDDEN) is Change.SUBSTANCE
    assert store.set_access("a", Access.FORBIDDEN) is Change.NOTHING
    assert store.reports() == ()


def test_the_status_of_our_own_objects_is_at_hand() -> None:
    cluster = seed()
    store = cluster.store()
    assert store.status(schema.EXTENSION, EXTENSION) == {}
    assert store.status(schema.GATEWAY, GATEWAY) == {}
    assert store.status(schema.REGISTRATION, Key("nobody", "nothing")) == {}
    cluster.objects[schema.EXTENSION, EXTENSION]["status"] = {"hosts": ["a"]}
    assert cluster.store().status(schema.EXTENSION, EXTENSION) == {"hosts": ["a"]}
