"""Look-ups: hosts, names, URIs."""

import pytest

from mcp_gateway.config.spec import GatewayEntry
from mcp_gateway.protocol.eras import V2025_11_25
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.routing.table import Hosts, View, normal_host
from mcp_gateway.values import BackendKey, GatewayName, JsonObject
from tests.support.tables import lists, server, snapshot, spec, table, view_of

NO_RESOURCES: JsonObject = {"tools": {}}


def hosts(**claims: tuple[str, ...]) -> Hosts:
    return Hosts.of(tuple((GatewayName(name), claimed) for name, claimed in claims.items()))


@pytest.mark.parametrize(
    "host, gateway",
    [
        ("mcp.example.com", "exact"),
        ("MCP.Example.COM.:8443", "exact"),
        ("other.example.com", "wide"),
        ("a.b.deep.example.com", "deep"),
        ("deep.example.com", "wide"),
        ("example.com", "wide"),
        ("[::1]:80", "six"),
        ("elsewhere", "wide"),
        ("", "wide"),
    ],
)
def test_exact_hosts_come_before_the_longest_wildcard(host: str, gateway: str) -> None:
    claims = hosts(
        wide=("*.example.com",),
        deep=("*.deep.example.com",),
        exact=("Mcp.example.com",),
        six=("[::1]",),
        late=("[::1]",),
    )
    assert claims.find(host) == gateway


def test_an_unclaimed_host_goes_to_the_gateway_of_every_host_else_to_the_first() -> None:
    assert hosts(one=("a",), every=()).find("x") == "every"
    assert hosts(one=("a",), two=("b",)).find("x") == "one"
    assert hosts(one=("a",), two=("*",)).find("x") == "two"
    assert hosts().find("x") == ""


def test_a_host_is_compared_without_case_port_and_dot() -> None:
    assert normal_host(" LocalHost.:80 ") == "localhost"
    assert normal_host("[FE80::1]:80") == "[fe80::1]"


def test_the_table_finds_gateways_and_views() -> None:
    built = table(spec(gateways=(GatewayEntry(name=GatewayName("g"), hosts=("h",)),)))
    assert built.gateway_for("h:80") == "g"
    assert built.view(GatewayName("g")) is built.views[GatewayName("g"), ""]
    assert built.view(GatewayName("g"), "none") is None


def resolved(view: View, uri: str) -> tuple[str, str] | None:
    target = view.resolve_uri(uri)
    return None if target is None else (target.backend, target.upstream)


def test_a_uri_leads_to_its_lister_then_its_marker_then_a_template_then_the_only_plain_server() -> None:
    view = view_of(
        spec(server("time", "time_"), server("plain"), server("notes", "notes_")),
        snapshot("time", lists(resources=["test://now"])),
        snapshot("plain", lists(resources=["test://static"], templates=["test://tpl/{id}"])),
        snapshot("notes", lists(templates=["note://{id}"])),
    )
    assert resolved(view, "test://time/now") == ("time", "test://now")
    assert resolved(view, "test://time/unlisted") == ("time", "test://unlisted")
    assert resolved(view, "test://static") == ("plain", "test://static")
    assert resolved(view, "test://tpl/1") == ("plain", "test://tpl/1")
    assert resolved(view, "note://notes/7") == ("notes", "note://7")
    assert resolved(view, "other://x") == ("plain", "other://x")
    assert resolved(view, "no scheme") == ("plain", "no scheme")


def test_a_template_of_a_server_with_a_prefix_gives_the_servers_own_uri() -> None:
    view = view_of(spec(server("notes", "n_")), snapshot("notes", lists(templates=["note://{id}"]), capabilities={}))
    assert view.markers == {}  # it has declared no resources, and lists templates all the same
    assert resolved(view, "note://notes/7") == ("notes", "note://7")
    assert resolved(view, "note://notes/7/8") is None


def test_two_plain_servers_with_resources_leave_an_unknown_uri_to_nobody() -> None:
    servers = spec(server("a"), server("b"))
    assert resolved(view_of(servers, snapshot("a", lists()), snapshot("b", lists())), "x://y") is None
    mute = snapshot("b", lists(), capabilities=NO_RESOURCES)
    assert resolved(view_of(servers, snapshot("a", lists()), mute), "x://y") == ("a", "x://y")
    assert resolved(view_of(servers, snapshot("a", lists())), "x://y") == ("a", "x://y")


def test_a_server_without_resources_owns_no_mapped_uri() -> None:
    heard = view_of(spec(server("a", "a_")), snapshot("a", lists(), capabilities=NO_RESOURCES))
    assert resolved(heard, "x://a/y") is None
    assert resolved(view_of(spec(server("a", "a_"))), "x://a/y") == ("a", "x://y")


def test_lists_fingerprints_and_hints_are_there_for_every_kind() -> None:
    view = view_of(spec())
    for kind in Kind:
        page = view.page(kind, V2025_11_25)
        assert page is not None
        assert page.raw == b'{"%b":[]}' % kind.value.encode()
        assert len(view.fingerprint(kind)) == 16
        assert view.hints(kind) == (0, False)


def test_templates_are_found_by_their_text() -> None:
    view = view_of(spec(server("a", "a_")), snapshot("a", lists(templates=["x://{id}"])))
    found = view.find_template("x://a/{id}")
    assert found is not None
    assert (found.backend, found.upstream) == (BackendKey("a"), "x://{id}")
    assert view.find_template("x://{id}") is None
