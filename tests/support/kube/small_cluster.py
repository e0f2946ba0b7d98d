"""A cluster with the samples of the procedure, one server and one data plane, in the words of the tests of faults.

Owns the few objects that such a test needs, and what it asks again and again. Deliberately starts no controller: a
test does. Invariant: it waits by looking again, outside of any loop.
"""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Self

from mcp_gateway.kube import schema
from mcp_gateway.kube.errors import ApiMissing
from mcp_gateway.kube.lease import LEASE
from mcp_gateway.kube.schema import Kind
from mcp_gateway.values import JsonObject
from tests.support.kube.admin import Admin
from tests.support.kube.installation import CONTROLLER, ROOT, SYSTEM, Installation, Program
from tests.support.kube.interference import Interference
from tests.support.kube.kubectl import condition_of

HOST: Final = "mcp.127-0-0-1.sslip.io"
PATIENCE_S: Final = 60.0
"""For what takes two seconds on an idle machine."""
EXTENSION: Final = {
    "apiVersion": "mcp.kagenti.com/v1alpha1",
    "kind": "MCPGatewayExtension",
    "metadata": {"name": "extension", "namespace": "mcp-test"},
    "spec": {
        "targetRef": {
            "group": "gateway.networking.k8s.io",
            "kind": "Gateway",
            "name": "mcp-gateway",
            "namespace": "gateway-system",
        }
    },
}
GRANT: Final = {
    "apiVersion": "gateway.networking.k8s.io/v1beta1",
    "kind": "ReferenceGrant",
    "metadata": {"name": "grant", "namespace": "gateway-system"},
    "spec": {
        "from": [{"group": "mcp.kagenti.com", "kind": "MCPGatewayExtension", "namespace": "mcp-test"}],
        "to": [{"group": "gateway.networking.k8s.io", "kind": "Gateway"}],
    },
}
ROUTE: Final = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "HTTPRoute",
    "metadata": {"name": "route", "namespace": "mcp-test"},
    "spec": {
        "parentRefs": [{"name": "mcp-gateway", "namespace": "gateway-system"}],
        "hostnames": ["server.mcp.local"],
        "rules": [{"backendRefs": [{"name": "mcp-api-key-server", "port": 9090}]}],
    },
}


def route_to(service: str, port: int) -> dict[str, object]:
    """A route of a Service's name."""
    return {
        **ROUTE,
        "metadata": {"name": service, "namespace": "mcp-test"},
        "spec": {
            "parentRefs": [{"name": "mcp-gateway", "namespace": "gateway-system"}],
            "hostnames": [f"{service}.mcp.local"],
            "rules": [{"backendRefs": [{"name": service, "port": port}]}],
        },
    }


def registration(name: str, prefix: str = "", route: str = "route", **spec: object) -> dict[str, object]:
    target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": route, "namespace": "mcp-test"}
    return {
        "apiVersion": "mcp.kagenti.com/v1alpha1",
        "kind": "MCPServerRegistration",
        "metadata": {"name": name, "namespace": "mcp-test"},
        "spec": {"prefix": prefix or f"{name}_", "targetRef": target, **spec},
    }


def until(true: Callable[[], object], patience_s: float = PATIENCE_S) -> float:
    """Wait, and say how long it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < patience_s, "it did not come true"
        time.sleep(0.1)  # noqa: TID251  # outside of any loop
    return time.monotonic() - began


KINDS: Final[Mapping[str, Kind]] = {kind.kind: kind for kind in schema.WATCHED}


class SmallCluster(Installation):
    """Use as a context; ``where`` is the data plane's public address."""

    way: Interference
    """Between both programs and the API server; nothing is spoilt unless a test says so."""
    data: Program
    """The data plane."""
    where: str = ""
    admin: Admin
    """Who goes straight to the server."""

    def __enter__(self) -> Self:
        self.way = Interference(self.api)
        self.dials = self.way.url
        self.way.__enter__()
        self.admin = Admin(self.api)
        super().__enter__()
        try:
            self.kubectl("apply", "--server-side", "-k", str(ROOT / "manifests/samples/seed"))
            self.data, self.where = self.data_plane()
            self.server("mcp-api-key-server", "mcp-test", 9090)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.way.__exit__()
        self.admin.__exit__()

    @contextmanager
    def leading(self) -> Iterator[Program]:
        """A controller that leads, for as long as the block lives."""
        program = self.controller(pod=f"controller-{time.monotonic_ns()}")
        program.wait_for("leading")
        yield program
        if program.process.poll() is None:
            program.process.send_signal(signal.SIGCONT)
            program.end()

    def apply(self, *documents: Mapping[str, object]) -> None:
        for document in documents:
            self.admin.apply(KINDS[str(document["kind"])], document)

    def remove(self, document: Mapping[str, object]) -> None:
        metadata = document["metadata"]
        assert isinstance(metadata, dict)
        self.admin.delete(KINDS[str(document["kind"])], metadata["namespace"], metadata["name"])

    def request(
        self, method: str, *, host: str = HOST, name: str = "", virtual: str = "", **params: object
    ) -> Mapping[str, object]:
        """What a client of 2026-07-28 is answered.

        Args:
            name: what the method names, if it names something.
            virtual: namespace and name of the virtual server that it chooses by header.
        Raises:
            HTTPError: it is refused.
        """
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        named = {"name": name} if name else {}
        said: dict[str, object] = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": method,
            "params": {"_meta": meta, **named, **params},
        }
        headers = {
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": method,
            "Mcp-Name": name,
            "x-mcp-virtualserver": virtual,
        }
        return self.ask(self.where, host, said, **{header: value for header, value in headers.items() if value})

    def tools(self, host: str = HOST, virtual: str = "") -> set[str]:
        """What a client sees."""
        result = self.request("tools/list", host=host, virtual=virtual)["result"]
        assert isinstance(result, dict)
        return {str(tool["name"]) for tool in result["tools"]}

    def call(self, tool: str, **arguments: object) -> str:
        """The text that a tool answers, or why it does not."""
        try:
            result = self.request("tools/call", name=tool, arguments=arguments)["result"]
        except (OSError, KeyError, ValueError) as error:
            return repr(error)
        assert isinstance(result, dict)
        return str(result["content"][0]["text"])

    def address(self, service: str, namespace: str, port: int) -> tuple[str, int]:
        """Where a server of this new Service has to listen."""
        made = self.admin.create(
            schema.SERVICE,
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": service, "namespace": namespace},
                "spec": {"ports": [{"port": port}]},
            },
        )
        spec = made["spec"]
        assert isinstance(spec, dict)
        return str(spec["clusterIP"]), port

    def serves(self, name: str) -> bool:
        return f"{name}_add" in self.tools()

    def ready(self, name: str) -> str:
        """The status of a registration's Ready; empty: there is none."""
        try:
            return condition_of(self.admin.get(schema.REGISTRATION, "mcp-test", name), schema.READY)
        except ApiMissing:
            return ""

    def config(self) -> str:
        """The resourceVersion of the compiled configuration."""
        return _version(self.admin.get(schema.SECRET, SYSTEM, schema.CONFIG_SECRET))

    def holder(self) -> str:
        """Who holds the Lease, as far as anybody has said; empty: nobody."""
        try:
            spec = self.admin.get(LEASE, SYSTEM, CONTROLLER).get("spec")
        except ApiMissing:
            return ""
        return str(spec.get("holderIdentity") or "") if isinstance(spec, dict) else ""


def _version(value: JsonObject) -> str:
    metadata = value["metadata"]
    assert isinstance(metadata, dict)
    return str(metadata["resourceVersion"])
