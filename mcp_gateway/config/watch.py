"""Looking at the configuration file again and again.

Owns the polling and the decision when a change is complete. Deliberately parses nothing
(``config.file`` does) and puts nothing in force (``config.source``). Invariant: what was
read is told exactly once.

Files are compared by content, not by time or inode: so atomic renames, the symlink
swap of a Kubernetes volume and a rewrite within one clock tick are all the same.
"""

import signal
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import attrs
import trio

from mcp_gateway.cell import Cell
from mcp_gateway.config.file import Loaded, fingerprint, load_with_sources
from mcp_gateway.config.source import Configuration
from mcp_gateway.config.spec import GatewaySpec
from mcp_gateway.errors import ConfigError

_T = TypeVar("_T")

INTERVAL_S: Final = 0.25
"""Two looks that agree, plus the reading, stay below the promised second."""


@attrs.define(eq=False, kw_only=True)
class FileSource:
    """A configuration file (a ``ConfigSource``)."""

    path: Path
    environ: Mapping[str, str] = attrs.field(repr=False)
    """Where ``{env: NAME}`` looks, again at each reload."""
    interval_s: float = INTERVAL_S
    """Between two looks."""
    _limiter: trio.CapacityLimiter = attrs.field(init=False, factory=partial(trio.CapacityLimiter, 1), repr=False)
    _loaded: Loaded | None = attrs.field(init=False, default=None, repr=False)
    _pending: tuple[tuple[Path, str], ...] | None = attrs.field(init=False, default=None, repr=False)

    @property
    def name(self) -> str:
        """See ``ConfigSource.name``."""
        return str(self.path)

    async def first(self) -> GatewaySpec:
        """See ``ConfigSource.first``."""
        return (await self._in_thread(partial(load_with_sources, self.path, self.environ))).spec

    async def follow(self, configuration: Configuration) -> None:
        """See ``ConfigSource.follow``."""
        hangups: Cell[int] = Cell(0)
        heeded = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_count_hangups, hangups, name="config hang-ups")
            while True:
                seen = hangups.version
                await self._look(configuration, forced=seen != heeded)
                heeded = seen
                with trio.move_on_after(self.interval_s):
                    await hangups.changed(seen)

    async def _look(self, configuration: Configuration, *, forced: bool) -> None:
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
        loaded = self._loaded = await self._in_thread(partial(load_with_sources, self.path, self.environ))
        if isinstance(loaded.outcome, ConfigError):
            configuration.refuse(loaded.outcome)
        else:
            configuration.take(loaded.outcome, [str(note) for note in loaded.notes])

    async def _in_thread(self, read: Callable[[], _T]) -> _T:
        # Only reads, so a thread that hangs on a dead network drive may be left behind.
        return await trio.to_thread.run_sync(read, abandon_on_cancel=True, limiter=self._limiter)


async def _count_hangups(hangups: Cell[int]) -> None:
    """SIGHUP, where it exists and may be caught, asks for a look that takes the file as it is."""
    if not hasattr(signal, "SIGHUP") or threading.current_thread() is not threading.main_thread():
        return
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            hangups.set(hangups.value + 1)
