"""Runs one call: a place, a scope, a deadline, exactly one outcome.

Owns the life of a call from admission to its outcome, for both client eras.
Deliberately writes nothing to the client (the faces do) and translates nothing
(``relay``). Invariant: whatever happens inside, ``run`` returns one ``Outcome``
or lets ``Cancelled`` of an outer scope through (design, invariant 1).
"""

import math
from functools import partial
from typing import Final

import attrs
import trio

from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.fleet import Fleet
from mcp_gateway.config.spec import Timeouts
from mcp_gateway.errors import BackendGone, BackendTimeout, CallCancelled, Executed, GatewayError, Limit
from mcp_gateway.gateway.calls import Call, CallClock, Calls, Cause, why_ended
from mcp_gateway.gateway.ear import Ear
from mcp_gateway.gateway.errand import Errand, Outcome
from mcp_gateway.gateway.ledger import Ledger
from mcp_gateway.gateway.outlet import Outlet
from mcp_gateway.gateway.pacer import Pacer
from mcp_gateway.gateway.parking import STATE_REFUSED, ParkedCall, Parking, binding_of, new_park_id
from mcp_gateway.gateway.relay import Relay
from mcp_gateway.gateway.session import Session
from mcp_gateway.protocol import jsonrpc, splice, translate
from mcp_gateway.protocol.wire_errors import CANCELLED, cancelled_data, error_data, wire_for
from mcp_gateway.values import BackendKey

TELL_FIRST_S: Final = 0.5
"""In a drain, the longest a cancelled call's answer waits until the backends of all others have been told."""
ASKABLE: Final = ("sampling", "elicitation", "roots")
"""Client capabilities for which a 2025 backend may ask something mid-call."""


def failure(id_raw: bytes, error: GatewayError, backend: BackendKey | None) -> Outcome:
    """The outcome of a call that the gateway itself must answer."""
    if isinstance(error, CallCancelled):
        body = jsonrpc.render_error(id_raw, CANCELLED, str(error), cancelled_data(backend, error.executed))
        return Outcome(status=200, body=body, label="cancelled")
    wire = wire_for(error)
    body = jsonrpc.render_error(id_raw, wire.code, str(error), error_data(error, backend))
    return Outcome(status=200, body=body, label=wire.reason)


@attrs.define(eq=False, kw_only=True)
class Runner:
    """Runs calls; one per process."""

    fleet: Fleet
    relay: Relay
    parking: Parking
    calls: Calls
    pacer: Pacer
    ledger: Ledger

    def timeouts(self, key: BackendKey) -> Timeouts:
        """The limits of calls to one backend."""
        backend = self.fleet.get(key)
        return backend.spec.timeouts if backend is not None else Timeouts()

    def late(self, key: BackendKey) -> BackendTimeout:
        """The error of a short request to a backend that took longer than a call may."""
        return BackendTimeout(backend=key, after_s=self.timeouts(key).call_s, limit=Limit.CALL)

    async def idle(self) -> None:
        """Wait until no call runs, none that is parked either."""
        while len(self.calls) or len(self.parking):
            await self.calls.idle()
            await self.parking.idle()

    def cancel_all(self, cause: Cause) -> int:
        """Cancel every call; how many there were."""
        return self.calls.cancel_all(cause) + self.parking.cancel_all(cause)

    async def run(self, errand: Errand, call: Call, outlet: Outlet, session: Session | None, realm: str) -> Outcome:
        """Carry ``errand`` under its deadline; ``call`` is what others cancel.

        Raises:
            Overload: no place is free.
        """
        call.server, call.target = errand.target.backend, errand.target.federated
        self.ledger.metrics.began(call.server)
        try:
            with self.calls.running(call), self.pacer.pacing(outlet):
                outcome = await self._run(errand, call, outlet, session, realm)
        finally:
            self.ledger.metrics.ended(call.server)
        if call.cause is Cause.DRAIN:
            # An answer costs more than a notice: all backends are told first, then the clients.
            with trio.move_on_after(TELL_FIRST_S):
                await self.calls.idle()
        return outcome

    async def _run(self, errand: Errand, call: Call, outlet: Outlet, session: Session | None, realm: str) -> Outcome:
        key = errand.target.backend
        backend = self.fleet.get(key)
        if backend is None:
            gone = BackendGone(backend=key, executed=Executed.NO, why="it is not configured any more")
            return failure(errand.message.id_raw, gone, key)
        try:
            if session is None and errand.method in translate.INTERIM:
                if "requestState" in errand.message.params:
                    return await self._retried(errand, call, outlet, backend, realm)
                if self._may_be_asked(errand, backend):
                    return await self._parked(errand, call, outlet, backend, realm)
            return await self._direct(errand, call, outlet, session, backend)
        except GatewayError as error:
            return self._failed(errand, error, key)

    async def _direct(
        self, errand: Errand, call: Call, outlet: Outlet, session: Session | None, backend: Backend
    ) -> Outcome:
        timeouts = backend.spec.timeouts
        if errand.awaits_task:  # it blocks for as long as the task runs
            timeouts = attrs.evolve(timeouts, call_s=timeouts.max_s)
        clock = CallClock(scope=call.scope, timeouts=timeouts)
        ear = Ear(errand=errand, backend=backend, outlet=outlet, clock=clock, session=session)
        try:
            outcome = await self._carried(errand, call, backend, ear)
        except GatewayError as error:
            outcome = self._failed(errand, error, backend.key)
        finally:
            ear.close()
            self.ledger.placed(clock, backend.key)
        if call.cause is not Cause.DRAIN:  # then backends are told first, and every stream ends
            await ear.take_back()
        return outcome

    async def _carried(self, errand: Errand, call: Call, backend: Backend, ear: Ear) -> Outcome:
        with call.scope, backend.call_scope() as removal:
            ear.clock.start()
            backend.check_open()
            return await self.relay.run(errand, backend, ear)
        if removal.cancelled_caught:
            call.cause = Cause.REMOVED
        if call.cause is Cause.DRAIN:
            # All calls end in one instant: first every one of them leaves its backend, then the books are kept.
            await trio.lowlevel.cancel_shielded_checkpoint()
        return self._ended(errand, call, ear.clock, backend)

    def _failed(self, errand: Errand, error: GatewayError, key: BackendKey) -> Outcome:
        self.ledger.failed(error, key)
        return failure(errand.message.id_raw, error, key)

    def _ended(self, errand: Errand, call: Call, clock: CallClock, backend: Backend) -> Outcome:
        """The outcome of a call that was cut short while its own request waited for it."""
        error = why_ended(call, clock, backend.key)
        self.ledger.failed(error, backend.key)
        self.ledger.cut(call, error, closes=backend.hears_closing(errand.caller))
        return failure(errand.message.id_raw, error, backend.key)

    def _may_be_asked(self, errand: Errand, backend: Backend) -> bool:
        return any(name in errand.capabilities for name in ASKABLE) and not backend.era_for(errand.caller).modern

    async def _retried(self, errand: Errand, call: Call, outlet: Outlet, backend: Backend, realm: str) -> Outcome:
        """Go on with a parked call. A state that is not ours is for a 2026 backend to judge; no other may run the
        call for it: the call it once belonged to may be running still.
        """
        parked = self._resumed(errand, outlet, realm)
        if parked is not None:
            return await self._parked(errand, call, outlet, parked.backend, realm, parked)
        if backend.era_for(errand.caller).modern:
            return await self._direct(errand, call, outlet, None, backend)
        code, text = STATE_REFUSED
        return Outcome(status=200, body=jsonrpc.render_error(errand.message.id_raw, code, text), label="refused")

    async def _parked(
        self,
        errand: Errand,
        call: Call,
        outlet: Outlet,
        backend: Backend,
        realm: str,
        parked: ParkedCall | None = None,
    ) -> Outcome:
        """Begin, or go on with, a call that its backend may interrupt with questions, and wait with the client."""
        clock = CallClock(scope=call.scope, timeouts=backend.spec.timeouts)
        result: Outcome | GatewayError | None = None
        settled = False
        try:
            with call.scope:
                clock.start()
                if parked is None:
                    backend.check_open()
                    parked = await self._begun(errand, outlet, backend)
                else:
                    await parked.answer(splice.value_at(errand.message.raw, ("params", "inputResponses")) or b"{}")
                call.scope.deadline = math.inf  # from here on the parked call's own clock counts
                result = await parked.settled()
                settled = True
        finally:
            if parked is not None and not settled:
                self.parking.forget(parked)
                parked.call.cancel(call.cause or Cause.DISCONNECT)
        if parked is None:
            return self._ended(errand, call, clock, backend)
        if not settled:  # the call itself notes how it ended
            return failure(errand.message.id_raw, why_ended(call, parked.clock, backend.key), backend.key)
        return self._told(parked, result, errand, realm)

    def _resumed(self, errand: Errand, outlet: Outlet, realm: str) -> ParkedCall | None:
        """The call that the client comes back to; None when it must not."""
        params = errand.message.params
        if not isinstance(params.get("inputResponses", {}), dict):
            return None
        parked = self.parking.open(params.get("requestState"), realm, binding_of(errand))
        if parked is not None:
            parked.attach(errand, outlet)
        return parked

    async def _begun(self, errand: Errand, outlet: Outlet, backend: Backend) -> ParkedCall:
        """Open the call's link while its client waits, then start it."""
        if not backend.pipe:  # a process for each call would cost too much
            errand = attrs.evolve(errand, caller=backend.bays.take(errand.caller))
        started = False
        try:
            await backend.link_for(errand.caller)
            parked = self._park(errand, outlet, backend)
            started = True
            return parked
        finally:
            if not started:
                backend.bays.leave(errand.caller)

    def _park(self, errand: Errand, outlet: Outlet, backend: Backend) -> ParkedCall:
        """Start the call's task in the upstream session's nursery, where it may outlive this request."""
        own = Call(method=errand.method, scope=trio.CancelScope())
        clock = CallClock(scope=own.scope, timeouts=backend.spec.timeouts)
        parked = ParkedCall(
            park_id=new_park_id(),
            errand=errand,
            backend=backend,
            relay=self.relay,
            clock=clock,
            call=own,
            ear=Ear(errand=errand, backend=backend, outlet=outlet, clock=clock, session=None),
            binding=binding_of(errand),
            ledger=self.ledger,
        )
        self.parking.admit(parked)
        try:
            backend.start_in_session(errand.caller, f"parked:{errand.method}", partial(self.parking.carry, parked))
        except GatewayError:
            self.parking.forget(parked)
            raise
        return parked

    def _told(self, parked: ParkedCall, result: Outcome | GatewayError | None, errand: Errand, realm: str) -> Outcome:
        """What the waiting request is answered: the outcome, or the questions and a state to come back with."""
        id_raw = errand.message.id_raw
        if result is None:
            parked.detach()
            interim = self.relay.stamped(parked.input_required(self.parking.seal(parked, realm)))
            return Outcome(status=200, body=jsonrpc.render_result(id_raw, interim), label="input_required")
        self.parking.forget(parked)
        return failure(id_raw, result, parked.backend.key) if isinstance(result, GatewayError) else result
