"""Which upstream sessions are taken by a call that its backend may interrupt with questions.

Owns the numbers of the bays in use, per kind of caller. Deliberately opens no session
(``upstream_sessions``) and suspends no call. Invariant: while a call
has its bay no other call that may be asked runs in that upstream session, so whatever
the backend asks there, on whichever stream, is asked for this call.
"""

from itertools import count

import attrs

from mcp_gateway.backends.caller import Caller, SessionKey


@attrs.define(eq=False)
class Bays:
    """The bays of one backend; an empty one is used again before another is opened.

    The first of each kind is the session that the kind shares for all else, subscriptions included: a server that
    tells only the session whose call changed something tells the subscriber.
    """

    _taken: dict[SessionKey, set[int]] = attrs.field(factory=dict)

    def take(self, caller: Caller) -> Caller:
        """The caller in a bay of its own. Pair with ``leave``."""
        taken = self._taken.setdefault(caller.key.alike, set())
        number = next(number for number in count() if number not in taken)
        taken.add(number)
        return attrs.evolve(caller, bay=number)

    def leave(self, caller: Caller) -> None:
        """The call has ended; nothing for a caller that has no bay."""
        kind = caller.key.alike
        taken = self._taken.get(kind, set())
        taken.discard(caller.bay)
        if not taken:
            self._taken.pop(kind, None)
