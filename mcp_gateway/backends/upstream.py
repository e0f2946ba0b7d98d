"""One open link to a backend, with its tasks and its users.

Owns the count of users, the nursery of tasks that live with the link (parked
calls, its standalone stream) and the wish to end it. Deliberately neither opens
nor closes links (``upstream_sessions``, ``supervisor``).
Invariant: it is idle exactly when no exchange uses the link, and no stream holds it.
"""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import attrs
import trio

from mcp_gateway.backends.caller import EVERYBODY, SessionKey
from mcp_gateway.backends.connector import Connection
from mcp_gateway.backends.health import HEALTHY_AFTER_S, Backoff
from mcp_gateway.backends.own_requests import pong
from mcp_gateway.backends.transports.base import ClientIdentity, Hear, Inbound, Link
from mcp_gateway.backends.transports.doubts import Doubts
from mcp_gateway.errors import BackendAuth, BackendBusy, BackendGone, BackendProtocol, BackendTooLarge
from mcp_gateway.protocol import tasks

Jitter: TypeAlias = Callable[[float], float]
"""Makes a pause of a pause: between 0 and the given seconds."""


@attrs.define(eq=False, kw_only=True)
class Upstream:
    """One open link in use."""

    connection: Connection
    nursery: trio.Nursery
    identity: ClientIdentity
    key: SessionKey = EVERYBODY
    """Whose it is."""
    users: int = 0
    """Exchanges, and others who have to be waited for."""
    holders: int = 0
    """Tasks for whose sake it is not closed as unused, but which end with it."""
    used_at: float = attrs.field(factory=trio.current_time)
    ending: trio.Event = attrs.field(factory=trio.Event)
    patience_s: float = 0.0
    """How long running users may go on once ``ending`` is set."""
    stream_settled: trio.Event = attrs.field(factory=trio.Event)
    """The standalone stream is open, or is known not to exist."""
    stream_scope: trio.CancelScope | None = None
    ears: list[Hear] = attrs.field(factory=list)
    """Of the exchanges under way, if its callers are modern and can be asked things; what is asked beside an exchange
    is for the only one under way."""
    task_ears: dict[str, Hear] = attrs.field(factory=dict)
    """Of the exchanges that wait for the result of a task, by the task's id: what belongs to it may come anywhere."""
    link: Link = attrs.field(init=False)
    """The conversation itself."""
    doubts: Doubts | None = attrs.field(init=False)
    """See ``Connection``."""
    awaited: trio.Event | None = attrs.field(init=False, default=None)
    """Somebody waits until nobody uses it."""

    def __attrs_post_init__(self) -> None:
        self.link, self.doubts = self.connection.link, self.connection.doubts

    @property
    def usable(self) -> bool:
        """Whether a new exchange may begin on it."""
        return not self.ending.is_set() and not self.connection.link.lost

    @property
    def only_ear(self) -> Hear | None:
        """Whose exchange an unattributed message belongs to for certain; None: to nobody's, or to one of several."""
        return self.ears[0] if len(self.ears) == 1 else None

    def task_ear(self, inbound: Inbound) -> Hear | None:
        """Whose exchange a message is for that says which task it belongs to."""
        if not self.task_ears:
            return None
        meta = inbound.params.get("_meta")
        related = meta.get(tasks.RELATED) if isinstance(meta, dict) else None
        task_id = related.get("taskId") if isinstance(related, dict) else None
        return self.task_ears.get(task_id) if isinstance(task_id, str) else None

    def attributed(self, inbound: Inbound) -> Inbound:
        """What came on this link; a request is answered here and nowhere else."""
        return inbound if inbound.id_raw is None else attrs.evolve(inbound, respond=self.link.notify)

    def enter(self) -> None:
        """One more user."""
        self.users += 1
        self.used_at = trio.current_time()

    def leave(self) -> None:
        """One user less."""
        self.users -= 1
        self.used_at = trio.current_time()
        self.maybe_unused()

    def maybe_unused(self) -> None:
        """Tell who waits for it if nobody uses it."""
        if self.awaited is not None and not self.users:
            self.awaited.set()
            self.awaited = None

    async def unused(self) -> None:
        """Wait until nobody uses it."""
        while self.users:
            if self.awaited is None:
                self.awaited = trio.Event()
            await self.awaited.wait()

    def end(self, patience_s: float) -> None:
        """Ask its owner to close it: tasks are cancelled after ``patience_s``; asking again never lengthens that."""
        self.patience_s = min(patience_s, self.patience_s) if self.ending.is_set() else patience_s
        self.ending.set()

    def start(self, name: str, task: Callable[[], Awaitable[None]], *, uses: bool = True) -> trio.CancelScope:
        """Run a task that ends with the link at the latest; cancel the scope to end it before.

        ``uses``: it holds the link, which is not closed as unused while it runs.
        """
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                await task()

        async def run_as_holder() -> None:
            try:
                await run()
            finally:
                self.holders -= 1
                self.used_at = trio.current_time()

        self.holders += uses
        self.nursery.start_soon(run_as_holder if uses else run, name=name)
        return scope


@attrs.define(eq=False)
class Overhearing:
    """Hears what comes with one exchange (a ``Hear``): pings and what is the gateway's own affair; else its caller."""

    upstream: Upstream
    heard: Callable[[Upstream, Inbound], bool]
    """Takes what concerns the gateway: changed lists, updated resources."""
    hear: Hear

    async def __call__(self, inbound: Inbound) -> None:
        if not self.heard(self.upstream, inbound) and not await pong(self.upstream.link, inbound):
            await self.hear(self.upstream.attributed(inbound))


async def keep_listening(
    connection: Connection, hear: Hear, opened: Callable[[], None], ended: Callable[[], None], jitter: Jitter
) -> None:
    """Hold a session's standalone stream open, with growing pauses, for as long as it is wanted.

    Returns when the backend has no such stream.

    Raises:
        BackendSessionLost: the session is gone; a new stream needs a new session.
    """
    if connection.listen is None:
        return
    backoff, tries = Backoff(), 0
    while True:
        began_at = trio.current_time()
        try:
            if not await connection.listen(hear, opened):
                return
        except (BackendGone, BackendBusy, BackendAuth, BackendProtocol, BackendTooLarge):
            pass  # the stream is a convenience: whoever probes the backend finds out what is wrong with it
        ended()
        if trio.current_time() - began_at >= HEALTHY_AFTER_S:
            tries = 0
        await trio.sleep(jitter(backoff.delay_s(tries)))
        tries = min(tries + 1, 1000)
