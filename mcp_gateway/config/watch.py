"""Looking at the configuration file again and again.

Owns the polling, the decision when a change is complete, and what of it is
applied. Deliberately parses nothing: ``config.file`` does. Invariant: the cell
holds a good spec at every moment; a bad file changes ``ConfigStatus`` only.

Files are compared by content, not by time or inode: so atomic renames, the symlink
swap of a Kubernetes volume and a rewrite within one clock tick are all the same.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import attrs
import trio

from mcp_gateway.cell import Cell
from mcp_gateway.config.file import Loaded, fingerprint, load_with_sources
from mcp_gateway.config.spec import GatewaySpec
from mcp_gateway.errors import ConfigError

_T = TypeVar("_T")

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 0.25
"""Two looks that agree, plus the reading, stay below the promised second."""


@attrs.frozen(kw_only=True)
class ConfigStatus:
    """How the configuration in force came about."""

    generation: int = 1
    """Grows by one with each configuration that was applied."""
    loaded_at_unix_s: float
    """When the one in force was loaded."""
    error: str | None = None
    """Every mistake of the file as it is now, one per line; None: the file is in force."""
    restart_needed: tuple[str, ...] = ()
    """Settings whose new value waits for a restart."""
    notes: tuple[str, ...] = ()
    """What of the file in force is ignored."""


def settle(running: GatewaySpec, wanted: GatewaySpec) -> tuple[GatewaySpec, tuple[str, ...]]:
    """What can be applied of a new spec, and the settings that need a restart.

    Spec: design section 6, "Everything reloads except ``sessions.store``".
    """
    if running.sessions.store == wanted.sessions.store:
        return wanted, ()
    sessions = attrs.evolve(wanted.sessions, store=running.sessions.store)
    return attrs.evolve(wanted, sessions=sessions), ("sessions.store",)


async def watch_file(
    path: Path,
    environ: Mapping[str, str],
    cell: Cell[GatewaySpec],
    status: Cell[ConfigStatus],
    interval_s: float = INTERVAL_S,
    *,
    wall_clock: Callable[[], float] = time.time,
) -> None:
    """Keep ``cell`` at what the file says, until cancelled.

    Begins with a reading of its own, so nothing that changed since the caller's is missed.

    Args:
        environ: where ``{env: NAME}`` looks, again at each reload.
        cell: holds the spec in force; set only to good ones.
        status: holds how the last look went.
        interval_s: seconds between two looks.
        wall_clock: Unix seconds.
    """
    hangups: Cell[int] = Cell(0)
    watcher = _Watcher(path, environ, cell, status, wall_clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_count_hangups, hangups, name="config hang-ups")
        while True:
            seen = hangups.version
            await watcher.look(forced=seen != watcher.hangups)
            watcher.hangups = seen
            with trio.move_on_after(interval_s):
                await hangups.changed(seen)


async def _count_hangups(hangups: Cell[int]) -> None:
    """SIGHUP, where it exists and may be caught, asks for a look that takes the file as it is."""
    if not hasattr(signal, "SIGHUP") or threading.current_thread() is not threading.main_thread():
        return
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            hangups.set(hangups.value + 1)


@attrs.define(eq=False)
class _Watcher:
    """What is remembered from one look to the next."""

    path: Path
    environ: Mapping[str, str] = attrs.field(repr=False)
    cell: Cell[GatewaySpec]
    status: Cell[ConfigStatus]
    wall_clock: Callable[[], float]
    hangups: int = 0
    _limiter: trio.CapacityLimiter = attrs.field(factory=partial(trio.CapacityLimiter, 1))
    _loaded: Loaded | None = None
    _pending: tuple[tuple[Path, str], ...] | None = None

    async def look(self, *, forced: bool) -> None:
        """Reload if the files have changed and have come to rest, or if it is forced."""
        if self._loaded is not None and not forced:
            now = await self._in_thread(partial(fingerprint, self._loaded.sources))
            if now == self._loaded.fingerprint:
                self._pending = None
                return
            if now != self._pending:
                self._pending = now  # perhaps half written: wait until two looks agree
                return
        self._pending = None
        self._loaded = await self._in_thread(partial(load_with_sources, self.path, self.environ))
        self._take(self._loaded.outcome, tuple(str(note) for note in self._loaded.notes))

    async def _in_thread(self, read: Callable[[], _T]) -> _T:
        # Only reads, so a thread that hangs on a dead network drive may be left behind.
        return await trio.to_thread.run_sync(read, abandon_on_cancel=True, limiter=self._limiter)

    def _take(self, outcome: GatewaySpec | ConfigError, notes: tuple[str, ...]) -> None:
        before = self.status.value
        if isinstance(outcome, ConfigError):
            logger.warning(
                "configuration refused, the last good one stays in force",
                extra={"file": str(self.path), "mistakes": [str(mistake) for mistake in outcome.mistakes]},
            )
            self.status.set(attrs.evolve(before, error=str(outcome)))
            return
        spec, restart_needed = settle(self.cell.value, outcome)
        if restart_needed and restart_needed != before.restart_needed:
            logger.warning("settings wait for a restart", extra={"settings": list(restart_needed)})
        if notes and notes != before.notes:
            logger.info("settings are ignored", extra={"file": str(self.path), "notes": list(notes)})
        after = attrs.evolve(before, error=None, restart_needed=restart_needed, notes=notes)
        if spec != self.cell.value:
            after = attrs.evolve(after, generation=before.generation + 1, loaded_at_unix_s=self.wall_clock())
            logger.info(
                "configuration loaded",
                extra={"file": str(self.path), "generation": after.generation, "servers": len(spec.servers)},
            )
        self.cell.set(spec)
        self.status.set(after)
