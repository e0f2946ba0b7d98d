"""``subscriptions/listen``: the one long stream of a 2026 client.

Owns the acknowledgement, the notices in the modern wording and a proper end.
Deliberately decides nothing about changes (``hub``). Invariant: only what was
asked for and acknowledged is sent, each message with the subscription id.

Spec: MCP 2026-07-28 basic/patterns/subscriptions.
"""

import logging
from typing import Final

import attrs
import trio

from mcp_gateway.backends.caller import Caller
from mcp_gateway.errors import GatewayError
from mcp_gateway.gateway.call.request import Asked
from mcp_gateway.gateway.call.response import JSON_HEAD
from mcp_gateway.gateway.context import Context
from mcp_gateway.gateway.faces.event_stream import EventStream, Messages, pump
from mcp_gateway.gateway.hub import Audience
from mcp_gateway.gateway.mailbox import Mailbox
from mcp_gateway.gateway.place import Place
from mcp_gateway.gateway.session import CHANGED_METHOD
from mcp_gateway.protocol import json_text, jsonrpc, splice
from mcp_gateway.protocol.envelope import META_SERVER_INFO, META_SUBSCRIPTION
from mcp_gateway.protocol.splice import Edits
from mcp_gateway.protocol.wire_errors import INVALID_PARAMS
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.routing.table import Target
from mcp_gateway.values import BackendKey, JsonObject, JsonValue

logger = logging.getLogger(__name__)

MAX_URIS: Final = 1000
"""Resource subscriptions of one stream; more are not acknowledged."""
_KINDS: Final = {
    "toolsListChanged": (Kind.TOOLS,),
    "promptsListChanged": (Kind.PROMPTS,),
    "resourcesListChanged": (Kind.RESOURCES, Kind.TEMPLATES),
}


@attrs.frozen
class ModernWording:
    """Notices with the subscription they belong to."""

    subscription: bytes
    """The listen request's id, raw."""

    def changed(self, kind: Kind) -> bytes:
        """See ``mailbox.Wording``."""
        return jsonrpc.render_notification(CHANGED_METHOD[kind], self.marked(b"{}"))

    def updated(self, uri: str) -> bytes:
        """See ``mailbox.Wording``."""
        params = self.marked(json_text.dumps({"uri": uri}))
        return jsonrpc.render_notification("notifications/resources/updated", params)

    def marked(self, params: bytes) -> bytes:
        """The params with ``_meta`` naming the subscription."""
        return splice.rewrite(params, {"_meta": {META_SUBSCRIPTION: self.subscription}})


@attrs.define(eq=False, kw_only=True)
class Listening:
    """The open listen streams."""

    context: Context
    streams: set[Mailbox] = attrs.field(factory=set)
    """What is told on them."""

    def close_all(self) -> None:
        """The gateway drains: every stream ends in the proper way."""
        for mailbox in self.streams:
            mailbox.close()


@attrs.define(eq=False, kw_only=True)
class ListenStream(EventStream):
    """One of them, until its client closes it or the gateway drains."""

    listening: Listening
    asked: Asked
    context: Context

    async def hold(self, scope: trio.CancelScope) -> None:
        """See ``EventStream``."""
        message, place = self.asked.message, self.asked.place
        wanted = message.params.get("notifications")
        if not isinstance(wanted, dict):
            text = "params.notifications must be an object"
            await self.reply.whole(200, JSON_HEAD, jsonrpc.render_error(message.id_raw, INVALID_PARAMS, text))
            return
        wording = ModernWording(message.id_raw)
        mailbox = Mailbox(wording)
        kinds = frozenset(kind for name, found in _KINDS.items() if wanted.get(name) is True for kind in found)
        audience = Audience(view=(place.gateway, place.virtual), mailbox=mailbox, kinds=kinds)
        self.listening.streams.add(mailbox)
        try:
            self.context.hub.join(audience)
            uris = await self._subscribe(mailbox, place, wanted.get("resourceSubscriptions"))
            await self.reply.open(200, ())
            await self.reply.event(acknowledgement(wording, wanted, uris))
            if await pump(self.reply, Messages(mailbox), self.context.spec.value.http.keep_alive_s):
                await self._end(wording)
        finally:
            self.listening.streams.discard(mailbox)
            self.context.hub.leave(audience)

    async def _subscribe(self, mailbox: Mailbox, place: Place, uris: JsonValue) -> list[JsonValue]:
        """Subscribe what can be; what cannot, or not in time, is left out of the acknowledgement."""
        caller = self.asked.client.caller
        wanted: dict[str, Target] = {}
        for uri in uris[:MAX_URIS] if isinstance(uris, list) else ():
            target = place.view.resolve_uri(uri) if isinstance(uri, str) else None
            if target is not None and not place.view.lacks(target.backend, "resources.subscribe"):
                wanted[target.federated] = target
        honoured: set[str] = set()
        async with trio.open_nursery() as nursery:  # a slow backend costs only its own resources
            for key in {target.backend for target in wanted.values()}:
                targets = [target for target in wanted.values() if target.backend == key]
                nursery.start_soon(self._subscribe_at, mailbox, caller, key, targets, honoured)
        return [uri for uri in wanted if uri in honoured]

    async def _subscribe_at(
        self, mailbox: Mailbox, caller: Caller, key: BackendKey, targets: list[Target], honoured: set[str]
    ) -> None:
        """The resources of one backend, all within its ``timeouts.list``."""
        with trio.move_on_after(self.context.calls.timeouts(key).list_s):
            done = [target for target in targets if await self._subscribed(mailbox, caller, target)]
            # Who has the acknowledgement may change a resource at once and expects to be told.
            for target in done:
                await self.context.hub.in_force(mailbox, target)
                honoured.add(target.federated)
        for target in targets:
            if target.federated not in honoured:
                self.context.hub.unsubscribe(mailbox, target)

    async def _subscribed(self, mailbox: Mailbox, caller: Caller, target: Target) -> bool:
        try:
            await self.context.hub.subscribe(mailbox, caller, target)
        except GatewayError as refused:
            logger.debug("not subscribed", extra={"backend": target.backend, "why": str(refused)})
            return False
        return True

    async def _end(self, wording: ModernWording) -> None:
        """The subscriptions page wants the result, the cancellation page the notice: both are sent."""
        id_raw = wording.subscription
        notice = splice.rewrite(b'{"reason":"gateway is shutting down"}', {"requestId": id_raw})
        await self.reply.event(jsonrpc.render_notification("notifications/cancelled", wording.marked(notice)))
        meta: Edits = {META_SUBSCRIPTION: id_raw, META_SERVER_INFO: self.context.own.server_info}
        result = splice.rewrite(b'{"resultType":"complete"}', {"_meta": meta})
        await self.reply.event(jsonrpc.render_result(id_raw, result))


def acknowledgement(wording: ModernWording, wanted: JsonObject, uris: list[JsonValue]) -> bytes:
    """The first message of a stream: what is honoured of what was asked."""
    honoured: JsonObject = {name: True for name in _KINDS if wanted.get(name) is True}
    if "resourceSubscriptions" in wanted:
        honoured["resourceSubscriptions"] = uris
    params = wording.marked(json_text.dumps({"notifications": honoured}))
    return jsonrpc.render_notification("notifications/subscriptions/acknowledged", params)
