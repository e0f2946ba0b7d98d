"""How often the status of each registration was written, and what it said each time.

Owns one watch of the registrations, read by a thread. Deliberately counts what the API server tells, not what our
programs say they did. Invariant: no write between ``watching`` and ``since`` is missed.
"""

import contextlib
import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Final

import attrs

from mcp_gateway.kube import schema
from tests.support.kube.admin import Admin
from tests.support.kube.kubectl import condition_of

_CONDITIONS: Final = (schema.ACCEPTED, schema.RESOLVED_REFS, schema.PROGRAMMED, schema.CONNECTED, schema.READY)


@attrs.define
class StatusWrites:
    """Of all registrations, by name."""

    counts: Counter[str] = attrs.field(factory=Counter)
    """Writes since ``forget`` was last called."""
    conditions: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    """The status of each condition, now."""
    changed: set[str] = attrs.field(factory=set)
    """Where a condition has had another status since ``forget``."""

    def take(self, line: bytes) -> None:
        event = json.loads(line)
        value = event["object"]
        name = value["metadata"]["name"]
        if event["type"] == "DELETED":
            self.conditions.pop(name, None)
            return
        self.counts[name] += event["type"] == "MODIFIED"
        now = tuple(condition_of(value, type_) for type_ in _CONDITIONS)
        before = self.conditions.get(name)
        if before is not None and before != now:
            self.changed.add(name)
        self.conditions[name] = now

    def forget(self) -> None:
        self.counts.clear()
        self.changed.clear()

    @property
    def ready(self) -> int:
        """How many are Ready."""
        return sum(one[-1] == "True" for one in self.conditions.values())

    @property
    def loaded(self) -> int:
        """How many are in the configuration of every pod."""
        return sum(one[2] == "True" for one in self.conditions.values())

    @property
    def refused(self) -> int:
        """How many are not accepted."""
        return sum(one[0] == "False" for one in self.conditions.values())

    @property
    def most(self) -> int:
        """Of any one object."""
        return max(self.counts.values(), default=0)


@contextlib.contextmanager
def watching(admin: Admin) -> Iterator[StatusWrites]:
    """Count for as long as the block lives."""
    writes = StatusWrites()
    with admin.watching(schema.REGISTRATION) as watch:

        def read() -> None:
            with contextlib.suppress(OSError, http.client.HTTPException):  # its end
                for line in watch.lines:
                    writes.take(line)

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield writes
        finally:
            watch.end()
            thread.join()
