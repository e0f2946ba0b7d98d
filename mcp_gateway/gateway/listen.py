"""``subscriptions/listen``: the one long stream of a 2026 client.

Owns the acknowledgement, the notices in the modern wording and a proper end.
Deliberately decides nothing about changes (``hub``). Invariant: only what was
asked for and acknowledged is sent, each message with the subscription id.

Spec: MCP 2026-07-28 basic/patterns/subscriptions; reference 1.8.
"""

import logging
from typing import Final

import attrs
import trio

from mcp_gateway.backends.backend import Caller
from mcp_gateway.errors import GatewayError
from mcp_gateway.gateway.core import Core, Place
from mcp_gateway.gateway.entrance import Watched
from mcp_gateway.gateway.hub import Audience
from mcp_gateway.gateway.mailbox import Mailbox
from mcp_gateway.gateway.outlet import JSON_HEAD
from mcp_gateway.gateway.session import CHANGED_METHOD
from mcp_gateway.protocol import json_text, jsonrpc, splice
from mcp_gateway.protocol.envelope import META_SERVER_INFO, META_SUBSCRIPTION, ModernCall
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
    """Serves listen streams."""

    core: Core
    streams: set[trio.CancelScope] = attrs.field(factory=set)
    _mailboxes: set[Mailbox] = attrs.field(factory=set)

    async def serve(self, reply: Watched, place: Place, modern: ModernCall, caller: Caller) -> None:
        """Hold one stream open until the client closes it or the gateway drains."""
        wanted = modern.message.params.get("notifications")
        if not isinstance(wanted, dict):
            text = "params.notifications must be an object"
            body = jsonrpc.render_error(modern.message.id_raw, INVALID_PARAMS, text)
            await reply.whole(200, JSON_HEAD, body)
            return
        wording = ModernWording(modern.message.id_raw)
        mailbox = Mailbox(wording)
        kinds = frozenset(kind for name, found in _KINDS.items() if wanted.get(name) is True for kind in found)
        audience = Audience(view=(place.gateway, place.virtual), mailbox=mailbox, kinds=kinds)
        with trio.CancelScope() as scope:
            reply.on_gone(lambda: scope.cancel(reason="client left"))
            self.streams.add(scope)
            self._mailboxes.add(mailbox)
            try:
                self.core.hub.join(audience)
                uris = await self._subscribe(mailbox, caller, place, wanted.get("resourceSubscriptions"))
                await reply.open(200, ())
                await reply.event(acknowledgement(wording, wanted, uris))
                await self._pump(reply, mailbox)
                await self._end(reply, wording, modern)
            finally:
                self.streams.discard(scope)
                self._mailboxes.discard(mailbox)
                self.core.hub.leave(audience)

    def close_all(self) -> None:
        """The gateway drains: every stream ends in the proper way."""
        for mailbox in self._mailboxes:
            mailbox.close()

    async def _subscribe(self, mailbox: Mailbox, caller: Caller, place: Place, uris: JsonValue) -> list[JsonValue]:
        """Subscribe what can be; what cannot, or not in time, is left out of the acknowledgement."""
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
        with trio.move_on_after(self.core.runner.timeouts(key).list_s):
            done = [target for target in targets if await self._subscribed(mailbox, caller, target)]
            # Who has the acknowledgement may change a resource at once and expects to be told.
            for target in done:
                await self.core.hub.in_force(mailbox, target)
                honoured.add(target.federated)
        for target in targets:
            if target.federated not in honoured:
                self.core.hub.unsubscribe(mailbox, target)

    async def _subscribed(self, mailbox: Mailbox, caller: Caller, target: Target) -> bool:
        try:
            await self.core.hub.subscribe(mailbox, caller, target)
        except GatewayError as refused:
            logger.debug("not subscribed", extra={"backend": target.backend, "why": str(refused)})
            return False
        return True

    async def _pump(self, reply: Watched, mailbox: Mailbox) -> None:
        keep_alive_s = self.core.spec.value.http.keep_alive_s
        while not mailbox.closed:
            message = mailbox.take()
            if message is not None:
                await reply.event(message)
                continue
            with trio.move_on_after(keep_alive_s) as quiet:
                await mailbox.wait()
            if quiet.cancelled_caught:
                await reply.comment()

    async def _end(self, reply: Watched, wording: ModernWording, modern: ModernCall) -> None:
        """The subscriptions page wants the result, the cancellation page the notice: both are sent."""
        id_raw = modern.message.id_raw
        notice = splice.rewrite(b'{"reason":"gateway is shutting down"}', {"requestId": id_raw})
        await reply.event(jsonrpc.render_notification("notifications/cancelled", wording.marked(notice)))
        meta: Edits = {META_SUBSCRIPTION: id_raw, META_SERVER_INFO: self.core.own.server_info}
        result = splice.rewrite(b'{"resultType":"complete"}', {"_meta": meta})
        await reply.event(jsonrpc.render_result(id_raw, result))
        await reply.close()


def acknowledgement(wording: ModernWording, wanted: JsonObject, uris: list[JsonValue]) -> bytes:
    """The first message of a stream: what is honoured of what was asked."""
    honoured: JsonObject = {name: True for name in _KINDS if wanted.get(name) is True}
    if "resourceSubscriptions" in wanted:
        honoured["resourceSubscriptions"] = uris
    params = wording.marked(json_text.dumps({"notifications": honoured}))
    return jsonrpc.render_notification("notifications/subscriptions/acknowledged", params)
