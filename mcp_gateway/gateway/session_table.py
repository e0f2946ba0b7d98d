"""The 2025 client sessions that live in this process.

Owns minting, finding and forgetting them. Deliberately trusts nothing but the
signature: a session that left memory (idle, restart) comes back from its id.
Invariants: at most ``limits.sessions`` in memory; a session with a call or a
stream is never evicted; whatever is wrong with an id looks the same (404).
"""

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

import attrs
import trio

from mcp_gateway.auth.principal import Principal
from mcp_gateway.backends.transports.base import ClientIdentity
from mcp_gateway.cell import Cell
from mcp_gateway.config.spec import GatewayLimits, SessionsSpec
from mcp_gateway.errors import Overload
from mcp_gateway.gateway.address_book import Address
from mcp_gateway.gateway.call.deadline import Cause
from mcp_gateway.gateway.replay import Replay, ReplayBudget
from mcp_gateway.gateway.session import Session
from mcp_gateway.protocol import json_text
from mcp_gateway.protocol.capabilities import known, object_of
from mcp_gateway.protocol.envelope import ANONYMOUS_INFO
from mcp_gateway.protocol.eras import ERAS, Era
from mcp_gateway.sessions.base import SessionStore
from mcp_gateway.sessions.signed import NONCE_BYTES, SessionId, Signer
from mcp_gateway.values import GatewayName, JsonObject

LEEWAY_S: Final = 60
"""How far clocks of replicas may be apart (docs/configuration.md)."""
REAP_EVERY_S: Final = 5.0
VERIFIED: Final = 4096
"""Session ids whose MAC need not be computed again."""


@attrs.define(eq=False, kw_only=True)
class SessionTable:
    """Sessions by key; the least recently used first."""

    signer: Cell[Signer]
    spec: SessionsSpec
    limits: GatewayLimits
    store: SessionStore
    owner: str = ""
    """The process that ids made here name; "" for none."""
    wall_clock: Callable[[], float]
    opened: Callable[[Session], None]
    ended: Callable[[Session], None]
    """Told of each session that enters and leaves memory."""
    _live: OrderedDict[str, Session] = attrs.field(factory=OrderedDict)
    _verified: OrderedDict[tuple[str, str], SessionId] = attrs.field(factory=OrderedDict)
    _budget: ReplayBudget = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._budget = ReplayBudget(total_bytes=self.limits.replay_total_bytes)

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._live.values()))

    def follow(self, spec: SessionsSpec, limits: GatewayLimits) -> None:
        """Take over new settings; what a session may keep for a resume follows at its next event."""
        self.spec, self.limits = spec, limits
        self._budget.total_bytes = limits.replay_total_bytes
        for session in self._live.values():
            session.replay.session_bytes, session.replay.age_s = limits.replay_bytes, limits.replay_age_s

    def mint(
        self,
        *,
        era: Era,
        realm: str,
        gateway: GatewayName,
        view: str,
        principal: Principal,
        identity: ClientIdentity,
        capabilities: JsonObject,
    ) -> tuple[str, Session]:
        """Begin a session; return its id and itself.

        Raises:
            Overload: ``limits.sessions`` sessions are busy.
        """
        session_id = SessionId(
            nonce=secrets.token_bytes(NONCE_BYTES),
            version=era.version,
            capabilities=known(capabilities),
            principal=principal.digest,
            gateway=realm,
            issued_unix_s=int(self.wall_clock()),
            owner=self.owner,
        )
        session = self._session(session_id, gateway, view, principal, identity, capabilities)
        self._admit(session)
        return session_id.encode(self.signer.value), session

    def find(self, text: str, *, realm: str, principal: Principal) -> Session | SessionId | None:
        """The session in memory that an id stands for, or its id alone, if it is good: see ``revive``; None: neither.

        Nothing is said of why: unknown, foreign, ended and too old ids look the same.
        """
        session_id = self._verify(text, realm)
        if session_id is None or session_id.principal != principal.digest or session_id.owner != self.owner:
            return None
        age_s = self.wall_clock() - session_id.issued_unix_s
        if not -LEEWAY_S <= age_s <= self.spec.lifetime_s + LEEWAY_S or session_id.version not in ERAS:
            return None
        session = self._live.get(session_id.key)
        if session is None:
            return session_id
        self._live.move_to_end(session_id.key)
        session.touch()
        return session

    async def revive(
        self, session_id: SessionId, *, gateway: GatewayName, view: str, principal: Principal
    ) -> Session | None:
        """The session of a good id that is not in memory; None: its client has ended it.

        Raises:
            Overload: ``limits.sessions`` sessions are busy.
        """
        if await self.store.ended(session_id.key):
            return None
        # Two requests may have waited for the store: the first made the session.
        session = self._live.get(session_id.key) or self._made_anew(session_id, gateway, view, principal)
        session.touch()
        return session

    async def end(self, session: Session, cause: Cause) -> None:
        """End a session for good: its id is refused from now on."""
        session.over = True
        try:
            await self.store.end(session.key, self.wall_clock() + self.spec.lifetime_s + LEEWAY_S)
        finally:
            self._drop(session, cause)

    async def reap(self) -> None:
        """Let idle sessions, and events that are too old to be resumed, leave memory, until cancelled."""
        while True:
            await trio.sleep(REAP_EVERY_S)
            horizon = trio.current_time() - self.spec.idle_s
            for session in list(self._live.values()):
                if session.used_at < horizon and not session.busy:
                    self._drop(session, Cause.SESSION)
                elif session.replay.used_bytes:
                    session.replay.trim()  # what one keeps too long, all others lack

    def _made_anew(self, session_id: SessionId, gateway: GatewayName, view: str, principal: Principal) -> Session:
        capabilities = object_of(session_id.capabilities)
        identity = ClientIdentity(
            capabilities=json_text.dumps(capabilities), info=ANONYMOUS_INFO, version=session_id.version
        )
        session = self._session(session_id, gateway, view, principal, identity, capabilities)
        self._admit(session)
        return session

    def _session(
        self,
        session_id: SessionId,
        gateway: GatewayName,
        view: str,
        principal: Principal,
        identity: ClientIdentity,
        capabilities: JsonObject,
    ) -> Session:
        limits = self.limits
        return Session(
            key=session_id.key,
            era=ERAS[session_id.version],
            realm=session_id.gateway,
            gateway=gateway,
            view=view,
            principal=principal,
            identity=identity,
            capabilities=capabilities,
            replay=Replay(
                budget=self._budget,
                session_bytes=limits.replay_bytes,
                age_s=limits.replay_age_s,
                owner=session_id.owner,
            ),
            address=Address(session_id.owner, f"session:{session_id.key}"),
        )

    def _admit(self, session: Session) -> None:
        self._live[session.key] = session
        self.opened(session)
        while len(self._live) > self.limits.sessions:
            idle = next((other for other in self._live.values() if not other.busy and other is not session), None)
            if idle is None:
                self._drop(session, Cause.SESSION)
                raise Overload(bound="limits.sessions", limit=self.limits.sessions)
            self._drop(idle, Cause.SESSION)

    def _drop(self, session: Session, cause: Cause) -> None:
        if self._live.pop(session.key, None) is not None:
            session.end(cause)
            self.ended(session)

    def forget_keys(self) -> None:
        """The signing keys changed: what was verified with old ones is verified anew."""
        self._verified.clear()

    def _verify(self, text: str, realm: str) -> SessionId | None:
        known = self._verified.get((realm, text))
        if known is not None:
            return known
        session_id = SessionId.decode(self.signer.value, realm, text)
        if session_id is not None:
            self._verified[realm, text] = session_id
            if len(self._verified) > VERIFIED:
                self._verified.popitem(last=False)
        return session_id
