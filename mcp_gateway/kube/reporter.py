"""Keeping this pod's report true.

Owns when it is written, and that it goes with the process. Deliberately decides nothing of what it
says (``report``). Invariants: a server that connects or is lost is told within ``URGENT_S``, as long
as that does not happen all the time; anything else at most once a second; it is renewed so often that
the controller never takes a live pod for a dead one.
"""

import logging
from collections.abc import Callable
from typing import Final, Protocol

import attrs
import trio

from mcp_gateway.kube import schema
from mcp_gateway.kube.api import Api
from mcp_gateway.kube.errors import ApiConflict, ApiMissing, KubeError
from mcp_gateway.kube.queue import Bucket
from mcp_gateway.kube.reconcile.conditions import rfc3339
from mcp_gateway.kube.report import Observed, report_spec, states
from mcp_gateway.values import JsonObject, JsonValue

logger = logging.getLogger(__name__)

URGENT_S: Final = 0.05
CALM_S: Final = 1.0
RENEW_S: Final = 30.0
AGAIN_S: Final = 2.0
"""After a write that failed."""
GOODBYE_S: Final = 2.0


class Observer(Protocol):
    """What the reporter looks at."""

    def observe(self) -> Observed | None:
        """What is to be said now; None: nothing is configured yet."""
        ...

    async def changed(self) -> None:
        """Wait until ``observe`` may say something else than when it was last asked."""
        ...


@attrs.define(eq=False, kw_only=True)
class Reporter:
    """Writes one report."""

    api: Api
    namespace: str
    instance: str
    pod: str
    pod_uid: str
    """Empty: this is no Pod, and nobody but we ourselves will delete the report."""
    wall_clock: Callable[[], float]
    observer: Observer
    written: int = 0
    failures: int = 0
    _said: JsonObject | None = attrs.field(init=False, default=None)
    _renewed_at: float = attrs.field(init=False, default=0.0)
    _writes: Bucket = attrs.field(init=False, factory=lambda: Bucket(burst=5.0, per_s=1.0))
    _began_unix_s: float = attrs.field(init=False)
    _offset_s: float = attrs.field(init=False)
    """From our clock to the wall's, once: times that drift with two clocks would be changes of their own."""

    def __attrs_post_init__(self) -> None:
        self._began_unix_s = self.wall_clock()
        self._offset_s = self._began_unix_s - trio.current_time()

    async def run(self) -> None:
        """Report until cancelled; then take the report away."""
        try:
            while True:
                spec = self._spec()
                if spec is not None and (spec != self._said or trio.current_time() >= self._renewed_at + RENEW_S):
                    await self._pace(spec)
                    await self._write()
                await self._next()
        finally:
            with trio.move_on_after(GOODBYE_S, shield=True):
                await self._delete()

    def _spec(self) -> JsonObject | None:
        observed = self.observer.observe()
        if observed is None:
            return None
        began = rfc3339(self._began_unix_s)
        return report_spec(observed, self.pod, self.instance, began, lambda at: at + self._offset_s)

    async def _pace(self, spec: JsonObject) -> None:
        """Let what comes together be said together; a server that came or went is said soon."""
        before = {} if self._said is None else states(self._said)
        urgent = self._said is None or states(spec) != before
        now_at = trio.current_time()
        if urgent and self._writes.take_now(now_at):
            await trio.sleep(URGENT_S)
        else:
            await trio.sleep(max(CALM_S, self._writes.take(now_at)))

    async def _next(self) -> None:
        with trio.move_on_at(self._renewed_at + RENEW_S):
            await self.observer.changed()

    async def _write(self) -> None:
        spec = self._spec()
        if spec is None:
            return
        whole: dict[str, JsonValue] = {**spec, "renewTime": rfc3339(self.wall_clock())}
        value: JsonObject = {
            "apiVersion": schema.REPORT.api_version,
            "kind": schema.REPORT.kind,
            "metadata": self._metadata(),
            "spec": whole,
        }
        try:
            await self._send(value)
        except KubeError as error:
            self.failures += 1
            logger.warning("report not written", extra={"why": str(error)})
            self._said = None
            await trio.sleep(max(AGAIN_S, error.retry_after_s or 0.0))
        else:
            self.written += 1
            self._said, self._renewed_at = spec, trio.current_time()

    async def _send(self, value: JsonObject) -> None:
        """A merge patch keeps what others have put on it; the first time there is nothing to patch."""
        try:
            await self.api.merge(schema.REPORT, self.namespace, self.pod, value)
        except ApiMissing:
            try:
                await self.api.create(schema.REPORT, self.namespace, value)
            except ApiConflict:
                await self.api.merge(schema.REPORT, self.namespace, self.pod, value)

    def _metadata(self) -> JsonObject:
        metadata: JsonObject = {
            "namespace": self.namespace,
            "name": self.pod,
            "labels": {schema.LABEL_INSTANCE: self.instance},
        }
        if self.pod_uid:
            owner: JsonObject = {"apiVersion": "v1", "kind": "Pod", "name": self.pod, "uid": self.pod_uid}
            metadata["ownerReferences"] = [owner]
        return metadata

    async def _delete(self) -> None:
        if not self.written:
            return
        try:
            await self.api.delete(schema.REPORT, self.namespace, self.pod)
        except KubeError as error:
            logger.info("report not deleted; the controller will", extra={"why": str(error)})
