"""What a controller has compiled, read entry by entry: what is wrong or too new falls alone."""

import contextlib
import gzip
from collections.abc import Iterable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.config.compiled import MAX_DOCUMENT_BYTES, Compiled, read_compiled, redacted, unpack
from mcp_gateway.config.spec import HttpTarget
from mcp_gateway.errors import ConfigError
from mcp_gateway.kube.reconcile.compile import document
from mcp_gateway.values import JsonObject, JsonValue
from tests.support.certificates import Authority
from tests.support.cluster import registration, seed, virtual_server


def entry(name: str, **more: JsonValue) -> JsonObject:
    return {"name": name, "url": f"http://{name}.test/mcp", "prefix": f"{name}_", "revision": "r1", **more}


def _names(servers: Iterable[JsonValue]) -> list[JsonValue]:
    return list(dict.fromkeys(str(one["name"]) for one in servers if isinstance(one, dict) and "name" in one))


def read(*servers: JsonValue, allow_loopback: bool = False, **more: JsonValue) -> Compiled:
    gateways: list[JsonValue] = [{"name": "g", "servers": _names(servers)}]
    whole: JsonObject = {"schema": 1, "revision": "r", "servers": [*servers], "gateways": gateways, **more}
    return read_compiled(orjson.dumps(whole), allow_loopback=allow_loopback)


def target(compiled: Compiled, place: int = 0) -> HttpTarget:
    found = compiled.spec.servers[place].target
    assert isinstance(found, HttpTarget)
    return found


def keys(compiled: Compiled) -> list[str]:
    return [server.key for server in compiled.spec.servers]


def test_what_a_controller_compiles_of_the_seed_is_served() -> None:
    cluster = seed().put(virtual_server(tools=["myserver_a"]), registration())
    made = document(cluster.store())
    compiled = read_compiled(unpack(made.packed))
    assert keys(compiled) == ["mcp-test/my-mcp-server"]
    assert not compiled.refused
    assert not compiled.notes
    (gateway,) = compiled.spec.gateways
    assert gateway.name == "mcp-test/mcp-extension"
    assert gateway.servers == ("mcp-test/my-mcp-server",)
    assert "mcp.127-0-0-1.sslip.io" in gateway.hosts
    assert compiled.revision == made.revision
    assert compiled.revisions["servers", "mcp-test/my-mcp-server"] == next(iter(made.servers.values()))
    assert target(compiled).connect == "10.96.0.7"
    assert target(compiled).routable_only


def test_without_gateways_nothing_is_served() -> None:
    compiled = read_compiled(orjson.dumps({"schema": 1, "servers": [], "gateways": []}))
    assert compiled.spec.gateways == ()


@pytest.mark.parametrize(
    "content, why",
    [
        pytest.param(b"", "is not JSON", id="empty"),
        pytest.param(b"[]", "is no JSON object", id="a list"),
        pytest.param(b"{}", "has schema None", id="no schema"),
        pytest.param(b'{"schema": 3}', "has schema 3; this version reads 1 to 2", id="too new"),
        pytest.param(b'{"schema": "1"}', "has schema '1'", id="a schema of another type"),
    ],
)
def test_a_document_that_cannot_be_used_at_all_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        read_compiled(content)


def test_a_document_of_the_next_schema_is_read() -> None:
    assert keys(read_compiled(b'{"schema": 2, "servers": [{"name": "a", "url": "http://a.test"}]}')) == ["a"]


def test_a_bad_entry_falls_alone_and_says_why() -> None:
    compiled = read(entry("a"), entry("b", url="ftp://x"), entry("c"))
    assert keys(compiled) == ["a", "c"]
    refused = compiled.refused["servers", "b"]
    assert (refused.unsupported, "must be a URL" in refused.why) == (False, True)
    assert compiled.revisions["servers", "b"] == "r1"
    assert compiled.spec.gateways[0].servers == ("a", "c")


def test_an_entry_that_requires_what_is_not_known_is_not_served() -> None:
    compiled = read(
        entry("a", requires=["tools", "onlyFromMars"], tools={"include": ["x"]}),
        entry("b", requires=["tools"], tools={"include": ["x"]}),
    )
    assert keys(compiled) == ["b"]
    assert compiled.refused["servers", "a"].unsupported
    assert "onlyFromMars" in compiled.refused["servers", "a"].why


def test_a_gateway_or_virtual_server_may_require_too() -> None:
    virtual: list[JsonValue] = [{"name": "v", "tools": ["a_x"], "requires": ["tools", "time"]}]
    gateways: list[JsonValue] = [
        {"name": "g", "servers": ["a"], "virtualServers": ["v"], "requires": ["servers"]},
        {"name": "h", "servers": ["a"], "requires": ["passwords"]},
    ]
    compiled = read(entry("a"), virtualServers=virtual, gateways=gateways)
    assert [gateway.name for gateway in compiled.spec.gateways] == ["g"]
    assert compiled.spec.gateways[0].virtual_servers == ()
    assert set(compiled.refused) == {("virtualServers", "v"), ("gateways", "h")}


@pytest.mark.parametrize(
    "requires, named",
    [
        pytest.param(["gateways", "quotas"], "requires quotas", id="more than is known"),
        pytest.param("x", "requires something that is no list", id="what is no list"),
    ],
)
def test_a_whole_that_requires_what_is_not_known_is_obeyed_as_nothing(requires: JsonValue, named: str) -> None:
    virtual: list[JsonValue] = [{"name": "v", "tools": ["a_x"], "revision": "r2"}]
    compiled = read(entry("a"), virtualServers=virtual, requires=requires)
    assert (compiled.spec.servers, compiled.spec.virtual_servers, compiled.spec.gateways) == ((), (), ())
    assert set(compiled.refused) == {("servers", "a"), ("virtualServers", "v"), ("gateways", "g")}
    assert all(one.unsupported and named in one.why for one in compiled.refused.values())
    assert compiled.revisions["virtualServers", "v"] == "r2"
    assert "upgrade the data plane" in compiled.notes[0]


def test_the_hosts_of_a_gateway_that_is_refused_lead_to_nothing_instead_of_another_gateway() -> None:
    gateways: list[JsonValue] = [
        {"name": "g", "hosts": ["*"], "servers": ["a"]},
        {"name": "h", "hosts": ["h.test", 1], "servers": ["a"], "requires": ["passwords"]},
    ]
    compiled = read(entry("a"), gateways=gateways)
    (open_, withheld) = compiled.spec.gateways
    assert (open_.name, open_.servers) == ("g", ("a",))
    assert (withheld.name, withheld.hosts, withheld.servers, withheld.virtual_servers) == ("h", ("h.test",), (), ())


def test_keys_that_nobody_knows_are_ignored_and_said_so() -> None:
    compiled = read(entry("a", color="red"))
    assert keys(compiled) == ["a"]
    assert compiled.notes == ("servers.a.color: unknown key: ignored",)


def test_what_has_no_name_is_no_entry() -> None:
    compiled = read("x", {"url": "http://a.test"}, entry("a"))
    assert keys(compiled) == ["a"]
    assert len(compiled.notes) >= 2


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"url": None, "command": ["sh", "-c", "id"]}, id="a command and no url"),
        pytest.param({"credential": {"file": "/etc/passwd"}}, id="a file"),
        pytest.param({"credential": {"env": "HOME"}}, id="a variable"),
        pytest.param({"tls": {"ca": {"file": "/etc/ssl/certs/ca.crt"}}}, id="a file of authorities"),
    ],
)
def test_nothing_of_this_machine_is_used(more: JsonObject) -> None:
    value: JsonObject = {key: one for key, one in entry("a", **more).items() if one is not None}
    compiled = read(value, entry("b"))
    assert keys(compiled) == ["b"]
    assert ("servers", "a") in compiled.refused


def test_of_entries_that_clash_the_first_is_right() -> None:
    compiled = read(entry("a"), entry("b", prefix="a_"), entry("a", prefix="z_"))
    assert [(server.key, server.prefix) for server in compiled.spec.servers] == [("a", "a_")]
    assert "prefix a_ is already" in compiled.refused["servers", "b"].why
    assert ("servers", "a") not in compiled.refused


def test_loopback_is_for_tests_and_never_for_what_is_outside() -> None:
    assert target(read(entry("a"))).routable_only
    assert not target(read(entry("a"), allow_loopback=True)).routable_only
    assert target(read(entry("a", external=True, requires=["external"]), allow_loopback=True)).routable_only


def test_authorities_are_looked_up_and_those_of_the_system_may_join() -> None:
    authority = Authority()
    servers = [
        entry("a", tls={"authority": "d1", "systemAuthorities": True}),
        entry("b", tls={"authority": "d1", "systemAuthorities": False, "serverName": "b.test"}),
        entry("c", tls={"systemAuthorities": True}),
        entry("d", tls={"authority": "unknown"}),
    ]
    compiled = read(*servers, authorities={"d1": authority.pem})
    assert [
        (target(compiled, place).tls.ca_pem, target(compiled, place).tls.system_authorities) for place in range(3)
    ] == [
        (authority.pem, True),
        (authority.pem, False),
        (None, False),
    ]
    assert target(compiled, 1).tls.server_name == "b.test"
    assert "d" not in keys(compiled)


def test_the_signing_keys_are_taken_and_bad_ones_noted() -> None:
    keys_: list[JsonValue] = [{"value": "0123456789abcdef"}, {"value": "short"}]
    compiled = read(entry("a"), sessions={"signingKeys": keys_})
    assert compiled.spec.sessions.signing_keys == (b"0123456789abcdef",)
    assert any("at least 16 bytes" in note for note in compiled.notes)


def test_a_pod_settles_before_it_drains() -> None:
    assert read(entry("a")).spec.drain.settle_s == 5.0


@pytest.mark.parametrize(
    "packed, why",
    [
        pytest.param(b"garbage", "no gzip", id="garbage"),
        pytest.param(b"", "is not JSON", id="empty"),
        pytest.param(gzip.compress(b" " * (MAX_DOCUMENT_BYTES + 1)), "unpacks to more", id="a bomb"),
    ],
)
def test_what_is_packed_badly_is_refused(packed: bytes, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        read_compiled(unpack(packed))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "name",
                        "servers",
                        "url",
                        "gateways",
                        "requires",
                        "tls",
                        "sessions",
                        "schema",
                        "virtualServers",
                        "x",
                    ]
                ),
                inner,
            )
        ),
        max_leaves=30,
    )
)
def test_any_document_is_read_or_refused(value: JsonValue) -> None:
    whole = {**value, "schema": 1} if isinstance(value, dict) else value
    with contextlib.suppress(ConfigError):
        compiled = read_compiled(orjson.dumps(whole))
        assert len({server.key for server in compiled.spec.servers}) == len(compiled.spec.servers)


def test_what_is_shown_to_people_has_no_secret() -> None:
    servers: list[JsonValue] = [
        entry("a", credential={"value": "Bearer s3cret"}, headers={"X-Key": "s3cret"}, hint="a server"),
        "odd",
    ]
    sessions: JsonObject = {"signingKeys": [{"value": "s3cret-s3cret-s3cret"}]}
    shown = redacted(orjson.dumps({"schema": 1, "servers": servers, "sessions": sessions, "gateways": []}))
    assert "s3cret" not in str(shown)
    assert shown["sessions"] == {"signingKeys": ["[hidden]"]}
    first = shown["servers"]
    assert isinstance(first, list)
    assert first[0] == {**entry("a"), "credential": "[hidden]", "headers": {"X-Key": "[hidden]"}, "hint": "a server"}
    assert redacted(b'{"schema": 1}') == {"schema": 1, "servers": [], "sessions": {"signingKeys": []}}
