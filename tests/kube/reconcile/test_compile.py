"""The configuration document: its form, its revisions, its bounds."""

import base64
import gzip
import json
import random
from typing import Any

import pytest

from mcp_gateway.config.file import read_spec
from mcp_gateway.kube import schema
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.reconcile import compile as compiling
from mcp_gateway.kube.reconcile.compile import Document, document, is_same
from mcp_gateway.kube.store import Settings
from tests.support.authorities import OTHER_PEM, PEM
from tests.support.cluster import (
    EXTENSION,
    SELECTION,
    SERVER,
    Cluster,
    extension,
    gateway,
    grant,
    listener,
    namespace,
    policy,
    registration,
    route,
    secret,
    seed,
    service,
    virtual_server,
)


def compiled(cluster: Cluster) -> Document:
    return cluster.store().once(document)


def content(cluster: Cluster) -> Any:  # noqa: ANN401 -- JSON
    return json.loads(compiled(cluster).content)


def without_revisions(value: Any) -> Any:  # noqa: ANN401 -- JSON
    match value:
        case dict():
            return {key: without_revisions(below) for key, below in value.items() if key != "revision"}
        case list():
            return [without_revisions(one) for one in value]
        case _:
            return value


def test_the_seed() -> None:
    assert without_revisions(content(seed().put(virtual_server()))) == {
        "schema": 1,
        "requires": ["gateways"],
        "servers": [
            {
                "name": "mcp-test/my-mcp-server",
                "url": "http://mcp-api-key-server.mcp-test.svc.cluster.local:9090/mcp",
                "connect": "10.96.0.7",
                "prefix": "myserver_",
                "state": "enabled",
            }
        ],
        "virtualServers": [{"name": "mcp-test/finance", "tools": ["myserver_time"], "requires": ["tools"]}],
        "gateways": [
            {
                "name": "mcp-test/mcp-extension",
                "hosts": ["mcp.127-0-0-1.sslip.io", "*.mcp.local"],
                "requires": ["hosts", "servers", "virtualServers"],
                "servers": ["mcp-test/my-mcp-server"],
                "virtualServers": ["mcp-test/finance"],
            }
        ],
        "authorities": {},
        "sessions": {"signingKeys": []},
    }


def test_an_empty_cluster_says_that_there_is_nothing() -> None:
    found = content(Cluster())
    assert (found["servers"], found["gateways"], found["virtualServers"]) == ([], [], [])


def test_the_same_objects_give_the_same_bytes_in_any_order() -> None:
    cluster = seed().put(
        registration(Key("mcp-test", "b"), prefix="b_"), registration(Key("mcp-test", "a"), prefix="a_")
    )
    first = compiled(cluster)
    for number in range(10):
        objects = list(cluster.objects.items())
        random.Random(number).shuffle(objects)
        cluster.objects = dict(objects)
        again = compiled(cluster)
        assert (again.content, again.packed) == (first.content, first.packed)
    assert gzip.decompress(first.packed) == first.content


def test_servers_and_gateways_stand_in_the_order_of_their_age() -> None:
    cluster = seed().put(registration(born=9), registration(Key("mcp-test", "z"), prefix="z_", born=1))
    found = content(cluster)
    assert [one["name"] for one in found["servers"]] == ["mcp-test/z", "mcp-test/my-mcp-server"]
    assert found["gateways"][0]["servers"] == ["mcp-test/z", "mcp-test/my-mcp-server"]


def test_a_revision_changes_exactly_with_its_entry() -> None:
    cluster = seed().put(registration(Key("mcp-test", "other"), prefix="o_"), virtual_server())
    before = compiled(cluster)
    after = compiled(cluster.put(service(address="10.96.0.8")))
    assert after.revision != before.revision
    assert after.servers[SERVER] != before.servers[SERVER]
    assert (after.gateways, after.virtual_servers) == (before.gateways, before.virtual_servers)
    hint = compiled(cluster.put(registration(hint="x")))
    assert hint.servers[Key("mcp-test", "other")] == after.servers[Key("mcp-test", "other")]
    named = {one["name"]: one["revision"] for one in content(cluster)["servers"]}
    assert named == {str(key): revision for key, revision in hint.servers.items()}


@pytest.mark.parametrize("member, value", [("generation", 3), ("uid", "made anew")])
@pytest.mark.parametrize(
    "kind, key",
    [(schema.REGISTRATION, SERVER), (schema.EXTENSION, EXTENSION), (schema.VIRTUAL_SERVER, SELECTION)],
    ids=lambda one: getattr(one, "kind", ""),
)
def test_what_was_changed_and_changed_back_has_another_revision(
    kind: schema.Kind, key: Key, member: str, value: object
) -> None:
    """What pods said of the same entry before is old news."""
    cluster = seed().put(virtual_server())
    before = content(cluster)
    cluster.objects[kind, key]["metadata"][member] = value
    after = content(cluster)
    assert without_revisions(after) == without_revisions(before)
    changed = [part for part in ("servers", "gateways", "virtualServers") if after[part] != before[part]]
    assert len(changed) == 1
    assert after["revision"] != before["revision"]


def test_a_server_more_changes_no_revision_of_the_gateway() -> None:
    cluster = seed()
    before = compiled(cluster).gateways
    assert compiled(cluster.put(registration(Key("mcp-test", "b"), prefix="b_"))).gateways == before
    assert compiled(cluster.put(extension(publicHost="x.io"))).gateways != before
    assert content(cluster.put(extension(logLevel="debug")))["gateways"][0]["logLevel"] == "debug"


def test_each_authority_stands_there_once() -> None:
    cluster = seed().put(
        registration(caCertSecretRef={"name": "ca"}),
        registration(Key("mcp-test", "b"), prefix="b_", caCertSecretRef={"name": "same"}),
        registration(Key("mcp-test", "c"), prefix="c_", caCertSecretRef={"name": "other"}),
        secret("ca", ca__crt=PEM),
        secret("same", ca__crt=PEM),
        secret("other", ca__crt=OTHER_PEM),
    )
    found = content(cluster)
    assert sorted(found["authorities"].values()) == sorted([PEM.decode(), OTHER_PEM.decode()])
    names = [one["tls"]["authority"] for one in found["servers"]]
    assert len(names) == 3
    assert len(set(names)) == 2
    assert found["authorities"][names[0]] in (PEM.decode(), OTHER_PEM.decode())


def test_tls_with_the_authorities_of_the_system() -> None:
    assert content(seed().put(policy()))["servers"][0]["tls"] == {
        "serverName": "time.internal",
        "systemAuthorities": True,
    }


def test_the_first_signing_key_signs_and_the_others_verify() -> None:
    keys = secret(
        schema.SIGNING_KEY_SECRET, inside="mcp-system", key=b"k" * 32, before=b"b" * 32, short=b"s", after=b"a" * 16
    )
    found = content(seed().put(keys))["sessions"]["signingKeys"]
    assert [base64.b64decode(one["value"]) for one in found] == [b"k" * 32, b"a" * 16, b"b" * 32]


def test_virtual_servers_are_offered_where_they_are_meant_for() -> None:
    team = Key("team-b", "e")
    cluster = seed().put(
        namespace("team-b"),
        gateway(listener("x", "b.io"), key=Key("team-b", "g")),
        extension(team, Key("team-b", "g"), born=1),
        virtual_server(),
        virtual_server(Key("team-b", "own"), targetRef={"name": "e"}, prompts=["p"], resources=["r"]),
        virtual_server(Key("team-b", "foreign"), targetRef={"name": EXTENSION.name, "namespace": EXTENSION.namespace}),
    )
    found = content(cluster)
    assert {one["name"]: one["virtualServers"] for one in found["gateways"]} == {
        str(EXTENSION): ["mcp-test/finance"],
        str(team): ["mcp-test/finance", "team-b/own"],
    }
    assert found["virtualServers"][1]["requires"] == ["tools", "prompts", "resources"]
    assert [one["name"] for one in found["virtualServers"]] == ["mcp-test/finance", "team-b/own"]
    source = (schema.GROUP, "MCPVirtualServer", "team-b")
    cluster.put(grant("mcp-test", source, (schema.GROUP, "MCPGatewayExtension", "")))
    assert content(cluster)["gateways"][0]["virtualServers"] == ["mcp-test/finance", "team-b/foreign"]


def test_another_instance_has_a_document_of_its_own() -> None:
    cluster = seed()
    cluster.settings = Settings(instance="b", namespace="mcp-b")
    assert content(cluster)["gateways"] == []


# --- bounds ----------------------------------------------------------------------------------------------------------


def many(number: int, **spec: Any) -> Cluster:  # noqa: ANN401 -- spec of an object
    cluster = seed().drop(schema.REGISTRATION, SERVER)
    for index in range(number):
        cluster.put(registration(Key("mcp-test", f"s{index:04}"), prefix=f"s{index}_", born=index, **spec))
    return cluster


def test_what_does_not_fit_is_refused_by_name_the_youngest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "MAX_DOCUMENT_BYTES", 3000)
    found = compiled(many(20))
    assert len(found.content) <= 3000
    kept = sorted(key.name for key in found.servers)
    assert kept == [f"s{index:04}" for index in range(len(kept))]
    assert 3 < len(kept) < 20
    assert {key.name for _, key in found.refused} == {f"s{index:04}" for index in range(len(kept), 20)}
    assert len(json.loads(found.content)["gateways"][0]["servers"]) == len(kept)


def test_virtual_servers_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "MAX_DOCUMENT_BYTES", 2000)
    cluster = many(1).put(virtual_server(born=5, tools=[f"tool_{index}" for index in range(500)]))
    found = compiled(cluster)
    assert found.refused == {(schema.VIRTUAL_SERVER, SELECTION)}
    assert len(found.servers) == 1


def test_nothing_fits_and_the_gateways_are_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "MAX_DOCUMENT_BYTES", 10)
    found = compiled(many(2))
    assert not found.servers
    assert len(found.refused) == 2
    assert list(found.gateways) == [EXTENSION]


def test_two_thousand_servers_fit() -> None:
    found = compiled(many(2000))
    assert not found.refused
    assert len(found.packed) < compiling.MAX_COMPRESSED_BYTES


def test_what_a_secret_holds_already_is_recognised_however_it_was_packed() -> None:
    wanted = compiled(seed())
    assert is_same({schema.CONFIG_KEY: wanted.packed}, wanted)
    assert is_same({schema.CONFIG_KEY: gzip.compress(wanted.content, compresslevel=1, mtime=7)}, wanted)
    assert not is_same({}, wanted)
    assert not is_same({schema.CONFIG_KEY: b"garbage"}, wanted)
    assert not is_same({schema.CONFIG_KEY: gzip.compress(wanted.content + b" ")}, wanted)


def test_a_route_that_is_not_there_any_more_takes_its_server_away() -> None:
    cluster = seed()
    assert compiled(cluster).servers
    cluster.put(route(rules=[]))
    assert not compiled(cluster).servers


NEW_MEMBERS = {
    "schema",
    "revision",
    "requires",
    "authorities",
    "authority",
    "systemAuthorities",
    "external",
    "logLevel",
}
"""What the document has besides the members of a configuration file."""


def as_file(value: Any) -> Any:  # noqa: ANN401 -- JSON
    match value:
        case dict():
            return {key: as_file(below) for key, below in value.items() if key not in NEW_MEMBERS}
        case list():
            return [as_file(one) for one in value]
        case _:
            return value


def test_every_other_member_is_one_of_the_configuration_file() -> None:
    cluster = seed().put(
        registration(
            timeouts={"connect": "500ms", "call": "1m", "input": "5m", "max": "10m", "list": "5s"},
            limits={"concurrency": 64, "responseBytes": "32MiB", "eventBytes": "4MiB", "upstreamSessions": 1000},
            health={"interval": "30s", "failures": 3, "graceWhenDown": "30s"},
            tools={"include": ["read_*"], "exclude": ["read_secret"]},
            forwardHeaders=["X-Request-Id"],
            protocol="2025-11-25",
            tags=["a"],
            category=["b"],
            hint="h",
            credentialRef={"name": "t"},
            caCertSecretRef={"name": "ca"},
        ),
        secret("t", token=b"Bearer x"),
        secret("ca", ca__crt=PEM),
        secret(schema.SIGNING_KEY_SECRET, inside="mcp-system", key=b"k" * 32),
        virtual_server(prompts=["myserver_p"], resources=["x://y"]),
        policy(),
    )

    def no_file(name: str) -> bytes:
        raise AssertionError(name)

    spec = read_spec(json.dumps(as_file(content(cluster))), "the document", {}, no_file)
    (server,) = spec.servers
    assert server.key == "mcp-test/my-mcp-server"
    assert server.timeouts.connect_s == 0.5
    assert [gateway.hosts for gateway in spec.gateways] == [("mcp.127-0-0-1.sslip.io", "*.mcp.local")]
