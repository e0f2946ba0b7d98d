"""One request of a client that goes to a backend: the story of a call.

    prepare (a face) -> run: enter, deadline, link, place, bytes out, bytes back -> finish: one answer

Owns the order of these. Deliberately translates nothing (``translation``), opens no link
(``backends``) and suspends nothing (``suspended``). Invariant: whatever happens inside,
``run`` leaves one outcome, or the reason why the call was cut, or lets ``Cancelled`` of an
outer scope through (docs/invariants.md, 1).

Spec: docs/architecture.md, "The road of a call".
"""

from collections.abc import Awaitable
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs
import trio

from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.caller import Caller
from mcp_gateway.backends.fleet import Fleet
from mcp_gateway.backends.transports.base import Answer, Inbound, Link, Outgoing
from mcp_gateway.backends.upstream import Upstream
from mcp_gateway.cell import Cell
from mcp_gateway.config.spec import GatewaySpec, Timeouts
from mcp_gateway.errors import BackendGone, BackendTimeout, Executed, GatewayError, Limit, RemoteFault
from mcp_gateway.gateway.call import input_round, translation
from mcp_gateway.gateway.call.deadline import Cause, Deadline, why_ended
from mcp_gateway.gateway.call.in_flight import InFlight
from mcp_gateway.gateway.call.log import CallLog
from mcp_gateway.gateway.call.log_levels import LogLevels
from mcp_gateway.gateway.call.outcome import Outcome, failed
from mcp_gateway.gateway.call.request import ClientRequest
from mcp_gateway.gateway.inbound import InboundHandler, for_call
from mcp_gateway.gateway.tasks import TaskNames
from mcp_gateway.protocol import translate
from mcp_gateway.protocol.eras import Era, Family
from mcp_gateway.protocol.splice import Edits
from mcp_gateway.routing.listing_views import Target
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.values import BackendKey, Header

if TYPE_CHECKING:
    from mcp_gateway.gateway.call.suspended import SuspendedCall, SuspendedCalls

TELL_FIRST_S: Final = 0.5
"""In a drain, the longest a cancelled call's answer waits until the backends of all others have been told."""
LARGE_BYTES: Final = 2**20
"""Above this an answer that must be reshaped is reshaped in a thread (docs/architecture.md, "Loop time")."""
THREADS: Final = 2
NO_EDITS: Final[Edits] = {}


@attrs.define(eq=False, kw_only=True)
class Calls:
    """What all calls of a process share."""

    spec: Cell[GatewaySpec]
    fleet: Fleet
    in_flight: InFlight
    log: CallLog
    suspended: "SuspendedCalls"
    server_info: bytes
    """Our own Implementation object, raw JSON."""
    levels: LogLevels = attrs.field(factory=LogLevels)
    threads: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(THREADS))

    def timeouts(self, key: BackendKey) -> Timeouts:
        """The limits of calls to one backend."""
        backend = self.fleet.get(key)
        return backend.spec.timeouts if backend is not None else Timeouts()

    def late(self, key: BackendKey) -> BackendTimeout:
        """The error of a short request to a backend that took longer than a call may."""
        return BackendTimeout(backend=key, after_s=self.timeouts(key).call_s, limit=Limit.CALL)

    async def idle(self) -> None:
        """Wait until no call runs, none that is suspended either."""
        while len(self.in_flight) or len(self.suspended):
            await self.in_flight.idle()
            await self.suspended.idle()

    def cut_all(self, cause: Cause) -> int:
        """Cut every call; how many there were."""
        return self.in_flight.cut_all(cause) + self.suspended.cut_all(cause)


@attrs.define(eq=False, kw_only=True)
class Call(ClientRequest):
    """A forwarded request."""

    calls: Calls
    target: Target
    edits: Edits
    """Of ``params``: the client's names replaced by the backend's own."""
    caller: Caller
    """Whose upstream session it uses; its client's own, but where a task or a question says otherwise."""
    extensions: frozenset[str] = frozenset()
    """Those that the client and the server both declare."""
    tasks: TaskNames | None = None
    """What the two call the client's tasks; None: the client can have none there."""
    deadline: Deadline = attrs.field(init=False)
    inbound: InboundHandler | None = attrs.field(default=None, init=False)
    """Made when the backend says something before its answer."""
    suspended: "SuspendedCall | None" = attrs.field(default=None, init=False)
    """The call that this request waits for, if it may outlive it."""

    def destination(self) -> Target:
        """See ``ClientRequest``."""
        return self.target

    @property
    def method(self) -> str:
        """What the client asked for."""
        return self.message.method

    @property
    def awaits_task(self) -> str | None:
        """The server's id of the task whose result it waits for."""
        return self.target.upstream if self.message.method == "tasks/result" else None

    @property
    def progress_token(self) -> bytes | None:
        """The client's own progressToken, raw; None: it wants to hear nothing of progress."""
        return translation.progress_token(self.message)

    # --- run ---

    def serve(self, scope: trio.CancelScope) -> Awaitable[Outcome]:
        """Carry it to its backend; see ``ClientRequest.serve``."""
        calls, key = self.calls, self.target.backend
        calls.in_flight.enter(self)
        backend = calls.fleet.get(key)
        if backend is None:
            raise BackendGone(backend=key, executed=Executed.NO, why="it is not configured any more")
        timeouts = backend.spec.timeouts
        if self.awaits_task:  # it blocks for as long as the task runs
            timeouts = attrs.evolve(timeouts, call_s=timeouts.max_s)
        self.deadline = Deadline(timeouts, started_at=self.began_at)
        if self.client.session is None and self.method in translate.INTERIM and self._may_be_suspended:
            return calls.suspended.serve(self, scope, backend)
        return self.carry(scope, backend)

    def failed_by(self, error: GatewayError) -> Outcome:
        """See ``ClientRequest``."""
        self.calls.log.failed(error, self.target.backend)
        return failed(self.message.id_raw, error, self.target.backend)

    def over(self) -> None:
        """See ``ClientRequest``."""
        self.calls.in_flight.leave(self)
        super().over()

    async def carry(self, scope: trio.CancelScope, backend: Backend) -> Outcome:
        """Under its deadline, for as long as the backend is there."""
        self.deadline.start(scope)
        backend.enter(self)
        try:
            backend.check_open()
            upstream = backend.link_now(self.caller) or await backend.open_link(self.caller)
            answer, era = await self._ask(backend, upstream, NO_EDITS), upstream.link.era
            if self.message.method == "resources/read":
                answer, era = await self._elsewhere(backend, upstream, answer)
            if era.modern and b'"input_required"' in answer.raw:
                return await input_round.go_on(self, backend, era, answer)
            return await self.outcome_of(answer, era)
        finally:
            backend.leave(self)
            self.deadline.scope = None
            if self.inbound is not None:
                self.inbound.close()
            self.calls.log.placed(self.deadline, backend.key)

    @property
    def _may_be_suspended(self) -> bool:
        """Whether its client may have been asked something, or could be."""
        return "requestState" in self.message.params or self.caller.askable

    def removed(self) -> None:
        """Its backend ends (a ``RunningCall``)."""
        self.cut(Cause.REMOVED)

    # --- one exchange ---

    async def exchange(self, backend: Backend, extra: Edits) -> tuple[Answer, Era]:
        """Send the request once more, with ``extra`` edits of its params, and wait for the answer.

        Returns:
            The answer, and the revision that it is in.
        Raises:
            BackendError: also for words of the backend that cannot be passed on.
            MalformedMessage: the client's own request cannot be passed on.
        """
        upstream = await backend.open_link(self.caller)
        return await self._ask(backend, upstream, extra), upstream.link.era

    async def _elsewhere(self, backend: Backend, upstream: Upstream, answer: Answer) -> tuple[Answer, Era]:
        """A resource that the client's own process does not have is read from the one that has listed it."""
        if backend.pipe and not upstream.key.everybodys and translation.is_missing(answer):
            own, self.caller = self.caller, self.caller.like_anybody
            try:
                shared = await backend.open_link(self.caller)
                other = await self._ask(backend, shared, NO_EDITS)
            finally:
                self.caller = own
            if not other.parts.is_error:
                return other, shared.link.era
        return answer, upstream.link.era

    async def _ask(self, backend: Backend, upstream: Upstream, extra: Edits) -> Answer:
        era, deadline, method, level = upstream.link.era, self.deadline, self.message.method, self.client.log_level
        if level is not None:
            await self.calls.levels.ensure(backend, self.caller, upstream.link, level)
        outgoing = Outgoing(
            method=method,
            render=partial(self._render, era, extra),
            headers=translation.headers(self, backend, era),
            polled=self._polled,
            caught_up=self._caught_up,
            family=era.family,
            task=self.awaits_task,
        )
        try:
            answer = await backend.exchange(
                self.caller, outgoing, self.hear, deadline.queue, partial(self._tell_again, backend), on=upstream
            )
            if era.modern and method == "tools/call" and translation.mismatches(answer):
                again = attrs.evolve(outgoing, headers=await self._headers_anew(backend, era))
                if again.headers != outgoing.headers:
                    return await backend.exchange(self.caller, again, self.hear, deadline.queue)
        except RemoteFault as fault:
            if not deadline.sent:
                raise
            raise translation.broken(self, Executed.UNKNOWN, fault) from fault
        return answer

    def _render(self, era: Era, extra: Edits, upstream_id: int) -> bytes:
        """The whole JSON-RPC request under ``upstream_id``: it goes out now."""
        request = translation.request(self, era, extra, upstream_id)
        self.deadline.begin()
        return request

    async def _polled(self, retry_ms: int | None) -> None:
        await self.way.stream.rest(retry_ms)

    async def _caught_up(self) -> None:
        """What the backend said at once was heard: the client gets it at once, too."""
        await self.way.stream.flush()

    async def _tell_again(self, backend: Backend, link: Link) -> None:
        """A session was lost, and the request goes up again in another one."""
        await self.calls.levels.ensure(backend, self.caller, link, self.client.log_level)

    async def _headers_anew(self, backend: Backend, era: Era) -> tuple[Header, ...]:
        """The call's headers by what its tool says now.

        On -32020 a client "SHOULD refresh tools/list and retry once" (2026-07-28 basic/transports/streamable-http).
        """
        await backend.reread()
        listing = (backend.snapshot.lists(Family.MODERN) or {}).get(Kind.TOOLS)
        items = listing.items if listing is not None else ()
        fresh = next((item.headers for item in items if item.name == self.target.upstream), self.target.headers)
        self.target = attrs.evolve(self.target, headers=fresh)
        return translation.headers(self, backend, era)

    # --- what comes back ---

    async def hear(self, inbound: Inbound) -> None:
        """Take what the backend says before its answer (a ``Hear``)."""
        if self.inbound is None:
            self.inbound = for_call(self)
        await self.inbound.hear(inbound)

    @property
    def way(self) -> ClientRequest:
        """On whose stream the client hears it."""
        return self

    async def outcome_of(self, answer: Answer, era: Era) -> Outcome:
        """The client's form of the backend's final answer; a large one is reshaped in a thread."""
        if len(answer.raw) > LARGE_BYTES and (self.client.era is not era or self.target.uri_map):
            outcome = await trio.to_thread.run_sync(translation.outcome, self, answer, era, limiter=self.calls.threads)
        else:
            outcome = translation.outcome(self, answer, era)
        if self.tasks is not None and not answer.parts.is_error:
            self.tasks.saw(self.method, answer.parts.result, era)
        return outcome

    # --- finish ---

    async def finish(self) -> None:
        """See ``entrance.Job``."""
        if self.cause is Cause.DRAIN:
            # An answer costs more than a notice: all backends are told first, then the clients.
            with trio.move_on_after(TELL_FIRST_S):
                await self.calls.in_flight.idle()
        elif self.inbound is not None:
            await self.inbound.take_back()
        await super().finish()

    def ended(self) -> Outcome:
        """See ``ClientRequest``."""
        key, suspended = self.target.backend, self.suspended
        error = why_ended(self.cause, self.deadline if suspended is None else suspended.deadline, key)
        if suspended is None:  # a suspended call notes itself how it has ended
            backend = self.calls.fleet.get(key)
            closes = backend is not None and backend.hears_closing(self.caller)
            self.calls.log.failed(error, key)
            self.calls.log.cut(self.cause, error, closes=closes)
        return failed(self.message.id_raw, error, key)
