"""Where a server is and how to speak to it."""

from typing import Any

import pytest

from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.reconcile.backend import Backend, backends
from mcp_gateway.kube.reconcile.compile import document
from mcp_gateway.kube.store import Access, Settings
from tests.support.authorities import OTHER_PEM, PEM
from tests.support.cluster import (
    SERVER,
    Cluster,
    Document,
    backend,
    extension,
    policy,
    registration,
    route,
    rule,
    secret,
    seed,
    service,
)

NAME = "mcp-api-key-server.mcp-test.svc.cluster.local"


def resolved(*objects: Document, settings: Settings | None = None, access: Access = Access.LISTED) -> Backend:
    cluster = seed().put(*objects)
    cluster.settings = settings or Settings()
    cluster.access["mcp-test"] = access
    return cluster.store().once(backends)[SERVER]


def entry(*objects: Document, settings: Settings | None = None, access: Access = Access.LISTED) -> Any:  # noqa: ANN401 -- JSON
    found = resolved(*objects, settings=settings, access=access)
    assert found.entry is not None, found
    return found.entry


def external(target: str = "mcp.example.com", name: str = "https", port: int = 443) -> Document:
    return service(type="ExternalName", externalName=target, clusterIP="", ports=[{"name": name, "port": port}])


def port_route(port: int) -> Document:
    return route(rules=[rule(backend(port=port))])


def test_the_seed() -> None:
    assert entry() == {
        "name": "mcp-test/my-mcp-server",
        "url": f"http://{NAME}:9090/mcp",
        "connect": "10.96.0.7",
        "prefix": "myserver_",
        "state": "enabled",
    }


@pytest.mark.parametrize(
    "objects, url, connect",
    [
        pytest.param([service(address="None")], f"http://{NAME}:9090/mcp", None, id="headless"),
        pytest.param([service(address="")], f"http://{NAME}:9090/mcp", None, id="no address yet"),
        pytest.param([service(address="fd00::7")], f"http://{NAME}:9090/mcp", "fd00::7", id="IPv6"),
        pytest.param([registration(path="/v1/mcp")], f"http://{NAME}:9090/v1/mcp", "10.96.0.7", id="path"),
        pytest.param(
            [service(ports=[{"port": 9090, "appProtocol": "HTTPS"}])],
            f"https://{NAME}:9090/mcp",
            "10.96.0.7",
            id="https by protocol",
        ),
        pytest.param(
            [service(ports=[{"port": 9090, "name": "HTTPS"}])], f"https://{NAME}:9090/mcp", "10.96.0.7", id="by name"
        ),
        pytest.param([policy()], f"https://{NAME}:9090/mcp", "10.96.0.7", id="by policy"),
        pytest.param([policy(section="http")], f"https://{NAME}:9090/mcp", "10.96.0.7", id="policy for the port"),
        pytest.param([policy(section="other")], f"http://{NAME}:9090/mcp", "10.96.0.7", id="policy for another port"),
        pytest.param([policy("another")], f"http://{NAME}:9090/mcp", "10.96.0.7", id="policy for another service"),
        pytest.param(
            [registration(caCertSecretRef={"name": "ca"}), secret("ca", ca__crt=PEM)],
            f"https://{NAME}:9090/mcp",
            "10.96.0.7",
            id="by authority",
        ),
        pytest.param(
            [external(), port_route(443)], "https://mcp.example.com:443/mcp", "mcp.example.com.", id="ExternalName"
        ),
        pytest.param(
            [service(type="ExternalName", externalName="Mcp.example.com.", clusterIP="", ports=[]), port_route(80)],
            "http://mcp.example.com:80/mcp",
            "mcp.example.com.",
            id="ExternalName without ports",
        ),
        pytest.param(
            [external("192.0.2.7"), port_route(443)], "https://192.0.2.7:443/mcp", "192.0.2.7", id="no name at all"
        ),
        pytest.param(
            [route(rules=[rule(backend("Api.example.com", None, group="networking.istio.io", kind="Hostname"))])],
            "https://api.example.com:443/mcp",
            "api.example.com.",
            id="Hostname",
        ),
        pytest.param(
            [
                route(
                    rules=[
                        rule(
                            backend("api.example.com", 8443, group="networking.istio.io", kind="Hostname"),
                            filters=[{"type": "URLRewrite", "urlRewrite": {"hostname": "other.example.com"}}],
                        )
                    ]
                )
            ],
            "https://other.example.com:8443/mcp",
            "api.example.com.",
            id="Hostname under another name",
        ),
        pytest.param(
            [
                service(address="None"),
                route(rules=[rule(filters=[{"type": "URLRewrite", "urlRewrite": {"hostname": "x.io"}}])]),
            ],
            "http://x.io:9090/mcp",
            NAME,
            id="headless under another name",
        ),
    ],
)
def test_addresses(objects: list[Document], url: str, connect: str | None) -> None:
    found = entry(*objects)
    assert (found["url"], found.get("connect")) == (url, connect)


def test_a_server_outside_the_cluster_is_marked_so_that_every_address_is_checked() -> None:
    """Acceptance case K-17."""
    found = entry(external(), port_route(443))
    assert found["external"] is True
    assert found["requires"] == ["external"]


@pytest.mark.parametrize(
    "objects, reason, words",
    [
        pytest.param([port_route(1)], "BackendNotFound", "has no port 1; it has 9090", id="no such port"),
        pytest.param([service(ports=[])], "BackendNotFound", "it has none", id="no ports"),
        pytest.param(
            [service(ports=[{"port": 9090, "appProtocol": "kubernetes.io/h2c"}])],
            "UnsupportedProtocol",
            "appProtocol kubernetes.io/h2c; set it to http or https",
            id="h2c",
        ),
        pytest.param(
            [route(rules=[rule(backend("b", kind="Bucket", group="storage.io"))])],
            "InvalidKind",
            "unsupported backend reference kind: Bucket of group storage.io",
            id="another kind",
        ),
        pytest.param(
            [route(rules=[rule(backend("b", kind="Pod"))])],
            "InvalidKind",
            "unsupported backend reference kind: Pod; refer to a Service",
            id="another kind of the core group",
        ),
        pytest.param(
            [external("db.other.svc"), port_route(443)],
            "RefNotPermitted",
            "db.other.svc, a name inside the cluster",
            id="around a grant",
        ),
        pytest.param([external("x.cluster.local"), port_route(443)], "RefNotPermitted", "inside", id="the long way"),
        pytest.param(
            [route(rules=[rule(backend("mcp-gateway-broker-router", 8080, namespace="mcp-system"))])],
            "RefNotPermitted",
            "leads to the gateway itself, which would serve itself without end; refer to the Service of an MCP server",
            id="the gateway",
        ),
        pytest.param([external(""), port_route(443)], "BackendNotFound", "set externalName", id="no name"),
        pytest.param(
            [
                external(name="http", port=80),
                port_route(80),
                registration(credentialRef={"name": "t"}),
                secret("t", token=b"Bearer x"),
            ],
            "UnsupportedProtocol",
            "never sent over plain HTTP to mcp.example.com",
            id="credential in the clear",
        ),
    ],
)
def test_what_cannot_be_reached_is_explained(objects: list[Document], reason: str, words: str) -> None:
    found = resolved(*objects)
    assert found.entry is None
    assert (found.resolved.status, found.resolved.reason) == ("False", reason)
    assert words in found.resolved.message


@pytest.mark.parametrize(
    "objects",
    [
        [external(), port_route(443)],
        [route(rules=[rule(backend("a.io", None, group="networking.istio.io", kind="Hostname"))])],
    ],
)
def test_servers_outside_the_cluster_can_be_switched_off(objects: list[Document]) -> None:
    found = resolved(*objects, settings=Settings(external_backends=False))
    assert found.resolved.reason == "RefNotPermitted"
    assert "--no-external-backends" in found.resolved.message


def test_the_domain_of_the_cluster_can_be_another() -> None:
    found = entry(settings=Settings(cluster_domain="corp.local"))
    assert found["url"] == "http://mcp-api-key-server.mcp-test.svc.corp.local:9090/mcp"


# --- secrets ---------------------------------------------------------------------------------------------------------

WITH_TOKEN = registration(credentialRef={"name": "t"})


def test_a_credential_is_the_whole_header_without_the_line_end_of_a_file() -> None:
    assert entry(WITH_TOKEN, secret("t", token=b"Bearer x\n"))["credential"] == {"value": "Bearer x"}
    other = registration(credentialRef={"name": "t", "key": "other"})
    assert entry(other, secret("t", other=b"Basic y"))["credential"] == {"value": "Basic y"}


def test_the_label_has_an_alias() -> None:
    labelled = secret("t", labelled=False, token=b"x")
    labelled["metadata"]["labels"] = {"mcp.kagenti.com/secret": "true"}
    assert entry(WITH_TOKEN, labelled)["credential"] == {"value": "x"}


@pytest.mark.parametrize(
    "objects, access, status, reason, words",
    [
        pytest.param([], Access.LISTED, "False", "SecretNotFound", "t not found in namespace mcp-test", id="missing"),
        pytest.param([], Access.FAILED, "Unknown", "Pending", "could not be read yet", id="not known"),
        pytest.param([], Access.FORBIDDEN, "False", "RefNotPermitted", "kubectl create rolebinding", id="forbidden"),
        pytest.param(
            [secret("t", labelled=False, token=b"x")],
            Access.LISTED,
            "False",
            "SecretInvalid",
            "credential secret t is missing required label mcp.kagenti.com/credential=true",
            id="no label",
        ),
        pytest.param(
            [secret("t", other=b"x")],
            Access.LISTED,
            "False",
            "SecretInvalid",
            "missing key token; it has other",
            id="key",
        ),
        pytest.param([secret("t")], Access.LISTED, "False", "SecretInvalid", "it has none", id="no keys"),
        pytest.param([secret("t", token=b"")], Access.LISTED, "False", "SecretInvalid", "is empty", id="empty"),
        pytest.param([secret("t", token=b"\n")], Access.LISTED, "False", "SecretInvalid", "is empty", id="a line end"),
        pytest.param(
            [secret("t", token=b"hunter2\r\nX: y")],
            Access.LISTED,
            "False",
            "SecretInvalid",
            "line break",
            id="two lines",
        ),
        pytest.param(
            [secret("t", token=b"x" * 8193)], Access.LISTED, "False", "SecretInvalid", "longer than 8 KiB", id="huge"
        ),
    ],
)
def test_a_credential_that_cannot_be_used(
    objects: list[Document], access: Access, status: str, reason: str, words: str
) -> None:
    found = resolved(WITH_TOKEN, *objects, access=access)
    assert found.entry is None
    assert (found.resolved.status, found.resolved.reason) == (status, reason)
    assert words in found.resolved.message
    assert "hunter2" not in found.resolved.message


WITH_CA = registration(caCertSecretRef={"name": "ca"})


@pytest.mark.parametrize(
    "content, words",
    [
        pytest.param(b"not PEM", "put PEM certificates of authorities", id="no PEM"),
        pytest.param(PEM.replace(b"MII", b"AAA"), "put PEM certificates", id="no certificate inside"),
        pytest.param(PEM + b"#" * 65536, "exceeds maximum size (65536 bytes)", id="huge"),
    ],
)
def test_an_authority_that_cannot_be_used(content: bytes, words: str) -> None:
    found = resolved(WITH_CA, secret("ca", ca__crt=content))
    assert found.entry is None
    assert found.resolved.reason == "SecretInvalid"
    assert words in found.resolved.message


def test_a_private_key_beside_a_certificate_is_left_where_it_is() -> None:
    key = b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
    found = resolved(WITH_CA, secret("ca", ca__crt=key + PEM))
    assert found.ca_pem.encode() == PEM
    assert found.entry is not None
    assert found.entry["tls"] == {"systemAuthorities": False}


def test_authorities_of_the_extension_are_trusted_besides() -> None:
    bundle = extension(caCertBundleRef={"name": "bundle"})
    both = (bundle, secret("bundle", ca__crt=OTHER_PEM), WITH_CA, secret("ca", ca__crt=PEM))
    assert resolved(*both).ca_pem.encode() == PEM + OTHER_PEM
    same = (bundle, secret("bundle", ca__crt=PEM), WITH_CA, secret("ca", ca__crt=PEM))
    assert resolved(*same).ca_pem.encode() == PEM
    only = resolved(bundle, secret("bundle", ca__crt=OTHER_PEM), policy())
    assert only.ca_pem.encode() == OTHER_PEM
    assert only.entry is not None
    assert only.entry["tls"] == {"systemAuthorities": True, "serverName": "time.internal"}
    assert resolved(bundle, secret("bundle", ca__crt=OTHER_PEM)).ca_pem == "", "plain HTTP needs none"


def test_certificates_that_only_a_policy_names_are_spoken_of() -> None:
    found = resolved(policy(caCertificateRefs=[{"group": "", "kind": "ConfigMap", "name": "ca"}]))
    assert "name it in caCertSecretRef" in found.resolved.message


def test_a_secret_that_can_no_longer_be_read_is_used_on() -> None:
    found = resolved(WITH_CA, secret("ca", ca__crt=PEM), access=Access.FORBIDDEN)
    assert found.entry is not None
    assert found.resolved.reason == "RefNotPermitted"


# --- settings --------------------------------------------------------------------------------------------------------


def test_settings_go_into_the_entry() -> None:
    found = entry(
        registration(
            timeouts={"call": "5s"},
            tools={"include": ["a"]},
            tags=["x"],
            forwardHeaders=["X-B", "X-A", "x-b"],
            hint="h",
        )
    )
    assert found["timeouts"] == {"call": "5s"}
    assert found["forwardHeaders"] == ["x-b", "x-a"]
    assert (found["tags"], found["hint"], found["tools"]) == (["x"], "h", {"include": ["a"]})
    assert found["requires"] == ["tools"], "a reader that does not know the filter must not serve the server open"


def test_the_route_sets_the_deadline_unless_the_registration_does() -> None:
    timed = route(rules=[rule(timeouts={"request": "90s"})])
    assert entry(timed)["timeouts"] == {"call": "90s"}
    assert entry(route(rules=[rule(timeouts={"request": "1s500ms"})]))["timeouts"] == {"call": "1500ms"}
    assert entry(route(rules=[rule(timeouts={"request": "99999h"})]))["timeouts"] == {"call": "31536000s"}
    own = registration(timeouts={"call": "5s", "list": "1s"})
    assert entry(timed, own)["timeouts"] == {"call": "5s", "list": "1s"}


def test_the_extension_sets_how_often_it_is_asked_unless_the_registration_does() -> None:
    often = extension(backendPingIntervalSeconds=15)
    assert entry(often)["health"] == {"interval": "15s"}
    assert entry(often, registration(health={"interval": "5s"}))["health"] == {"interval": "5s"}


def test_headers_that_the_route_sets_or_removes_are_not_the_clients_to_send() -> None:
    filters = [
        {
            "type": "RequestHeaderModifier",
            "requestHeaderModifier": {"set": [{"name": "X-A", "value": "1"}], "remove": ["X-B"]},
        }
    ]
    changed = (route(rules=[rule(filters=filters)]), registration(forwardHeaders=["x-a", "x-b", "x-c"]))
    found = entry(*changed)
    assert (found["headers"], found["forwardHeaders"]) == ({"X-A": "1"}, ["x-c"])
    assert "forwardHeaders" not in entry(changed[0], registration(forwardHeaders=["x-a"]))


def test_a_disabled_server_has_an_entry_that_says_so() -> None:
    assert entry(registration(state="Disabled"))["state"] == "disabled"


def test_only_what_an_extension_of_this_instance_takes_is_looked_up() -> None:
    cluster: Cluster = seed().put(registration(Key("mcp-test", "lost"), target=Key("mcp-test", "nowhere")))
    assert list(cluster.store().once(backends)) == [SERVER]
    cluster.put(extension(instance="b"))
    assert not cluster.store().once(backends)
    assert not cluster.store().once(document).servers
