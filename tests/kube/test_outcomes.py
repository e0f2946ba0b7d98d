"""What is decided, carried out on a real API server: it is admitted, and it leads to silence."""

import json
from typing import Any

import attrs
import pytest

from mcp_gateway.kube import schema
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.reconcile import extension, registration, route_status, virtual_server
from mcp_gateway.kube.reconcile.compile import document
from mcp_gateway.kube.reconcile.outcome import Outcome, StatusWrite
from mcp_gateway.kube.reconcile.reports import ReportLog, Reports
from mcp_gateway.kube.schema import Kind
from mcp_gateway.kube.store import Access, Settings, Store
from tests.support.cluster import (
    LATER,
    NOW,
    SILENCE,
    Document,
    backend,
    listener,
    part_said,
    plain,
    server_said,
)
from tests.support.cluster import extension as extension_of
from tests.support.cluster import gateway as gateway_of
from tests.support.cluster import registration as registration_of
from tests.support.cluster import route as route_of
from tests.support.cluster import rule as rule_of
from tests.support.cluster import service as service_of
from tests.support.cluster import virtual_server as virtual_server_of
from tests.support.kube.kubectl import Kubectl
from tests.support.verdicts import short

pytestmark = [pytest.mark.kube, pytest.mark.timeout(180)]


@attrs.define
class World:
    """One namespace of a real server, in which everything of a small cluster stands."""

    kubectl: Kubectl
    settings: Settings = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.settings = Settings(namespace=self.kubectl.namespace)

    def key(self, name: str) -> Key:
        return Key(self.kubectl.namespace, name)

    async def build(self) -> None:
        """The cluster of the user's own procedure, in one namespace."""
        where, route = self.key("gateway"), self.key("route")
        parents = [{"name": "gateway"}]
        service = service_of(self.key("server"))
        del service["spec"]["clusterIP"]  # the server gives it one that is free
        await self.kubectl.apply(
            plain(gateway_of(listener("mcp", "mcp.io"), listener("mcps", "*.mcp.local"), key=where)),
            plain(extension_of(self.key("extension"), where)),
            plain(route_of(route, parents=parents, rules=[rule_of(backend("server"))])),
            plain(service),
            plain(registration_of(self.key("time"), route)),
            plain(virtual_server_of(self.key("finance"))),
        )

    async def store(self) -> Store:
        """What a controller knows that has listed everything."""
        made = Store(settings=self.settings)
        for kind in schema.WATCHED:
            listed = json.loads(await self.kubectl("get", kind.resource, "--output=json"))
            made.replace(kind, listed["items"])
        made.set_access(self.kubectl.namespace, Access.LISTED)
        assert not made.malformed
        return made

    async def carry_out(self, outcome: Outcome) -> None:
        for apply in outcome.apply:
            await self.kubectl.apply(apply.document)
        if outcome.status is not None:
            await self._write(outcome.status)
        if outcome.route_status is not None:
            patch = {"status": {"parents": list(outcome.route_status.parents)}}
            await self._patch(schema.HTTP_ROUTE, outcome.route_status.key, patch)
        for delete in outcome.delete:
            await self.kubectl("delete", delete.kind.resource, delete.key.name)

    async def _write(self, write: StatusWrite) -> None:
        metadata = {"namespace": write.key.namespace, "name": write.key.name, "resourceVersion": write.resource_version}
        made = {
            "apiVersion": write.kind.api_version,
            "kind": write.kind.kind,
            "metadata": metadata,
            "status": write.status,
        }
        options = ("--server-side", "--subresource=status", "--field-manager=controller", "--validate=strict")
        await self.kubectl("apply", *options, "-f", "-", stdin=json.dumps(made))

    async def _patch(self, kind: Kind, key: Key, patch: Document) -> None:
        words = ("--subresource=status", "--type=merge", f"--patch={json.dumps(patch)}")
        await self.kubectl("patch", kind.resource, key.name, *words)

    def outcomes(self, store: Store, reports: Reports, now: Any = NOW) -> dict[str, Outcome]:  # noqa: ANN401 -- a Now
        return {
            "extension": extension.reconcile(self.key("extension"), store, reports, now),
            "registration": registration.reconcile(self.key("time"), store, reports, now),
            "virtual server": virtual_server.reconcile(self.key("finance"), store, reports, now),
            "route": route_status.reconcile(self.key("route"), store, now),
        }

    async def report(self, store: Store) -> Reports:
        """Let a pod say that all is well."""
        made = store.once(document)
        spec = {
            "pod": "pod-1",
            "complete": True,
            "servers": [server_said(revision, key=key) for key, revision in made.servers.items()],
            "gateways": [part_said(revision, key) for key, revision in made.gateways.items()],
            "virtualServers": [part_said(revision, key) for key, revision in made.virtual_servers.items()],
        }
        kind = schema.REPORT
        metadata = {"name": "pod-1", "namespace": self.kubectl.namespace}
        await self.kubectl.apply(
            {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}
        )
        log = ReportLog(0.0)
        for report in (await self.store()).reports():
            log.observe(report, NOW.at)
        return log.alive(NOW.at)


async def test_outcomes_are_admitted_and_followed_by_silence(kubectl: Kubectl) -> None:
    world = World(kubectl)
    await world.build()
    first = world.outcomes(await world.store(), SILENCE)
    for outcome in first.values():
        await world.carry_out(outcome)
    assert short(first["registration"])["Ready"] == "False NotReady"
    assert [apply.key.name for apply in first["extension"].apply] == ["mcp-gateway-route"]
    for name, outcome in world.outcomes(await world.store(), SILENCE, LATER).items():
        assert outcome == Outcome(), name

    reports = await world.report(await world.store())
    for outcome in world.outcomes(await world.store(), reports).values():
        await world.carry_out(outcome)
    for name, outcome in world.outcomes(await world.store(), reports, LATER).items():
        assert outcome == Outcome(), name
    for short_name, one in (("mcpge", "extension"), ("mcpsr", "time"), ("mcpvs", "finance")):
        await kubectl("wait", "--for=condition=Ready", f"{short_name}/{one}", "--timeout=10s")
    row = (await kubectl("get", "mcpsr")).splitlines()[1].split()
    assert row[:6] == ["time", "myserver_", "route", "/mcp", "True", "3"]
    assert (await kubectl("get", "mcpvs")).splitlines()[1].split()[:3] == ["finance", "True", "0"]
    assert (await kubectl("get", "mcpge")).splitlines()[1].split()[:4] == ["extension", "gateway", "True", "1"]


async def test_a_failing_registration_reads_well(kubectl: Kubectl) -> None:
    world = World(kubectl)
    await world.build()
    await kubectl("delete", "service", "server")
    await world.carry_out(registration.reconcile(world.key("time"), await world.store(), SILENCE, NOW))
    said = await kubectl("describe", "mcpsr", "time")
    assert f"Service {kubectl.namespace}/server not found; create it or correct the backendRef" in said
    waited = await kubectl.run("wait", "--for=condition=Ready", "mcpsr/time", "--timeout=1s")
    assert waited.code != 0


async def test_status_that_was_computed_from_an_older_object_is_refused(kubectl: Kubectl) -> None:
    world = World(kubectl)
    await world.build()
    outcome = registration.reconcile(world.key("time"), await world.store(), SILENCE, NOW)
    await kubectl("label", "mcpsr", "time", "team=a")
    with pytest.raises(AssertionError, match="the object has been modified"):
        await world.carry_out(outcome)
