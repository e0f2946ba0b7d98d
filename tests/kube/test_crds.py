"""Our CRDs in a real API server: what it admits, what it refuses and with which words, and how they read."""

import json
from typing import Any

import pytest

from tests.support.kube.kubectl import Kubectl

pytestmark = [pytest.mark.kube, pytest.mark.timeout(180)]

API = "mcp.kagenti.com/v1alpha1"


def registration(**spec: object) -> dict[str, object]:
    return {
        "apiVersion": API,
        "kind": "MCPServerRegistration",
        "metadata": {"name": "time"},
        "spec": {"targetRef": {"name": "time"}, **spec},
    }


def extension(**spec: object) -> dict[str, object]:
    return {
        "apiVersion": API,
        "kind": "MCPGatewayExtension",
        "metadata": {"name": "mcp"},
        "spec": {"targetRef": {"name": "gateway"}, **spec},
    }


def virtual_server(**spec: object) -> dict[str, object]:
    return {"apiVersion": API, "kind": "MCPVirtualServer", "metadata": {"name": "finance"}, "spec": spec}


FULL_REGISTRATION = registration(
    prefix="time_",
    path="/v1/mcp",
    state="Disabled",
    credentialRef={"name": "token"},
    caCertSecretRef={"name": "ca"},
    category=["clocks"],
    hint="Tells the time.",
    tags=["read-only"],
    timeouts={"connect": "500ms", "call": "1m", "input": "5m", "max": "10m", "list": "5s"},
    limits={"concurrency": 64, "responseBytes": "32MiB", "eventBytes": "4MiB", "upstreamSessions": 1000},
    health={"interval": "30s", "failures": 3, "graceWhenDown": "30s"},
    tools={"include": ["read_*"], "exclude": ["read_secret"]},
    forwardHeaders=["X-Request-Id"],
    protocol="2025-11-25",
)
FULL_EXTENSION = extension(
    targetRef={"name": "gateway", "namespace": "infra", "sectionName": "mcp"},
    publicHost="mcp.example.com",
    backendPingIntervalSeconds=30,
    httpRouteManagement="Disabled",
    caCertBundleRef={"name": "ca"},
    logLevel="debug",
)
FULL_VIRTUAL_SERVER = virtual_server(
    description="For accountants.",
    tools=["time_now"],
    prompts=["time_ask"],
    resources=["time://now"],
    targetRef={"name": "mcp", "namespace": "other"},
)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(FULL_REGISTRATION, id="registration"),
        pytest.param(registration(), id="short registration"),
        pytest.param(registration(toolPrefix="myserver_"), id="registration with toolPrefix"),
        pytest.param(FULL_EXTENSION, id="extension"),
        pytest.param(extension(), id="short extension"),
        pytest.param(FULL_VIRTUAL_SERVER, id="virtual server"),
        pytest.param(virtual_server(tools=["time_now"]), id="short virtual server"),
    ],
)
async def test_admits_what_the_documentation_shows(kubectl: Kubectl, document: dict[str, object]) -> None:
    assert "serverside-applied" in await kubectl.apply(document)


@pytest.mark.parametrize(
    "document, words",
    [
        pytest.param(registration(prefix="a_", toolPrefix="a_"), "are two names of one field", id="two prefixes"),
        pytest.param(registration(prefix="a b"), "should match", id="prefix with a space"),
        pytest.param(registration(targetRef={}), "spec.targetRef.name: Required value", id="no target"),
        pytest.param(
            registration(targetRef={"name": "x", "kind": "Service"}), "HTTPRoute", id="target of another kind"
        ),
        pytest.param(registration(path="mcp"), "spec.path", id="relative path"),
        pytest.param(registration(path="/mcp#top"), "spec.path", id="path with a fragment"),
        pytest.param(registration(timeouts={"call": "1h30m"}), "spec.timeouts.call", id="two units"),
        pytest.param(registration(limits={"concurrency": 0}), "spec.limits.concurrency", id="no concurrency"),
        pytest.param(registration(tags=["x"] * 11), "spec.tags: Too many", id="eleven tags"),
        pytest.param(registration(hint="x" * 257), "spec.hint: Too long", id="long hint"),
        pytest.param(
            registration(userSpecificList="Enabled"), "field not declared in schema", id="field of later times"
        ),
        pytest.param(extension(sessionStore={"secretName": "x"}), "field not declared in schema", id="session store"),
        pytest.param(extension(publicHost="https://mcp.example.com"), "spec.publicHost", id="host with a scheme"),
        pytest.param(extension(backendPingIntervalSeconds=9), "backendPingIntervalSeconds", id="ping too often"),
        pytest.param(extension(logLevel="trace"), "spec.logLevel", id="unknown level"),
        pytest.param(virtual_server(), "spec.tools: Required value", id="nothing selected"),
        pytest.param(virtual_server(tools=[]), "spec.tools", id="no tools"),
    ],
)
async def test_refuses_and_names_the_field(kubectl: Kubectl, document: dict[str, object], words: str) -> None:
    assert words in await kubectl.refused(document)


@pytest.mark.parametrize(
    "before, after",
    [
        pytest.param({}, {"prefix": "a_"}, id="set later"),
        pytest.param({"prefix": ""}, {"toolPrefix": "a_"}, id="empty, then set"),
        pytest.param({"toolPrefix": "a_"}, {"prefix": "a_"}, id="from one name to the other"),
        pytest.param({"prefix": "a_"}, {"toolPrefix": "a_"}, id="and back"),
        pytest.param({"prefix": "a_"}, {"prefix": "a_", "hint": "x"}, id="another field"),
    ],
)
async def test_prefix_can_be_set_once(kubectl: Kubectl, before: dict[str, Any], after: dict[str, Any]) -> None:
    await kubectl.apply(registration(**before))
    await kubectl.apply(registration(**after))


@pytest.mark.parametrize(
    "before, after",
    [
        pytest.param({"prefix": "a_"}, {"prefix": "b_"}, id="changed"),
        pytest.param({"toolPrefix": "a_"}, {"prefix": "b_"}, id="changed under the other name"),
        pytest.param({"toolPrefix": "a_"}, {}, id="removed"),
        pytest.param({"prefix": "a_"}, {"prefix": ""}, id="emptied"),
    ],
)
async def test_prefix_never_changes(kubectl: Kubectl, before: dict[str, Any], after: dict[str, Any]) -> None:
    await kubectl.apply(registration(**before))
    assert "is immutable once set" in await kubectl.refused(registration(**after))


async def test_defaults_are_filled_in_by_the_server(kubectl: Kubectl) -> None:
    await kubectl.apply(registration(credentialRef={"name": "token"}, caCertSecretRef={"name": "ca"}), extension())
    path = (
        "{.spec.targetRef.group} {.spec.targetRef.kind} {.spec.path} {.spec.state} {.spec.credentialRef.key} "
        "{.spec.caCertSecretRef.key} [{.spec.prefix}{.spec.toolPrefix}]"
    )
    said = await kubectl("get", "mcpsr", "time", f"--output=jsonpath={path}")
    assert said == "gateway.networking.k8s.io HTTPRoute /mcp Enabled token ca.crt []"
    path = "{.spec.targetRef.kind} {.spec.httpRouteManagement}"
    assert await kubectl("get", "mcpge", "mcp", f"--output=jsonpath={path}") == "Gateway Enabled"


async def test_status_is_written_through_its_own_door(kubectl: Kubectl) -> None:
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Ready",
        "message": "3 tools are served",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {
        "observedGeneration": 1,
        "conditions": [condition],
        "discoveredTools": 3,
        "protocolVersion": "2025-11-25",
        "endpoint": "http://time.mcp-test.svc.cluster.local:9090/mcp",
        "lastError": "",
        "extensions": [{"namespace": "mcp-test", "name": "mcp", "accepted": True, "tools": 3}],
    }
    whole = {**registration(toolPrefix="myserver_", credentialRef={"name": "token"}), "status": status}
    await kubectl.apply(whole)
    path = "{.status.discoveredTools}{.status.conditions[*].status}"
    assert await kubectl("get", "mcpsr", "time", f"--output=jsonpath={path}") == "Unknown"  # what the CRD begins with
    words = ("apply", "--server-side", "--subresource=status", "--field-manager=test", "--validate=strict", "-f", "-")
    await kubectl(*words, stdin=json.dumps({key: part for key, part in whole.items() if key != "spec"}))
    lines = (await kubectl("get", "mcpsr")).splitlines()
    assert lines[0].split() == ["NAME", "PREFIX", "TARGET", "PATH", "READY", "TOOLS", "CREDENTIALS", "AGE"]
    assert lines[1].split()[:7] == ["time", "myserver_", "time", "/mcp", "True", "3", "token"]
    assert max(map(len, lines)) <= 80


async def test_a_report_shows_its_pod_and_its_counts(kubectl: Kubectl) -> None:
    spec = {
        "pod": "broker-1",
        "instance": "default",
        "startTime": "2026-01-01T00:00:00Z",
        "renewTime": "2026-01-01T00:00:00.123456Z",
        "complete": True,
        "configRevision": "abc",
        "serverCount": 2,
        "connectedCount": 1,
        "servers": [
            {
                "name": "mcp-test/time",
                "revision": "r1",
                "state": "Connected",
                "since": "2026-01-01T00:00:00Z",
                "tools": 3,
                "prompts": 0,
                "resources": 0,
                "protocol": "2025-11-25",
            },
            {"name": "mcp-test/weather", "revision": "r1", "state": "ConnectionFailed", "lastError": "refused"},
        ],
        "gateways": [{"name": "mcp-test/mcp", "revision": "r1", "state": "Loaded"}],
        "virtualServers": [
            {"name": "mcp-test/vs", "revision": "r1", "state": "Loaded", "missing": ["x"], "missingCount": 1}
        ],
    }
    await kubectl.apply({"apiVersion": API, "kind": "MCPGatewayReport", "metadata": {"name": "broker-1"}, "spec": spec})
    lines = (await kubectl("get", "mcpgr")).splitlines()
    assert lines[0].split() == ["NAME", "POD", "SERVERS", "CONNECTED", "AGE"]
    assert lines[1].split()[:4] == ["broker-1", "broker-1", "2", "1"]


@pytest.mark.parametrize("short", ["mcpsr", "mcpge", "mcpvs", "mcpgr"])
async def test_explain_has_words_for_every_field(kubectl: Kubectl, short: str) -> None:
    said = await kubectl("explain", short, "--recursive")
    assert "<no description>" not in said.partition("FIELDS:")[0]
    for part in ("spec", "status"):
        found = await kubectl.run("explain", f"{short}.{part}")
        if found.code == 0:
            fields = found.out.partition("FIELDS:")[2]
            assert fields.strip()
            assert "<no description>" not in fields
