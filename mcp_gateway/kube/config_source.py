"""The configuration of a data plane in a cluster: one Secret, or the copy of it that is mounted.

Owns where it is read from, and that it is never lost. Deliberately decides nothing about its entries
(``config.compiled``). Invariants: a Secret that is deleted, emptied or garbage changes nothing; while
the API server is away the last good one stays, also across a restart if a copy is mounted.
"""

import base64
import binascii
import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

from mcp_gateway.backends.fleet import full_jitter
from mcp_gateway.cell import Cell
from mcp_gateway.config.compiled import Compiled, read_compiled, unpack
from mcp_gateway.config.source import Configuration
from mcp_gateway.config.spec import GatewaySpec
from mcp_gateway.errors import ConfigError
from mcp_gateway.kube import schema
from mcp_gateway.kube.api import Api, Selection
from mcp_gateway.kube.errors import KubeError
from mcp_gateway.kube.reflector import Reflector
from mcp_gateway.values import JsonObject

logger = logging.getLogger(__name__)

MAX_PACKED_BYTES: Final = 2**20


@attrs.define(eq=False, kw_only=True)
class SecretSource:
    """A ``ConfigSource``."""

    api: Api
    namespace: str
    copy: Path | None = None
    """The folder in which the Secret is mounted."""
    allow_loopback: bool = False
    compiled: Cell[Compiled | None] = attrs.field(init=False, factory=lambda: Cell(None))
    """What is in force, with its revisions."""
    _packed: Cell[bytes] = attrs.field(init=False, factory=lambda: Cell(b""))
    _limiter: trio.CapacityLimiter = attrs.field(init=False, factory=lambda: trio.CapacityLimiter(1), repr=False)

    @property
    def name(self) -> str:
        """See ``ConfigSource.name``."""
        return f"Secret {self.namespace}/{schema.CONFIG_SECRET}"

    async def first(self) -> GatewaySpec | None:
        """See ``ConfigSource.first``: the mounted copy, if it is there and good."""
        if self.copy is None:
            await trio.lowlevel.checkpoint()
            return None
        path = self.copy / schema.CONFIG_KEY
        try:
            packed = await trio.to_thread.run_sync(partial(_read, path), abandon_on_cancel=True, limiter=self._limiter)
            compiled = await self._unpacked(packed)
        except OSError as error:
            logger.info("no copy of the configuration", extra={"file": str(path), "why": error.strerror})
            return None
        except ConfigError as error:
            logger.warning("the copy of the configuration cannot be used", extra={"file": str(path), "why": str(error)})
            return None
        logger.info("begins with the copy of the configuration", extra={"file": str(path)})
        self.compiled.set(compiled)
        return compiled.spec

    async def follow(self, configuration: Configuration) -> None:
        """See ``ConfigSource.follow``."""
        selection = Selection(
            kind=schema.SECRET, namespace=self.namespace, fields=f"metadata.name={schema.CONFIG_SECRET}"
        )
        reflector = Reflector(
            api=self.api, selection=selection, feed=_Feed(self._packed, self.name), jitter=full_jitter
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reflector.run, name="configuration Secret")
            version = 0
            while True:
                version, packed = await self._packed.changed(version)
                await self._take(packed, configuration)

    async def _take(self, packed: bytes, configuration: Configuration) -> None:
        try:
            compiled = await self._unpacked(packed)
        except ConfigError as error:
            configuration.refuse(error)
            return
        configuration.take(compiled.spec, compiled.notes)
        self.compiled.set(compiled)

    async def _unpacked(self, packed: bytes) -> Compiled:
        # A thousand entries are most of a second: not in the loop.
        read = partial(_compiled, packed, allow_loopback=self.allow_loopback)
        return await trio.to_thread.run_sync(read, limiter=self._limiter)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_PACKED_BYTES)


def _compiled(packed: bytes, *, allow_loopback: bool) -> Compiled:
    return read_compiled(unpack(packed), allow_loopback=allow_loopback)


@attrs.frozen
class _Feed:
    """Hears of the one Secret (a ``reflector.Feed``)."""

    packed: Cell[bytes]
    name: str

    def listed(self, items: Iterable[JsonObject]) -> None:
        """See ``Feed``."""
        found = next(iter(items), None)
        if found is None:
            logger.warning("no configuration yet, or it was deleted: nothing changes", extra={"source": self.name})
        else:
            self.changed(found)

    def changed(self, value: JsonObject) -> None:
        """See ``Feed``."""
        data = value.get("data")
        encoded = data.get(schema.CONFIG_KEY) if isinstance(data, dict) else None
        if not isinstance(encoded, str) or not encoded:
            logger.warning("the configuration is empty: nothing changes", extra={"source": self.name})
            return
        try:
            self.packed.set(base64.b64decode(encoded, validate=True))
        except binascii.Error:
            logger.warning("the configuration is no base64: nothing changes", extra={"source": self.name})

    def deleted(self, value: JsonObject) -> None:
        """See ``Feed``."""
        logger.warning("the configuration was deleted: nothing changes", extra={"source": self.name})

    def failed(self, error: KubeError) -> None:
        """See ``Feed``."""
        logger.warning("the configuration cannot be read: the last one stays", extra={"why": str(error)})

    def heard(self) -> None:
        """See ``Feed``."""
