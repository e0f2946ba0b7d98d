"""Where the desired state comes from, and what of it is in force.

Owns the seam (``ConfigSource``), and the one place where a new configuration is
taken or refused. Deliberately reads nothing: a file (``config.watch``) and a cluster
are two sources, and the program knows neither. Invariant: the cell holds a good
spec at every moment; what cannot be used changes the status only.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import attrs

from mcp_gateway.cell import Cell
from mcp_gateway.config.spec import GatewaySpec
from mcp_gateway.errors import ConfigError

logger = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class ConfigStatus:
    """How the configuration in force came about."""

    generation: int = 1
    """Grows by one with each configuration that was applied."""
    loaded_at_unix_s: float | None
    """When the one in force was loaded; None: there is none yet, and nothing is served."""
    error: str | None = None
    """Every mistake of the source as it is now, one per line; None: what it says is in force."""
    restart_needed: tuple[str, ...] = ()
    """Settings whose new value waits for a restart."""
    notes: tuple[str, ...] = ()
    """What of the source is ignored."""


@attrs.define(eq=False, kw_only=True)
class Configuration:
    """The configuration in force, and how it came about."""

    source: str
    """What people call the place it comes from."""
    spec: Cell[GatewaySpec]
    status: Cell[ConfigStatus]
    wall_clock: Callable[[], float] = time.time
    """Unix seconds."""

    @classmethod
    def begin(cls, source: str, spec: GatewaySpec | None) -> "Configuration":
        """What a source had at the start; None: nothing yet."""
        status = ConfigStatus(
            generation=0 if spec is None else 1, loaded_at_unix_s=None if spec is None else time.time()
        )
        return cls(source=source, spec=Cell(spec or GatewaySpec()), status=Cell(status))

    def take(self, wanted: GatewaySpec, notes: Sequence[str] = ()) -> None:
        """Put a good configuration in force, as far as that can be done without a restart."""
        before = self.status.value
        spec, restart_needed = settle(self.spec.value, wanted) if before.loaded_at_unix_s is not None else (wanted, ())
        if restart_needed and restart_needed != before.restart_needed:
            logger.warning("settings wait for a restart", extra={"settings": list(restart_needed)})
        if notes and tuple(notes) != before.notes:
            logger.info("settings are ignored", extra={"source": self.source, "notes": list(notes)})
        after = attrs.evolve(before, error=None, restart_needed=restart_needed, notes=tuple(notes))
        if spec != self.spec.value or before.loaded_at_unix_s is None:
            after = attrs.evolve(after, generation=before.generation + 1, loaded_at_unix_s=self.wall_clock())
            extra = {"source": self.source, "generation": after.generation, "servers": len(spec.servers)}
            logger.info("configuration loaded", extra=extra)
        self.spec.set(spec)
        self.status.set(after)

    def refuse(self, error: ConfigError) -> None:
        """What the source says now cannot be used; the last good one stays in force."""
        logger.warning(
            "configuration refused, the last good one stays in force",
            extra={"source": self.source, "mistakes": [str(mistake) for mistake in error.mistakes]},
        )
        self.status.set(attrs.evolve(self.status.value, error=str(error)))


def settle(running: GatewaySpec, wanted: GatewaySpec) -> tuple[GatewaySpec, tuple[str, ...]]:
    """What can be applied of a new spec, and the settings that need a restart.

    Spec: docs/configuration.md.
    """
    if running.sessions.store == wanted.sessions.store:
        return wanted, ()
    sessions = attrs.evolve(wanted.sessions, store=running.sessions.store)
    return attrs.evolve(wanted, sessions=sessions), ("sessions.store",)


class ConfigSource(Protocol):
    """A place that says what is to be served."""

    @property
    def name(self) -> str:
        """What people call it: the path of a file, the name of an object."""
        ...

    async def first(self) -> GatewaySpec | None:
        """What it has at the start; None: it may have something later, and until then nothing is served.

        Raises:
            ConfigError: what it has cannot be used at all.
        """
        ...

    async def follow(self, configuration: Configuration) -> None:
        """Keep a configuration at what the source says, until cancelled.

        Begins with a look of its own, so nothing that changed since ``first`` is missed.
        """
        ...
