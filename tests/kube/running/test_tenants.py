"""What people and the programs themselves may do: in one namespace what its admin wants, elsewhere nothing."""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from mcp_gateway.kube import schema
from tests.support import cluster as objects
from tests.support.cluster import Document, plain
from tests.support.kube.installation import CONTROLLER, DATA_PLANE, SYSTEM
from tests.support.kube.shell import Shell
from tests.support.kube.tenants import PORT, Running, Tenant, until

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(120)]

READER: Final = "mcp-gateway-secret-reader"
TOOLS: Final = ("add", "countdown", "echo")
ROUTES_TOO: Final = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "routes", "labels": {"rbac.authorization.k8s.io/aggregate-to-admin": "true"}},
    "rules": [{"apiGroups": [schema.GATEWAY_GROUP], "resources": ["httproutes", "referencegrants"], "verbs": ["*"]}],
}
"""What an installation of the Gateway API gives the admins of namespaces."""


@pytest.fixture(scope="module")
def roles(cluster: Running) -> None:
    """The roles for people are filled, as on every cluster."""
    cluster.api.start_controllers("clusterrole-aggregation-controller")
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(ROUTES_TOO))


def put(cluster: Running, user: str, *documents: Document) -> str:
    """Apply objects as somebody; returns why the API server refused, or nothing."""
    text = "\n---\n".join(json.dumps(plain(one)) for one in documents)
    said = cluster.said("apply", "--server-side", "--validate=strict", f"--as={user}", "-f", "-", stdin=text)
    return said.stderr if said.returncode else ""


# --- an ordinary admin -----------------------------------------------------------------------------------------------


def test_the_admin_of_a_namespace_registers_a_server_there_and_nothing_elsewhere(
    cluster: Running, roles: None, tenant: Tenant
) -> None:
    alice = f"alice-of-{tenant.name}"
    cluster.kubectl("create", "rolebinding", "admin", "-n", tenant.name, "--clusterrole=admin", f"--user={alice}")
    tenant.apply(tenant.gateway(), tenant.grant())  # the Gateway's owner does that
    own = (tenant.extension(), tenant.service(), tenant.route(), tenant.registration())
    until(lambda: not put(cluster, alice, *own), lambda: put(cluster, alice, *own))
    tenant.wait_ready()
    assert tenant.serves()

    other = cluster.tenant()
    other.apply(*other.everything())
    other.wait_ready()
    for document in (other.extension(), other.registration("hers"), other.route("hers"), other.grant()):
        assert "orbidden" in put(cluster, alice, document), document["kind"]
    assert other.tools() == {f"{other.prefix()}{tool}" for tool in TOOLS}


def test_what_an_admin_writes_at_home_reaches_nothing_of_others(cluster: Running, tenant: Tenant) -> None:
    other = cluster.tenant()
    closed = {"allowedRoutes": {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"of": other.name}}}}}
    cluster.create_namespace(other.name, of=other.name)
    other.apply(*other.everything(), other.gateway(**closed))
    other.wait_ready()
    server = {"name": "server", "port": PORT, "namespace": other.name}
    parent = {"name": other.gateway_key.name, "namespace": other.system}
    tenant.apply(
        *tenant.everything(),
        objects.registration(tenant.key("their-route"), other.key("route"), prefix="a_"),
        tenant.route("to-their-server", rules=[{"backendRefs": [server]}]),
        tenant.registration("their-server", route="to-their-server"),
        tenant.route("at-their-gateway", parents=[parent]),
        tenant.registration("their-gateway", route="at-their-gateway"),
        objects.virtual_server(tenant.key("their-extension"), targetRef={"name": "extension", "namespace": other.name}),
    )
    tenant.wait("ResolvedRefs", "False", "RefNotPermitted", name="their-route")
    tenant.wait("ResolvedRefs", "False", "RefNotPermitted", name="their-server")
    tenant.wait("Accepted", "False", "NotAllowedByListeners", name="their-gateway")
    tenant.wait("ResolvedRefs", "False", "RefNotPermitted", kind=schema.VIRTUAL_SERVER, name="their-extension")
    assert other.tools() == {f"{other.prefix()}{tool}" for tool in TOOLS}


def test_a_host_that_somebody_has_is_not_given_to_another(cluster: Running, tenant: Tenant) -> None:
    tenant.apply(*tenant.everything())
    tenant.wait_ready()
    other = cluster.tenant()
    *others, registration = other.everything()
    other.apply(*others, other.extension(publicHost=tenant.host), registration)
    message = other.wait("Accepted", "False", "HostConflict", kind=schema.EXTENSION, name="extension")
    assert f"{tenant.name}/extension" in message
    assert "set spec.publicHost" in message
    assert tenant.serves()


# --- our own accounts ------------------------------------------------------------------------------------------------

_OURS: Final = "mcpserverregistrations mcpgatewayextensions mcpvirtualservers"
EVERYBODY: Final = frozenset(
    {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews", "clustertrustbundles"}
)
"""What Kubernetes gives every account."""
READ: Final = frozenset({"get", "list", "watch"})


def rights(cluster: Running, account: str, namespace: str) -> dict[str, frozenset[str]]:
    """All that an account may do in a namespace: verbs by resource, with its name where there is one."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    who = f"system:serviceaccount:{SYSTEM}:{account}"
    said = cluster.said(
        *("create", "--validate=false", "-o", "json", f"--as={who}", "--as-group=system:serviceaccounts", "-f", "-"),
        stdin=json.dumps(review),
    )
    assert said.returncode == 0, said.stderr
    found: dict[str, set[str]] = {}
    status: Any = json.loads(said.stdout)["status"]
    assert not status["incomplete"]
    for rule in status["resourceRules"]:
        for resource in rule["resources"]:
            for name in rule.get("resourceNames") or [""]:
                found.setdefault(f"{resource}:{name}" if name else resource, set()).update(rule["verbs"])
    return {what: frozenset(verbs) for what, verbs in found.items() if what not in EVERYBODY}


def test_the_controller_has_these_rights_and_no_other(cluster: Running) -> None:
    written = frozenset({"get", "patch", "update"})
    everywhere = {
        **dict.fromkeys(_OURS.split(), READ),
        **{f"{kind}/status": written for kind in _OURS.split()},
        "mcpgatewayextensions/finalizers": frozenset({"update"}),
        **dict.fromkeys(("gateways", "referencegrants", "backendtlspolicies", "services", "namespaces"), READ),
        "httproutes": READ | {"create", "patch", "delete"},
        "httproutes/status": written,
        "gateways/status": written,
        "events": frozenset({"create", "patch"}),
        "secrets": READ,
    }
    own = {
        "secrets": READ | {"create"},
        **{f"secrets:{name}": READ | {"patch", "update"} for name in (schema.CONFIG_SECRET, schema.SIGNING_KEY_SECRET)},
        "leases": frozenset({"create"}),
        f"leases:{CONTROLLER}": written,
        "referencegrants": READ | {"create", "patch", "delete"},
        "mcpgatewayreports": READ | {"delete"},
    }
    assert rights(cluster, CONTROLLER, "default") == everywhere
    assert rights(cluster, CONTROLLER, SYSTEM) == everywhere | own


def test_the_data_plane_has_these_rights_and_no_other(cluster: Running) -> None:
    assert rights(cluster, DATA_PLANE, "default") == {}
    assert rights(cluster, DATA_PLANE, SYSTEM) == {
        f"secrets:{schema.CONFIG_SECRET}": READ,
        "mcpgatewayreports": frozenset({"create", "get", "patch", "delete"}),
    }


# --- restricted-secrets ----------------------------------------------------------------------------------------------


@pytest.fixture
def restricted(cluster: Running) -> Iterator[None]:
    """As with the component ``restricted-secrets``."""
    binding = cluster.kubectl("get", "clusterrolebinding", READER, "-o", "json")
    cluster.kubectl("delete", "clusterrolebinding", READER)
    yield
    known = json.loads(binding)
    known["metadata"] = {"name": READER}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(known))


def with_credential(tenant: Tenant) -> tuple[Document, ...]:
    token = objects.secret("token", inside=tenant.name, token=b"Bearer s3cr3t")
    *others, registration = tenant.everything()
    registration["spec"]["credentialRef"] = {"name": "token"}
    return *others, token, registration


def test_without_a_binding_the_message_has_the_command_that_makes_it_and_the_command_helps(
    cluster: Running, restricted: None, tenant: Tenant
) -> None:
    other = cluster.tenant()
    for one in (other, tenant):
        one.apply(*with_credential(one))
    message = tenant.wait("ResolvedRefs", "False", "RefNotPermitted")
    assert not tenant.serves()
    _, _, command = message.partition("allow it with: ")
    assert command.startswith("kubectl create rolebinding ")
    Shell(cluster, cluster.where).run(command)
    until(tenant.serves, lambda: tenant.conditions())
    tenant.wait_ready()
    assert other.conditions()["ResolvedRefs"][:2] == ("False", "RefNotPermitted")
    assert other.name in other.conditions()["ResolvedRefs"][2]


def test_a_credential_that_was_read_stays_in_use_when_the_right_to_read_it_is_taken_away(
    cluster: Running, tenant: Tenant, restricted: None
) -> None:
    binding = ("rolebinding", READER, "-n", tenant.name)
    account = f"--serviceaccount={SYSTEM}:{CONTROLLER}"
    cluster.kubectl("create", *binding, f"--clusterrole={READER}", account)
    tenant.apply(*with_credential(tenant))
    tenant.wait_ready()
    cluster.kubectl("delete", *binding)
    tenant.apply(tenant.registration("second", credentialRef={"name": "token"}))
    tenant.wait_ready("second")
    assert tenant.serves()
