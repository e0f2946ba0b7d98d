"""Requests to the gateway, ended at each of their awaits: nothing of them is left, anywhere.

Every scenario runs once per await of its request's task; at that await the task is
cancelled, its client leaves, or all calls are cancelled, by the client or by the drain.
"""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import attrs
import orjson
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear, Inbound
from mcp_gateway.config.spec import Timeouts
from mcp_gateway.gateway.call.deadline import Cause
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era
from mcp_gateway.values import JsonObject, JsonValue
from tests.support.cancel_at import cancelled_at, done_at
from tests.support.scripted_gateway import (
    RecordedReply,
    ScriptedGateway,
    Session,
    message,
    modern_request,
    scripted_gateway,
)
from tests.support.scripted_link import Handler, ScriptedBackend, ScriptedLink, notice

TIMEOUTS = Timeouts(call_s=20, input_s=20, max_s=60, list_s=5)
SETTLED_S = 100.0
"""Longer than anything may live on."""
CAPABLE: JsonObject = {"roots": {}, "elicitation": {}}
BOTH = {"Accept": "application/json, text/event-stream"}


def asked(request_id: JsonValue) -> Inbound:
    raw = b'{"jsonrpc":"2.0","id":%b,"method":"roots/list","params":{}}' % orjson.dumps(request_id)
    return Inbound(method="roots/list", params={}, raw=raw, id_raw=orjson.dumps(request_id))


async def tool(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    """Speak, ask for the roots in the way of the era, and answer."""
    meta = params.get("_meta")
    token = meta.get("progressToken") if isinstance(meta, dict) else None
    await hear(notice("notifications/progress", progressToken=token, progress=1))
    await hear(notice("notifications/message", level="error", data="x"))
    await trio.sleep(1)
    if not params["arguments"]:
        return {"content": []}
    if link.era.modern:
        if "inputResponses" in params:
            return {"resultType": "complete", "content": []}
        return {"resultType": "input_required", "inputRequests": {"k": {"method": "roots/list"}}, "requestState": "s"}
    said = len(link.said)
    await hear(asked(1))
    while len(link.said) == said:  # noqa: ASYNC110  # the clock is virtual
        await trio.sleep(0.5)
    return {"content": []}


async def resources(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    return {"resources": [{"uri": "memo://one", "name": "one"}], "resultType": "complete", "ttlMs": 0}


def backend(era: Era) -> ScriptedBackend:
    capabilities: JsonObject = {"tools": {"listChanged": True}, "resources": {"subscribe": True}, "logging": {}}
    handlers: dict[str, Handler] = {"tools/call": tool, "resources/list": resources}
    return ScriptedBackend(era=era, capabilities=capabilities, handlers=handlers)


def left(where: ScriptedGateway) -> dict[str, object]:
    """Everything that a request may leave behind."""
    gateway, core = where.gateway, where.gateway.context
    (running,) = (seat.current for seat in where.fleet._seats.values())
    assert running.reach.sessions is not None
    upstreams = [entry.upstream for entry in running.reach.sessions._entries.values() if entry.upstream is not None]
    return {
        "calls": len(gateway.calls.in_flight),
        "calls of sessions": sum(len(session.calls) for session in core.sessions),
        "questions": sum(len(session.questions) for session in core.sessions),
        "streams": gateway.streams,
        "parked": len(gateway.calls.suspended),
        "sessions": len(core.sessions),
        "owners": len(core.addresses),
        "audiences": len(core.hub._audiences),
        "subscribers": len(core.hub._held),
        "subscribed": (len(running.subscriptions.uris), len(running.subscriptions._kept)),
        "in flight": (running.in_flight, running.queued, len(running._running.calls)),
        "users": [upstream.users for upstream in upstreams],
        "upstream": (running.sessions, running.links),
        "exchanges": sum(link.in_flight for link in _connector(where).open_links) - _listening(where),
        "old clients": len(gateway.dispatch.sse.streams),
        "tasks": trio.lowlevel.current_statistics().tasks_living,
    }


def _connector(where: ScriptedGateway) -> ScriptedBackend:
    (seat,) = where.fleet._seats.values()
    connector = seat.current._connector
    assert isinstance(connector, ScriptedBackend)
    return connector


def _listening(where: ScriptedGateway) -> int:
    """The gateway's own listen stream at a modern backend."""
    return sum(link.in_flight for link in _connector(where).open_links if link.stream is not None)


@attrs.define(eq=False)
class Scene:
    """One gateway, one client of each kind, and the request that is ended."""

    where: ScriptedGateway
    session: Session
    reply: RecordedReply = attrs.field(factory=RecordedReply)

    async def post(self, method: str, params: JsonObject, reply: RecordedReply) -> None:
        """One request of the 2025 client."""
        body = message(method, params, "r")
        await self.where.send("POST", headers=self.session.headers(), body=body, reply=reply)

    async def modern(self, method: str, params: JsonObject, reply: RecordedReply, capable: bool = False) -> None:
        """One request of the 2026 client."""
        capabilities: JsonObject = CAPABLE if capable else {}
        headers, body = modern_request(method, params, capabilities=capabilities, level="info", token="t", id="m")
        await self.where.send("POST", headers=headers, body=body, reply=reply)

    def meanwhile(self, act: Callable[[], Awaitable[object]]) -> None:
        """Something that happens beside the request."""

        async def run() -> None:
            with trio.move_on_after(30):
                await act()

        self.where.nursery.start_soon(run)

    async def answer_questions(self) -> None:
        """The client answers what it is asked on the request's own stream."""
        reply = self.reply
        await reply.until(lambda: any("id" in one and "method" in one for one in reply.messages))
        for one in reply.messages:
            if "id" in one and "method" in one:
                await self.session.respond(one["id"], result={"roots": []})

    def leave_after(self, after_s: float) -> None:
        async def leave() -> None:
            await trio.sleep(after_s)
            self.reply.leave()

        self.meanwhile(leave)


Play: TypeAlias = Callable[[Scene], Awaitable[None]]


async def call_2025(scene: Scene) -> None:
    scene.meanwhile(scene.answer_questions)
    params: JsonObject = {"name": "read", "arguments": {"ask": True}, "_meta": {"progressToken": "t"}}
    await scene.post("tools/call", params, scene.reply)


async def call_2026(scene: Scene) -> None:
    await scene.modern("tools/call", {"name": "read", "arguments": {}}, scene.reply)


async def parked_2026(scene: Scene) -> None:
    await scene.modern("tools/call", {"name": "read", "arguments": {"ask": True}}, scene.reply, capable=True)


async def resumed_2026(scene: Scene) -> None:
    params: JsonObject = {"name": "read", "arguments": {"ask": True}}
    first = RecordedReply()
    await scene.modern("tools/call", params, first, capable=True)
    if first.closed and "result" in first.answer:
        state = first.result.get("requestState")
        answers: JsonObject = {"inputResponses": {"k1": {"roots": []}, "k": {"roots": []}}, "requestState": state}
        await scene.modern("tools/call", params | answers, scene.reply, capable=True)


async def subscription_2025(scene: Scene) -> None:
    await scene.post("resources/subscribe", {"uri": "memo://one"}, scene.reply)
    await scene.post("resources/unsubscribe", {"uri": "memo://one"}, RecordedReply())


async def listen_2026(scene: Scene) -> None:
    scene.leave_after(20)
    wanted: JsonObject = {"toolsListChanged": True, "resourceSubscriptions": ["memo://one"]}
    await scene.modern("subscriptions/listen", {"notifications": wanted}, scene.reply)


async def get_stream(scene: Scene) -> None:
    (live, *_) = (one for one in scene.where.gateway.context.sessions)
    live.mailbox.post(message("notifications/message", {"level": "info", "data": 1}))
    scene.leave_after(20)
    await scene.where.send("GET", headers=scene.session.headers(), reply=scene.reply)


async def resumed_call(scene: Scene) -> None:
    """The first connection of a call breaks; the client takes up its stream again."""
    first = RecordedReply()
    params: JsonObject = {"name": "read", "arguments": {}, "_meta": {"progressToken": "t"}}

    async def break_off() -> None:
        await first.until(lambda: len(first.events) > 1)
        first.leave()

    scene.meanwhile(break_off)
    scene.meanwhile(lambda: scene.post("tools/call", params, first))
    await first.until(lambda: len(first.events) > 1 or first.closed)
    if not first.events:
        return
    headers = scene.session.headers(Last_Event_ID=str(first.events[0].event_id))
    await scene.where.send("GET", headers=headers, reply=scene.reply)


async def batch(scene: Scene) -> None:
    session = await scene.where.session("2025-03-26", roots={})
    params: JsonObject = {"name": "read", "arguments": {}}
    body = b"[%b,%b]" % (message("tools/call", params, 1), message("tools/call", params, 2))
    await scene.where.send("POST", headers=session.headers(), body=body, reply=scene.reply)
    await session.end()


async def http_sse(scene: Scene) -> None:
    reply = scene.reply

    async def old_client() -> None:
        await reply.until(lambda: reply.events)
        path, _, query = reply.events[0].data.decode().partition("?")
        hello: JsonObject = {"protocolVersion": "2024-11-05", "capabilities": {"roots": {}}}
        call: JsonObject = {"name": "read", "arguments": {"ask": True}}
        subscribe: JsonObject = {"uri": "memo://one"}
        posts = {"initialize": hello, "tools/call": call, "resources/subscribe": subscribe}
        for number, (method, params) in enumerate(posts.items()):
            await scene.where.send("POST", path=path, query=query, body=message(method, params, number))
        await trio.sleep(10)
        reply.leave()

    scene.meanwhile(old_client)
    await scene.where.send("GET", path="/sse", reply=reply)


async def handshake(scene: Scene) -> None:
    """From ``initialize`` to DELETE."""
    session = await scene.where.session(roots={})
    await session.call("read")
    await session.end()


PLAYS: list[tuple[Play, Era]] = [
    *((play, era) for play in (call_2025, call_2026) for era in (V2025_11_25, V2026_07_28)),
    *(
        (play, V2025_11_25)
        for play in (parked_2026, resumed_2026, get_stream, resumed_call, batch, http_sse, handshake)
    ),
    *((play, era) for play in (subscription_2025, listen_2026) for era in (V2025_11_25, V2026_07_28)),
]
NAMED = [pytest.param(play, era, id=f"{play.__name__} at {era.version}") for play, era in PLAYS]


async def run_once(play: Play, era: Era, step: int, how: str) -> bool:
    """One scene, ended at one await; whether it got that far."""
    async with scripted_gateway(backend(era), timeouts=TIMEOUTS) as where:
        session = await where.session(roots={})
        scene = Scene(where, session)
        # Links that may stay are opened before: one for each caller.
        quiet: JsonObject = {"name": "read", "arguments": {}}
        await scene.post("tools/call", quiet, RecordedReply())
        await scene.modern("tools/call", quiet, RecordedReply())
        await scene.modern("tools/call", quiet, RecordedReply(), capable=True)
        await trio.sleep(5)
        before, own = left(where), {one.key for one in where.gateway.context.sessions}

        async def run() -> None:
            await play(scene)

        if how == "cancel":
            reached = await cancelled_at(step, run)
        else:
            reached = await done_at(step, run, lambda: end(scene, how))
        await trio.sleep(SETTLED_S)
        # What a request has made for its session stays with the session.
        await session.ask("resources/unsubscribe", {"uri": "memo://one"})
        for other in [one for one in where.gateway.context.sessions if one.key not in own]:
            await where.gateway.context.sessions.end(other, Cause.SESSION)
        await trio.sleep(5)
        assert left(where) == before, f"at step {step}"
        assert (await session.ask("ping")).result == {}
        return reached


def end(scene: Scene, how: str) -> None:
    """The client leaves, or every call is cancelled."""
    if how == "leave":
        scene.reply.leave()
    else:
        scene.where.gateway.calls.cut_all(Cause[how.upper()])


@pytest.mark.parametrize("how", ["cancel", "leave", "message", "drain"])
@pytest.mark.parametrize("play, era", NAMED)
async def test_a_request_that_ends_early_leaves_nothing(
    autojump_clock: MockClock, play: Play, era: Era, how: str
) -> None:
    step = 1
    while await run_once(play, era, step, how):
        step += 1
    assert step > 3
