"""How long a cluster takes to be as its objects say: one registration, and every object that it depends on.

Owns the pieces, what each looks like when it is wrong, and the waiting. Deliberately sets no bound: a test and a
benchmark have their own. Invariant: a time counts from before the request that changes something until a client sees
the outcome and the registration's Ready says it.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import attrs
import trio

from tests.support.kube.documents import (
    document,
    extension,
    gateway,
    grant,
    listener,
    registration,
    route,
    secret,
    service,
)
from tests.support.kube.mcp_server import McpServer
from tests.support.kube.objects import Document, Objects
from tests.support.kube.place import Place

PIECES: Final = ("gateway", "grant", "extension", "route", "service", "secret", "registration")
TOOLS: Final = 4
"""Of the server."""
LOOK_S: Final = 0.02
TOKEN: Final = "Bearer right"


@attrs.define(eq=False)
class Scene:
    """A team's namespace and that of its Gateway; the server's address is known before its Service is there."""

    number: int
    objects: Objects
    where: str
    """The data plane."""
    server: McpServer | None = None
    place: Place = attrs.field(init=False)
    pieces: dict[str, Document] = attrs.field(init=False)
    broken: dict[str, Document] = attrs.field(init=False)
    """The same, so that the server may not be served any more."""

    def __attrs_post_init__(self) -> None:
        team, owner = f"team-{self.number}", f"owner-{self.number}"
        self.place = Place(team, self.objects, self.where)
        at = {"clusterIP": self.address}
        host = self.place.host
        self.pieces = {
            "gateway": gateway(owner, listener()),
            "grant": grant(owner, team),
            "extension": extension(team, owner, publicHost=host),
            "route": route(team, "server", owner),
            "service": _with(service(team, "server"), **at),
            "secret": secret(team, "key", token=TOKEN),
            "registration": registration(team, "server", "s_", credentialRef={"name": "key"}),
        }
        nobody = listener(allowedRoutes={"namespaces": {"from": "Same"}})
        self.broken = {
            "gateway": gateway(owner, nobody),
            "grant": _with(grant(owner, team), **{"from": grant(owner, "nobody")["spec"]["from"]}),
            "extension": extension(team, owner, section="nobody", publicHost=host),
            "route": route(team, "server", owner, port=1),
            "service": _with(service(team, "server", port=1), **at),
            "secret": secret(team, "key", labelled=False, token=TOKEN),
            "registration": _with(self.pieces["registration"], state="Disabled"),
        }

    @property
    def address(self) -> str:
        """Of the Service."""
        return f"127.96.{100 + self.number // 250}.{1 + self.number % 250}"

    def begin(self) -> None:
        """Make the namespaces."""
        self.objects.apply(*(document("Namespace", "", f"{kind}-{self.number}") for kind in ("team", "owner")))

    def start(self) -> None:
        """Start the server."""
        self.server = McpServer((self.address, 9090), authorization=TOKEN)

    def end(self) -> None:
        """Take everything away."""
        self.objects.delete(*self.pieces.values())
        if self.server is not None:
            self.server.stop()

    def apply(self, names: Iterable[str]) -> None:
        """Apply pieces in an order."""
        self.objects.apply(*(self.pieces[name] for name in names))

    async def is_served(self) -> bool:
        """Whether a client sees the tools, and Ready says how many there are."""
        value = self.objects.get("MCPServerRegistration", self.place.name, "server")
        counted = value.get("status", {}).get("discoveredTools") == TOOLS
        return self.place.is_ready("server") and counted and "s_greet" in await self.place.names()

    async def is_withdrawn(self) -> bool:
        """Whether no client sees them, and Ready is not True."""
        return not self.place.is_ready("server") and "s_greet" not in await self.place.names()

    async def served_after(self, change: Callable[[], None], within_s: float) -> float:
        """Seconds from before a change until it is served."""
        return await self._after(change, self.is_served, within_s)

    async def withdrawn_after(self, change: Callable[[], None], within_s: float) -> float:
        """Seconds from before a change until it is not served any more."""
        return await self._after(change, self.is_withdrawn, within_s)

    async def _after(self, change: Callable[[], None], true: Callable[[], Awaitable[bool]], within_s: float) -> float:
        began_at = trio.current_time()
        change()
        with trio.fail_after(within_s):
            while True:
                if await true():
                    return trio.current_time() - began_at
                await trio.sleep(LOOK_S)


def _with(made: Document, **spec: object) -> Document:
    return {**made, "spec": {**made["spec"], **spec}}
