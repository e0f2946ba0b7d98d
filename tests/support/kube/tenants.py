"""One installation that many tests share, each as a tenant with a Gateway, a host and namespaces of its own.

Owns the running programs, the names that they look up, and what a tenant has. Deliberately starts nothing per tenant:
one small MCP server stands behind every Service, because Services here are headless and names lead to it. Invariant: a
test waits for what it claims by looking, and tenants share nothing but the installation.
"""

import itertools
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import attrs

from mcp_gateway.kube import schema
from mcp_gateway.kube.errors import ApiMissing
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.schema import Kind
from mcp_gateway.values import JsonObject
from tests.support import cluster as objects
from tests.support.cluster import Document, plain
from tests.support.kube.admin import Admin
from tests.support.kube.installation import Installation, Program
from tests.support.kube.names import Names

PATIENCE_S: Final = 60.0
"""For what takes a second on an idle machine."""
PORT: Final = 9090
_numbers = itertools.count(1)


def until(true: Callable[[], object], told: Callable[[], object] = str) -> None:
    """Wait until something is true; ``told`` explains what is the case instead."""
    ends = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < ends, told()
        time.sleep(0.05)  # noqa: TID251  # outside of any loop


class Running(Installation):
    """With a controller, a data plane and a server; ``admin`` may everything."""

    module = "tests.support.kube.names"
    admin: Admin
    names: Names
    control: Program
    serving: Program
    where: str
    admin_where: str

    @contextmanager
    def at_work(self) -> Iterator["Running"]:
        """Everything runs in this block."""
        with self, Admin(self.api) as self.admin:
            self.names = Names(self.home)
            self.control = self.controller("--log-level", "debug")
            self.serving, self.where = self.data_plane()
            line = next(line for line in self.serving.log.read_text().splitlines() if "serving public=" in line)
            self.admin_where = line.partition("admin=")[2].split()[0]
            self.mcp_server()
            self.control.wait_for("leading")
            yield self

    def mcp_server(self) -> None:
        """The one that all headless Services lead to."""
        self.create_namespace("servers")
        service = objects.service(Key("servers", "server"), port=PORT, address="127.96.0.99")
        self.admin.apply(schema.SERVICE, plain(service))
        self.server("server", "servers", PORT)
        self.names.give("*.svc.cluster.local", ["127.96.0.99"])

    def create_namespace(self, name: str, **labels: str) -> str:
        """A namespace, with labels whose underscores stand for dashes."""
        told = {key.replace("_", "-"): value for key, value in labels.items()}
        self.admin.apply(
            schema.NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": told}}
        )
        return name

    def tenant(self) -> "Tenant":
        """A new one, of whom nothing is there but two namespaces."""
        number = f"{next(_numbers):03}"  # of two objects of one second, the first tenant's counts as the older
        name, system = f"team-{number}", f"gateways-{number}"
        self.create_namespace(name)
        self.create_namespace(system)
        return Tenant(cluster=self, name=name, system=system, host=f"mcp.{name}.example")


@attrs.frozen(kw_only=True)
class Tenant:
    """Namespace ``name`` with everything of the user's own, ``system`` with the Gateway; ``host`` is the Gateway's."""

    cluster: Running
    name: str
    system: str
    host: str

    @property
    def gateway_key(self) -> Key:
        """The Gateway's."""
        return Key(self.system, "gateway")

    @property
    def extension_key(self) -> Key:
        """The MCPGatewayExtension's."""
        return Key(self.name, "extension")

    def key(self, name: str) -> Key:
        """Of an object of the user's."""
        return Key(self.name, name)

    # --- objects ---

    def gateway(self, **more: object) -> Document:
        """With a listener for clients and one for servers' routes; ``more`` is of both."""
        own = objects.listener("mcp", self.host)
        inner = objects.listener("servers", f"*.{self.name}.local")
        return objects.gateway({**own, **more}, {**inner, **more}, key=self.gateway_key)

    def extension(self, **spec: object) -> Document:
        return objects.extension(self.extension_key, self.gateway_key, **spec)  # type: ignore[arg-type]  # members of spec only

    def grant(self) -> Document:
        """What lets the extension refer to the Gateway."""
        return objects.grant(self.system, (schema.GROUP, "MCPGatewayExtension", self.name))

    def service(self, name: str = "server", **more: object) -> Document:
        made = objects.service(self.key(name), port=PORT, address="None", **more)
        return made

    def route(self, name: str = "route", service: str = "server", **more: object) -> Document:
        parents = [{"name": self.gateway_key.name, "namespace": self.gateway_key.namespace}]
        rules = [objects.rule(objects.backend(service, PORT))]
        wanted: Document = {"parents": parents, "hostnames": [f"{name}.{self.name}.local"], "rules": rules, **more}
        return objects.route(self.key(name), **wanted)

    def registration(self, name: str = "server", route: str = "route", **spec: object) -> Document:
        return objects.registration(self.key(name), self.key(route), prefix=self.prefix(name), **spec)  # type: ignore[arg-type]  # members of spec only

    def prefix(self, name: str = "server") -> str:
        """Of a registration's tools; an unclaimed host leads to the oldest tenant, whose tools have another."""
        return f"{self.name}_{name}_"

    def everything(self) -> tuple[Document, ...]:
        """All that one served registration needs."""
        return self.gateway(), self.grant(), self.extension(), self.service(), self.route(), self.registration()

    # --- what is done ---

    def apply(self, *documents: Document) -> None:
        """Create or change objects."""
        for document in documents:
            self.cluster.admin.apply(objects.KINDS[document["kind"]], plain(document))

    def remove(self, document: Document) -> None:
        metadata = document["metadata"]
        kind = objects.KINDS[document["kind"]]
        self.cluster.admin.delete(kind, metadata["namespace"], metadata["name"])

    def say(self, kind: Kind, key: Key, status: JsonObject) -> None:
        """Write a status, as another controller does."""
        path = f"{_path(kind, key)}/status"
        self.cluster.admin.ask("PATCH", path, {"status": status}, "application/merge-patch+json")

    # --- what is seen ---

    def document(self, kind: Kind, key: Key) -> Document:
        return self.cluster.admin.get(kind, key.namespace, key.name)

    def conditions(self, kind: Kind = schema.REGISTRATION, name: str = "server") -> dict[str, tuple[str, str, str]]:
        """Status, reason and message by type; none where the object is not there."""
        try:
            status = self.document(kind, self.key(name)).get("status", {})
        except ApiMissing:
            return {}
        return {one["type"]: (one["status"], one["reason"], one["message"]) for one in status.get("conditions", ())}

    def wait(self, type_: str, *said: str, kind: Kind = schema.REGISTRATION, name: str = "server") -> str:
        """Wait until a condition has this status and reason (``"False", "Pending"``); returns its message."""
        until(
            lambda: self.conditions(kind, name).get(type_, ())[: len(said)] == said,
            lambda: f"{self.name}: {self.conditions(kind, name)}",
        )
        return self.conditions(kind, name)[type_][2]

    def wait_ready(self, name: str = "server") -> None:
        self.wait("Ready", "True", name=name)

    def ask(self, method: str, params: JsonObject, **headers: str) -> JsonObject:
        """One request of the 2026-07-28 form; the result, or the whole answer if there is none."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": meta, **params}}
        names = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method, **headers}
        if "name" in params:
            names["Mcp-Name"] = str(params["name"])
        request = urllib.request.Request(
            f"http://{self.cluster.where}/mcp",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Host": self.host, **names},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
                said = response.read()
        except urllib.error.HTTPError as refused:
            said = refused.read()
        answer: JsonObject = json.loads(said)
        found = answer.get("result", answer)
        assert isinstance(found, dict)
        return found

    def tools(self, **headers: str) -> set[str]:
        """What a client sees at the tenant's host."""
        found = self.ask("tools/list", {}, **headers).get("tools", ())
        assert isinstance(found, list)
        return {str(tool["name"]) for tool in found if isinstance(tool, dict)}

    def serves(self, name: str = "server", **headers: str) -> bool:
        return f"{self.prefix(name)}add" in self.tools(**headers)


def _path(kind: Kind, key: Key) -> str:
    group = f"apis/{kind.group}" if kind.group else "api"
    return f"/{group}/{kind.version}/namespaces/{key.namespace}/{kind.plural}/{key.name}"
