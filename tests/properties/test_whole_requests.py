"""Whole HTTP requests, one after the other, to a gateway without sockets: one answer each, and never a bug.

An example is a gateway and eight requests, 60 ms of work, so there are a twentieth of the examples.
"""

import orjson
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28
from mcp_gateway.values import JsonObject, JsonValue
from tests.support.json_bytes import Dice, stammer
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, ScriptedLink, notice, question

REQUESTS = 8
META = "io.modelcontextprotocol/"
METHODS = (
    "tools/call",
    "initialize",
    "notifications/cancelled",
    "notifications/initialized",
    "notifications/progress",
    "tools/list",
    "prompts/get",
    "resources/read",
    "resources/subscribe",
    "completion/complete",
    "logging/setLevel",
    "subscriptions/listen",
    "server/discover",
    "ping",
    "x",
)
MEANT: tuple[JsonValue, ...] = (
    "read",
    "o_read",
    "n_read",
    "test://r",
    "2026-07-28",
    "2025-11-25",
    "debug",
    {},
    1,
    {"type": "ref/prompt", "name": "p"},
    {"toolsListChanged": True, "resourceSubscriptions": ["test://r", 1]},
    {"elicitation": {}, "roots": {}, "tasks": {}},
)
VERBS = (*("POST",) * 9, "GET", "DELETE", "PUT")
PATHS = (*("/mcp",) * 9, "/sse", "/messages", "/mcp/vs/", "/mcp/vs/x")


async def talkative(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    """A tool that says and asks something first."""
    await hear(notice("notifications/progress", progress=1, progressToken="x"))
    await hear(question("roots/list"))
    return {"content": [{"type": "resource_link", "uri": "test://r"}], "resultType": "complete"}


def value_for(plan: Dice) -> JsonValue:
    return plan.value() if plan.below(4) == 3 else MEANT[plan.below(len(MEANT))]


def body_of(plan: Dice) -> bytes:
    """A message with each part right, wrong or absent."""
    if plan.below(16) == 15:
        return plan.take(plan.below(20))
    params: JsonObject = {
        key: value_for(plan)
        for key in ("name", "uri", "ref", "level", "arguments", "requestId", "capabilities", "notifications", "cursor")
        if plan.below(3) < 2
    }
    for key in ("protocolVersion", "requestState", "inputResponses"):
        if plan.below(6) == 5:
            params[key] = value_for(plan)
    if plan.below(2):
        members = ("protocolVersion", "clientCapabilities", "clientInfo", "logLevel")
        meta: JsonObject = {META + key: value_for(plan) for key in members if plan.below(6) == 5}
        whole: JsonObject = {META + "protocolVersion": "2026-07-28", META + "clientCapabilities": {"roots": {}}}
        params["_meta"] = {
            **(whole if plan.below(4) < 3 else {}),
            **meta,
            **({"progressToken": plan.scalar()} if plan.below(4) == 3 else {}),
        }
    message: JsonObject = {"jsonrpc": "2.0", "method": METHODS[plan.below(len(METHODS))], "params": params}
    if plan.below(6) < 5:
        message["id"] = value_for(plan) if plan.below(6) == 5 else plan.below(4)
    if plan.below(8) == 7:
        message = {"jsonrpc": "2.0", "id": value_for(plan), "result": value_for(plan)}
    raw = stammer(message, plan)
    return b"[%b,%b]" % (raw, raw) if plan.below(12) == 11 else raw


def headers_of(plan: Dice, session_id: str, body: bytes) -> dict[str, str]:
    """What fits the body, or does not."""
    accepts = ("application/json, text/event-stream", "application/json", "text/event-stream", "x")
    made = {"Accept": accepts[max(plan.below(8) - 4, 0)]}
    if plan.below(4) < 3:
        made["Mcp-Session-Id"] = session_id if plan.below(6) < 5 else session_id[: plan.byte()]
    if b"2026-07-28" in body and plan.below(8) < 7:
        found = orjson.loads(body) if body.lstrip()[:1] == b"{" and b"\\ud" not in body else {}
        params = found.get("params") or {}
        made |= {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": str(found.get("method"))}
        if isinstance(params, dict) and isinstance(params.get("name"), str) and params["name"].isascii():
            made["Mcp-Name"] = params["name"]
    elif plan.below(4) == 3:
        made["MCP-Protocol-Version"] = "2025-11-25"
    return made


async def one_after_the_other(where: ScriptedGateway, plan: Dice) -> None:
    session = await where.session("2025-03-26" if plan.below(2) else "2025-11-25", roots={}, elicitation={})
    for _ in range(REQUESTS):
        where.gateway.context.draining = plan.below(12) == 11
        try:
            body = body_of(plan)
            headers = headers_of(plan, session.id, body)
        except orjson.JSONDecodeError:
            continue
        reply = RecordedReply()
        with trio.move_on_after(0.2) as patience:
            async with trio.open_nursery() as nursery:
                await where.send(
                    VERBS[plan.below(len(VERBS))],
                    headers={key: value for key, value in headers.items() if "\n" not in value},
                    body=body,
                    path=PATHS[plan.below(len(PATHS))],
                    query=f"sessionId={session.id}" if plan.below(2) else plan.text(),
                    reply=reply,
                )
                nursery.cancel_scope.cancel("answered")
        # What has no end yet is a stream, or a call whose question nobody has answered.
        assert reply.status or patience.cancelled_caught
        assert reply.status != 500


@settings(max_examples=settings().max_examples // 20)
@given(plan=st.binary(min_size=256, max_size=512).map(Dice))
def test_every_request_has_one_answer_and_none_is_a_bug(plan: Dice) -> None:
    async def main() -> None:
        backend = ScriptedBackend(era=V2026_07_28 if plan.below(2) else V2025_11_25, handlers={"tools/call": talkative})
        async with scripted_gateway(backend, prefixes={"files": "o_" if plan.below(2) else ""}) as where:
            await one_after_the_other(where, plan)

    trio.run(main, clock=MockClock(autojump_threshold=0))
