"""What somebody sees who was not there when it was written: kubectl's own output, at 80 columns."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from mcp_gateway.kube import schema
from tests.support.cluster import virtual_server
from tests.support.kstatus import kstatus
from tests.support.kube.installation import ROOT
from tests.support.kube.tenants import Running, Tenant, until

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(120)]

COLUMNS: Final = 80
CRDS: Final = sorted((ROOT / "manifests" / "crds").glob("mcp*.yaml"))


def objects_of(value: Any, path: str) -> Iterator[str]:  # noqa: ANN401  # a schema
    """Every object of a schema that has fields of its own, as ``kubectl explain`` wants it."""
    if value.get("properties"):
        yield path
        for name, below in value["properties"].items():
            yield from objects_of(below, f"{path}.{name}")
    if "items" in value:
        yield from objects_of(value["items"], path)


@pytest.mark.parametrize("file", CRDS, ids=lambda file: file.stem)
def test_explain_has_a_sentence_for_every_field_and_breaks_no_line(cluster: Running, file: Path) -> None:
    crd = yaml.safe_load(file.read_text())["spec"]
    whole = crd["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    short = crd["names"]["shortNames"][0]
    until(lambda: cluster.said("explain", short).returncode == 0)  # a new kind is found after a moment
    for path in [path for part in ("spec", "status") if part in whole for path in objects_of(whole[part], part)]:
        text = cluster.kubectl("explain", f"{short}.{path}")
        assert "<no description>" not in text, path
        assert "<empty>" not in text, path
        assert not [line for line in text.splitlines() if len(line) > COLUMNS], path
        fields = re.findall(r"^  (\w+)\t<.*\n((?:  (?:enum|pattern).*\n)?)    (\S.*)$", text, re.MULTILINE)
        named = re.findall(r"^  (\w+)\t<", text, re.MULTILINE)
        assert [name for name, _, _ in fields] == named, path


def test_get_fits_and_its_wide_form_names_the_problem(cluster: Running, tenant: Tenant) -> None:
    tenant.apply(*tenant.everything(), virtual_server(tenant.key("finance"), tools=["absent"]))
    tenant.apply(tenant.registration("astray", route="absent"))
    tenant.wait_ready()
    tenant.wait("Ready", "False", name="astray")
    tenant.wait("Ready", "False", kind=schema.VIRTUAL_SERVER, name="finance")
    for kind in ("mcpsr", "mcpge", "mcpvs"):
        for options in ((), ("-o", "wide")):
            lines = cluster.kubectl("get", kind, "-n", tenant.name, *options).splitlines()
            assert not [line for line in lines if len(line) > COLUMNS + 20 * bool(options)], lines
    head, *rows = cluster.kubectl("get", "mcpsr", "-n", tenant.name, "-o", "wide").splitlines()
    assert head.split() == ["NAME", "PREFIX", "TARGET", "PATH", "READY", "TOOLS", "CREDENTIALS", "PROBLEM", "AGE"]
    problem = slice(head.index("PROBLEM"), head.index("AGE"))
    assert {row.split()[0]: row[problem].strip() for row in rows} == {"astray": "BackendNotFound", "server": ""}
    said = cluster.kubectl("get", "mcpvs", "finance", "-n", tenant.name, "-o", "wide")
    assert "NotReady" in said
    assert "PROBLEM" not in cluster.kubectl("get", "mcpsr", "-n", tenant.name)


def test_describe_shows_the_reason_beside_what_to_do_and_tells_it_once_as_an_event(
    cluster: Running, tenant: Tenant
) -> None:
    tenant.apply(*tenant.everything())
    tenant.wait_ready()
    tenant.remove(tenant.service())
    message = tenant.wait("Ready", "False", "NotReady")
    assert message.endswith(f"create it or correct the backendRef of HTTPRoute {tenant.name}/route")

    def described() -> str:
        return cluster.kubectl("describe", "mcpsr", "server", "-n", tenant.name)

    until(lambda: message in described().partition("Events:")[2])
    state, _, events = described().partition("Events:")
    assert [line.split()[:2] for line in events.splitlines() if " 3 tools " in line or message in line] == [
        ["Normal", "Ready"],
        ["Warning", "NotReady"],
    ]
    assert "have loaded it" not in events
    conditions = re.findall(r"Message: +(.+)\n +Observed Generation: +1\n +Reason: +(\w+)\n +Status: +(\w+)", state)
    assert len(conditions) == 5
    assert ("False", "BackendNotFound", message) in [(status, reason, text) for text, reason, status in conditions]
    short = [line for line in state.splitlines() if "Message:" not in line]
    assert not [line for line in short if len(line) > COLUMNS]


def test_an_object_that_no_controller_looks_at_waits_and_says_where_to_look(cluster: Running, tenant: Tenant) -> None:
    """Of another instance, whose controller is not there."""
    extension = tenant.extension()
    extension["metadata"]["labels"] = {schema.LABEL_INSTANCE: "nobody"}
    tenant.apply(tenant.gateway(), tenant.grant(), extension)
    tenant.apply(tenant.route(), tenant.registration())
    status, reason, message = tenant.conditions(schema.EXTENSION, "extension")["Ready"]
    assert (status, reason) == ("Unknown", "Pending")
    command = message.partition("see: ")[2]
    assert command.startswith("kubectl get deployments -A ")
    assert "mcp-gateway-controller" in cluster.kubectl(*command.split()[1:])
    found = tenant.document(schema.EXTENSION, tenant.extension_key)
    assert kstatus(found) == "InProgress"
    row = cluster.kubectl("get", "mcpge", "-n", tenant.name).splitlines()[1]
    assert row.split()[:3] == ["extension", "gateway", "Unknown"]
    assert json.loads(cluster.kubectl("get", "mcpge", "extension", "-n", tenant.name, "-o", "json"))["status"]
