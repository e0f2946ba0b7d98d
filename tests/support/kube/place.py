"""A part of a shared cluster that one test has for itself: a namespace with a Gateway, an extension and a host.

Owns the usual way (Service, HTTPRoute, registration) and the servers behind it. Deliberately leaves
the programs to the fixture: one controller and one data plane serve all tests. Invariant: left, it holds no extension,
no registration and no server, so that nobody else waits for one of them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import trio

from tests.support.kube.documents import document, extension, gateway, listener, registration, route, service
from tests.support.kube.mcp_server import McpServer
from tests.support.kube.objects import Document, Objects, condition
from tests.support.raw_client import Client2025, Client2026, connect2025, connect2026

FUSE_S: Final = 10.0
"""What takes less than two seconds on an idle machine."""


class Place:
    """Use as a context; ``name`` is the namespace."""

    def __init__(self, name: str, objects: Objects, where: str, *listeners: Document) -> None:
        self.name, self.host = name, f"{name}.mcp.test"
        self.asked = self.host
        """What clients say."""
        self.objects, self.url = objects, f"http://{where}/mcp"
        self._listeners = listeners or (listener(),)
        self._servers: list[McpServer] = []
        self._applied: list[Document] = []

    def __enter__(self) -> Self:
        self.apply(document("Namespace", "", self.name), gateway(self.name, *self._listeners))
        return self

    def __exit__(self, *_: object) -> None:
        ours = [one for one in self._applied if one["kind"].startswith("MCP")]
        self.objects.delete(*ours)
        for server in self._servers:
            server.stop()

    def opened(self) -> Self:
        """With an extension."""
        self.apply(extension(self.name, publicHost=self.host))
        return self

    def apply(self, *documents: Document) -> None:
        """Apply objects; ours go with the block."""
        self._applied += documents
        self.objects.apply(*documents)

    def address(self, name: str) -> tuple[str, int]:
        """Where a Service is."""
        spec = self.objects.get("Service", self.name, name)["spec"]
        return spec["clusterIP"], spec["ports"][0]["port"]

    def serve(self, name: str, /, port_name: str = "http", **options: Any) -> McpServer:  # noqa: ANN401  # McpServer's
        """A server behind a Service and a route of its name."""
        self.apply(service(self.name, name, port_name), route(self.name, name))
        return self.start(name, **options)

    def start(self, name: str, /, **options: Any) -> McpServer:  # noqa: ANN401  # those of McpServer
        """A server on the address of a Service."""
        server = McpServer(self.address(name), **{"name": name, **options})
        self._servers.append(server)
        return server

    def register(self, name: str, prefix: str = "", to: str = "", **spec: object) -> None:
        """Register the server behind a route."""
        self.apply(registration(self.name, name, prefix, to, **spec))

    def unregister(self, name: str) -> None:
        """Take it back."""
        self.objects.delete(registration(self.name, name))

    def said(self, type_: str, name: str, kind: str = "MCPServerRegistration") -> tuple[str, str, str]:
        """Status, reason and message of a condition."""
        found = condition(self.objects.get(kind, self.name, name), type_)
        return found.get("status", ""), found.get("reason", ""), found.get("message", "")

    def is_ready(self, name: str, kind: str = "MCPServerRegistration") -> bool:
        """Whether Ready is True, for the object as it is now."""
        value = self.objects.get(kind, self.name, name)
        ready = condition(value, "Ready")
        current = ready.get("observedGeneration") == value.get("metadata", {}).get("generation")
        return ready.get("status") == "True" and current

    async def ready(self, *names: str) -> None:
        """Wait until registrations are."""
        await until(lambda: all(self.is_ready(name) for name in names))

    @asynccontextmanager
    async def client2025(self) -> AsyncIterator[Client2025]:
        """A client of this place's host; ``initialize`` it first."""
        async with connect2025(self.url) as client:
            client.headers["Host"] = self.asked
            yield client

    @asynccontextmanager
    async def client2026(self, **capabilities: object) -> AsyncIterator[Client2026]:
        """A client of this place's host."""
        async with connect2026(self.url, **capabilities) as client:
            client.headers["Host"] = self.asked
            yield client

    async def names(self, kind: str = "tools", **headers: str) -> set[str]:
        """What a client sees in a list; ``_`` in a header's name stands for a dash."""
        async with self.client2026() as client:
            client.headers |= {name.replace("_", "-"): value for name, value in headers.items()}
            return set(await client.list(kind))

    async def shows(self, *names: str) -> None:
        """Wait until all these tools are listed."""

        async def all_there() -> bool:
            return set(names) <= await self.names()

        await until(all_there)

    async def hides(self, *names: str) -> None:
        """Wait until none of these tools is listed."""

        async def none_there() -> bool:
            return not set(names) & await self.names()

        await until(none_there)

    async def call(self, tool: str, **arguments: object) -> str:
        """The text of a tool's answer."""
        async with self.client2026() as client:
            answer = await client.call(tool, arguments)
        assert "result" in answer, answer
        text: str = answer["result"]["content"][0]["text"]
        return text


async def until(true: Callable[[], object] | Callable[[], Awaitable[object]], within_s: float = FUSE_S) -> None:
    """Look again and again until something is true."""
    with trio.fail_after(within_s):
        while True:
            found = true()
            if await found if isinstance(found, Awaitable) else found:
                return
            await trio.sleep(0.05)
