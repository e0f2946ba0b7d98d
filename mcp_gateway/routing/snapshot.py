"""The observed state: one frozen ``Snapshot`` per backend.

Owns what discovery learnt of one backend: era, capabilities and its lists as
raw items in the backend's own names. Deliberately applies no prefix, filter or
collision rule (``routing.build``). Invariant: an ``Item.raw`` is a valid JSON
object exactly as the backend sent it.
"""

from collections.abc import Mapping
from enum import Enum
from typing import TypeAlias

import attrs

from mcp_gateway.errors import FaultKind
from mcp_gateway.protocol.eras import Era, Family
from mcp_gateway.routing.required import Required
from mcp_gateway.values import BackendKey, JsonObject


class Kind(Enum):
    """What can be listed: the value is the member of the list result that holds the items."""

    TOOLS = "tools"
    PROMPTS = "prompts"
    RESOURCES = "resources"
    TEMPLATES = "resourceTemplates"


class Health(Enum):
    """How a backend is, as served to the world."""

    CONNECTING = "connecting"
    READY = "ready"
    DEGRADED = "degraded"
    DOWN = "down"


@attrs.frozen(kw_only=True)
class Failure:
    """Something that went wrong with a backend."""

    kind: FaultKind
    message: str
    at: float
    """Trio's clock."""


@attrs.frozen(kw_only=True)
class Condition:
    """How a backend is, and how it came to that. Times are of Trio's clock."""

    health: Health = Health.CONNECTING
    since_at: float = 0.0
    """When ``health`` last became a different one."""
    failures: int = 0
    """In a row."""
    circuit_open: bool = False
    last_failure: Failure | None = None


@attrs.frozen(kw_only=True)
class Item:
    """One listed thing as the backend sent it."""

    name: str
    """Tool or prompt name; the URI of a resource; the uriTemplate of a template."""
    raw: bytes = attrs.field(repr=False)
    headers: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Tools: (Mcp-Param name as annotated, property path in the arguments) from x-mcp-header, in any era."""
    required: Required = ()
    """What a client must be able to do to be shown it."""
    only_as_task: bool = False
    """Tools listed in 2025-11-25: ``execution.taskSupport`` is ``required``, whether or not the server has tasks."""


@attrs.frozen(kw_only=True)
class Problem:
    """An item that was dropped or exposed with a warning, and why; or what else is not as it was meant."""

    kind: Kind | None
    """None: it concerns the server, not one of its lists."""
    name: str
    reason: str
    hidden: bool


@attrs.frozen(kw_only=True)
class Listing:
    """One complete list of one backend."""

    items: tuple[Item, ...] = ()
    ttl_ms: int = 0
    private: bool = False
    """cacheScope "private"; legacy backends give no hint and count as public with ttl 0."""


Lists: TypeAlias = Mapping[Kind, Listing]
"""The lists of one backend as the clients of one era see them; a kind that it does not offer is not in it."""


@attrs.frozen(kw_only=True)
class Snapshot:
    """What is known of one backend at one moment.

    ``listings`` is None until a discovery has succeeded, and again once the last
    good list has outlived ``graceWhenDown``. A server that speaks one family has the
    lists of that one alone; equal lists of both are one object.
    """

    backend: BackendKey
    condition: Condition = Condition()
    revision: str = ""
    """Of its entry in the configuration, where a controller gave it one."""
    era: Era | None = None
    transport: str = ""
    """``streamable-http``, ``sse`` or ``stdio``; empty while unknown."""
    capabilities: JsonObject = attrs.field(factory=dict)
    tasks: frozenset[str] = frozenset()
    """What it can do of the tasks of 2025-11-25, where it speaks that (``protocol.tasks.abilities``)."""
    server_name: str = ""
    instructions: str = ""
    """The server's own, made plain and cut (``protocol.plain_text``)."""
    listings: Mapping[Family, Lists] | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def health(self) -> Health:
        """How the backend is, in a word."""
        return self.condition.health

    @property
    def served(self) -> "Snapshot":
        """What of it the route table is made of: without times, failures and revision."""
        return attrs.evolve(self, condition=Condition(), revision="")

    def names(self, kind: Kind) -> frozenset[str]:
        """What is shown of one kind to clients of any era, by the backend's own names."""
        lists = (self.listings or {}).values()
        return frozenset(item.name for listings in lists if kind in listings for item in listings[kind].items)

    def lists(self, family: Family) -> Lists | None:
        """What a client of this family is shown: the lists of its own, or of the only one that the server has."""
        if self.listings is None:
            return None
        return self.listings[family] if family in self.listings else next(iter(self.listings.values()), None)
