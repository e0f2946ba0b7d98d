"""What the controller has to do next.

Owns the queue of single objects, and whether so much has changed that everything is looked at
again. Deliberately knows neither the store nor the API. Invariant: a change that is told is
looked at, after a quiet moment and soon even if it is never quiet.
"""

from enum import Enum
from typing import Final, TypeAlias

import attrs
import trio

from mcp_gateway.kube import schema
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.queue import WorkQueue
from mcp_gateway.kube.schema import Kind
from mcp_gateway.kube.store import Change

QUIET_S: Final = 0.1
GATHER_S: Final = 0.5
"""What changes together is looked at together: after a quiet moment, at the latest after this."""


class Task(Enum):
    """What kind of work an item is."""

    CONFIG = "config"
    """The compiled configuration."""
    SIGNING_KEY = "signing key"
    REGISTRATION = "registration"
    EXTENSION = "extension"
    VIRTUAL_SERVER = "virtual server"
    ROUTE = "route"
    """Our entries in the status of an HTTPRoute."""
    SWEEP = "sweep"
    """What nobody needs any more."""


Item: TypeAlias = tuple[Task, Key]

TASKS: Final = {
    schema.REGISTRATION: Task.REGISTRATION,
    schema.EXTENSION: Task.EXTENSION,
    schema.VIRTUAL_SERVER: Task.VIRTUAL_SERVER,
    schema.HTTP_ROUTE: Task.ROUTE,
}


@attrs.define(eq=False)
class Agenda:
    """What waits, and who waits for it."""

    _queue: WorkQueue[Item] = attrs.field(factory=lambda: WorkQueue[Item]())
    _changed: trio.Event = attrs.field(factory=trio.Event)
    """Something changed that decisions depend on, since ``gathered`` last returned."""
    _added: trio.Event = attrs.field(factory=trio.Event)

    @property
    def waiting(self) -> int:
        """Items that wait or are worked on."""
        return len(self._queue)

    @property
    def stale(self) -> bool:
        """Whether everything is about to be looked at again."""
        return self._changed.is_set()

    def told(self, change: Change, kind: Kind, key: Key | None) -> None:
        """An object was heard of (``informers.Told``)."""
        if change is Change.SUBSTANCE or (change is Change.DETAIL and kind == schema.GATEWAY):
            self._changed.set()
        if change is not Change.NOTHING and key is not None and kind in TASKS:
            # Somebody may have touched what is ours on it; and one that is gone may have left something behind.
            self.add((TASKS[kind], key), trio.current_time() + QUIET_S)

    async def gathered(self, until_at: float) -> None:
        """Wait for changes and for the quiet after them, or for a moment at which time alone changes something."""
        with trio.move_on_at(until_at):
            await self._changed.wait()
        latest_at = trio.current_time() + GATHER_S
        quiet = False
        while not quiet and trio.current_time() < latest_at:
            self._changed = trio.Event()
            with trio.move_on_at(min(trio.current_time() + QUIET_S, latest_at)) as scope:
                await self._changed.wait()
            quiet = scope.cancelled_caught
        self._changed = trio.Event()

    def add(self, item: Item, at: float, priority: int = 0) -> None:
        """Have one item worked on."""
        self._queue.add(item, at, priority)
        added, self._added = self._added, trio.Event()
        added.set()

    async def take(self) -> Item:
        """The next item, when it is due; whoever takes it says ``done`` or ``failed``."""
        while True:
            item = self._queue.take(trio.current_time())
            if item is not None:
                await trio.lowlevel.checkpoint()
                return item
            with trio.move_on_at(self._queue.next_at()):
                await self._added.wait()

    def done(self, item: Item) -> None:
        """It was carried out."""
        self._queue.done(item, trio.current_time())

    def failed(self, item: Item, at_least_s: float = 0.0) -> float:
        """It was not; returns the pause before it is taken again."""
        pause_s = self._queue.failed(item, trio.current_time(), at_least_s)
        added, self._added = self._added, trio.Event()
        added.set()
        return pause_s

    def begin(self) -> None:
        """Forget what waited: somebody else may have done it. Everything is looked at."""
        self._queue = WorkQueue()
        self._changed.set()
