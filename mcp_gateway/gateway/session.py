"""One 2025 client session, as far as it lives in this process.

Owns what a signed session id cannot carry: calls in flight, questions to the
client, log level, replay. Deliberately opens nothing upstream.
Invariant: only requests that present this session's id reach this object
(docs/invariants.md, 4).
"""

import hashlib
from collections.abc import Mapping
from typing import Final, Protocol

import attrs
import trio

from mcp_gateway.auth.principal import ANONYMOUS, Principal
from mcp_gateway.backends.caller import Caller
from mcp_gateway.backends.fleet import SessionShown
from mcp_gateway.backends.transports.base import ClientIdentity
from mcp_gateway.gateway.address_book import Address, InputResponses, Message
from mcp_gateway.gateway.call.deadline import Cause
from mcp_gateway.gateway.mailbox import Mailbox
from mcp_gateway.gateway.replay import Replay
from mcp_gateway.gateway.server_requests import ServerRequests
from mcp_gateway.protocol import json_text, jsonrpc
from mcp_gateway.protocol.capabilities import granted
from mcp_gateway.protocol.eras import Era, Family
from mcp_gateway.protocol.methods import level_at_least
from mcp_gateway.routing.listing_views import Entry
from mcp_gateway.routing.parts import entries_of
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.routing.table import View
from mcp_gateway.sessions.task_ids import TaskOwner, session_digest
from mcp_gateway.values import BackendKey, GatewayName, JsonObject, RequestId

CHANGED_METHOD: Final = {
    Kind.TOOLS: "notifications/tools/list_changed",
    Kind.PROMPTS: "notifications/prompts/list_changed",
    Kind.RESOURCES: "notifications/resources/list_changed",
    Kind.TEMPLATES: "notifications/resources/list_changed",
}


class LegacyWording:
    """Notices as 2025 clients know them."""

    def changed(self, kind: Kind) -> bytes:
        """See ``mailbox.Wording``."""
        return jsonrpc.render_notification(CHANGED_METHOD[kind], None)

    def updated(self, uri: str) -> bytes:
        """See ``mailbox.Wording``."""
        return jsonrpc.render_notification("notifications/resources/updated", json_text.dumps({"uri": uri}))


class Request(Protocol):
    """A request that is being served."""

    def cut(self, cause: Cause) -> None:
        """End it; later causes change nothing."""
        ...


@attrs.define(eq=False, kw_only=True)
class Session:
    """The live part of one client session."""

    key: str
    """The id's random part: what upstream sessions are keyed by; never the id itself."""
    era: Era
    realm: str
    """What the id is bound to."""
    gateway: GatewayName
    address: Address
    """Where what its client sends beside its requests is delivered."""
    principal: Principal
    identity: ClientIdentity
    capabilities: JsonObject
    replay: Replay = attrs.field(repr=False)
    view: str = ""
    """The virtual server the session was opened on; "" for none."""
    log_level: str | None = None
    seen: dict[Kind, bytes] = attrs.field(factory=dict, repr=False)
    """Fingerprint of the list of each kind that the client knows or was told to fetch."""
    calls: dict[RequestId, Request] = attrs.field(factory=dict, repr=False)
    streams: list[trio.CancelScope] = attrs.field(factory=list, repr=False)
    """Open GET streams, resumed calls' included."""
    listeners: int = 0
    """Those on which the mailbox is sent, so that the client can be told things outside its calls."""
    questions: ServerRequests = attrs.field(factory=ServerRequests, repr=False)
    mailbox: Mailbox = attrs.field(factory=lambda: Mailbox(LegacyWording()), repr=False)
    backends: set[str] = attrs.field(factory=set, repr=False)
    """Keys of the backends that hold an upstream session for this one."""
    shown: Mapping[BackendKey, SessionShown] = attrs.field(factory=dict, repr=False)
    """What servers list to this session besides."""
    used_at: float = attrs.field(factory=trio.current_time)
    ended: bool = False
    over: bool = False
    """Its client has ended it: it cannot come back."""
    session: "Session" = attrs.field(init=False, repr=False)
    """Itself; see ``call.client``."""
    caller: Caller = attrs.field(init=False)
    """Whose upstream sessions it uses."""
    owner: TaskOwner = attrs.field(init=False)
    """Whose its tasks are: nothing but its session tells an anonymous client from others."""
    tag: str = attrs.field(init=False)
    """What logs call this session: a hash, which leads nobody to its id."""
    _granted: frozenset[str] = attrs.field(init=False, repr=False)
    _seen: tuple[View, Mapping[BackendKey, SessionShown], View] | None = attrs.field(
        init=False, default=None, repr=False
    )
    """Which view was extended by what, and the outcome."""

    def __attrs_post_init__(self) -> None:
        self.tag = hashlib.blake2s(self.key.encode(), digest_size=6).hexdigest()
        self.session = self
        anonymous = self.principal.digest == ANONYMOUS.digest
        self.owner = TaskOwner(
            realm=self.realm,
            family=Family.LEGACY,
            principal=self.principal.digest,
            session=session_digest(self.key) if anonymous else "",
        )
        self.introduce(self.era, self.identity, self.capabilities)

    def introduce(self, era: Era, identity: ClientIdentity, capabilities: JsonObject) -> None:
        """The client says who it is and what it can do; over HTTP+SSE that comes after the session has begun."""
        self.era, self.identity, self.capabilities = era, identity, capabilities
        self.caller = Caller(session=self.key, principal=self.principal, identity=identity)
        self._granted = granted(capabilities)

    def knows(self, view: View) -> None:
        """The client has yet to ask for its lists: it need not be told of what was before."""
        self.seen.update({kind: view.fingerprint(kind) for kind in Kind})

    def sees(self, view: View) -> View:
        """What this client is shown of a view."""
        seen = view.seen_by(self._granted)
        if not self.shown:
            return seen
        if self._seen is None or self._seen[0] is not seen or self._seen[1] is not self.shown:
            own: dict[Kind, list[Entry]] = {kind: [] for kind in Kind}
            for one in self.shown.values():
                for kind, entries in entries_of(one.backend.spec, one.lists).items():
                    own[kind] += entries
            self._seen = (seen, self.shown, seen.with_own(own))
        return self._seen[2]

    def wants_log(self, level: object) -> bool:
        """Whether the client is to be told a log message of this level; one that has named none is told all."""
        return self.log_level is None or level_at_least(str(level), self.log_level)

    @property
    def busy(self) -> bool:
        """A session with a call or an open stream never leaves memory."""
        return bool(self.calls or self.streams)

    async def receive(self, message: Message) -> bool:
        """Take an answer, progress on the way to it, or a cancellation; False: of nothing that is here."""
        if isinstance(message, jsonrpc.RpcResponse):
            return await self.questions.deliver(message)
        if isinstance(message, InputResponses):
            return False
        if message.method == "notifications/progress":
            return await self.questions.progress(message)
        request_id = message.params.get("requestId")
        if isinstance(request_id, bool) or not isinstance(request_id, str | int):
            return False
        # "The initialize request MUST NOT be cancelled by clients" -- it is in no session's calls.
        request = self.calls.get(request_id)
        if request is not None:
            request.cut(Cause.MESSAGE)
        return request is not None

    def touch(self) -> None:
        """It was used just now."""
        self.used_at = trio.current_time()

    def end(self, cause: Cause) -> None:
        """End everything that belongs to this session in this process."""
        self.ended = True
        for call in list(self.calls.values()):
            call.cut(cause)
        self.mailbox.close()
        for stream in list(self.streams):
            stream.cancel(reason=cause.value)
        self.replay.clear()
