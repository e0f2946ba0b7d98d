"""Leading: acting for as long as a Lease is ours, and not a moment longer.

Owns the requests about the Lease, and the block in which a leader works. Deliberately
judges no record (``election`` does). Invariants: the work is cancelled when the Lease is
lost or could not be renewed in time; on an orderly end it is given back, so that another
one begins at once.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio

from mcp_gateway.kube.api import Api
from mcp_gateway.kube.election import LOOK_S, RENEW_S, Election
from mcp_gateway.kube.errors import ApiConflict, ApiMissing, KubeError
from mcp_gateway.kube.schema import Kind
from mcp_gateway.values import JsonObject

logger = logging.getLogger(__name__)

LEASE: Final = Kind(group="coordination.k8s.io", version="v1", kind="Lease", plural="leases")
AGAIN_S: Final = 0.5
"""After a renewal that failed."""
RELEASE_S: Final = 2.0
"""For giving it back at the end."""


@attrs.define(eq=False, kw_only=True)
class Lease:
    """One candidate for one Lease."""

    api: Api
    namespace: str
    name: str
    election: Election
    wall_clock: Callable[[], float]
    jitter: Callable[[float], float]

    @property
    def leads(self) -> bool:
        """Whether we may write at this very moment; asked before every write."""
        return self.election.leads(trio.current_time())

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Wait for the Lease, ``lead`` while it is ours, wait again; until cancelled."""
        try:
            while True:
                await self._win()
                logger.info("leading", extra={"lease": f"{self.namespace}/{self.name}"})
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(lead, name="leader")
                    await self._hold()
                    nursery.cancel_scope.cancel("the Lease is lost")
                logger.warning("not leading any more", extra={"holder": self.election.holder or None})
        finally:
            if self.leads:
                with trio.move_on_after(RELEASE_S, shield=True):
                    await self._release()

    async def _win(self) -> None:
        while True:
            failed = await self._try()
            if self.leads:
                return
            asked_s = 0.0 if failed is None else failed.retry_after_s or 0.0
            await trio.sleep(max(LOOK_S / 2 + self.jitter(LOOK_S / 2), asked_s))

    async def _hold(self) -> None:
        """Renew until it is lost."""
        pause_s = RENEW_S
        while self.leads:
            with trio.move_on_at(self.election.leads_until):
                await trio.sleep(pause_s)
                failed = await self._try()
                pause_s = RENEW_S if failed is None else max(AGAIN_S, failed.retry_after_s or 0.0)

    async def _try(self) -> KubeError | None:
        """Look, and claim it if we may; returns why nothing was learnt."""
        election = self.election
        try:
            election.see(await self._read(), trio.current_time())
            if election.may_write(trio.current_time()):
                sent_at = trio.current_time()
                written = await self._write(election.claim(self.wall_clock()))
                election.written(written, sent_at, trio.current_time())
        except ApiConflict:
            logger.debug("another candidate was quicker", extra={"lease": self.name})
        except KubeError as error:
            logger.warning("the Lease cannot be read or written", extra={"why": str(error)})
            return error
        return None

    async def _release(self) -> None:
        try:
            await self._write(self.election.release(self.wall_clock()))
        except KubeError as error:
            logger.info("the Lease was not given back", extra={"why": str(error)})

    async def _read(self) -> JsonObject | None:
        try:
            return await self.api.get(LEASE, self.namespace, self.name)
        except ApiMissing:
            return None

    async def _write(self, spec: JsonObject) -> JsonObject:
        version = self.election.version
        metadata: JsonObject = {"name": self.name, "namespace": self.namespace}
        value: JsonObject = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}
        if version is None:
            return await self.api.create(LEASE, self.namespace, value)
        metadata["resourceVersion"] = version
        return await self.api.replace(LEASE, self.namespace, self.name, value)
