"""Small pieces that the rules about messages share.

Owns the shapes of answers that several rules look at. Deliberately judges nothing. Invariant: no state is kept here.
"""

import pytest

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era
from mcp_gateway.values import JsonObject, JsonValue
from tests.support.raw_client import Message
from tests.support.scripted_gateway import RecordedReply
from tests.support.scripted_link import Handler, ScriptedBackend, ScriptedLink

CALL = "tools/call"
EVERYTHING: JsonObject = {
    "tools": {"listChanged": True},
    "prompts": {"listChanged": True},
    "resources": {"subscribe": True, "listChanged": True},
    "completions": {},
    "logging": {},
}
BACKENDS = [pytest.param(V2025_11_25, id="2025 backend"), pytest.param(V2026_07_28, id="2026 backend")]


def fixed(**result: JsonValue) -> Handler:
    async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        return dict(result)

    return handle


def complete(era: Era, **handlers: Handler) -> ScriptedBackend:
    """A backend with one of everything; more handlers by method, "/" written as "__"."""
    kind: JsonObject = {"resultType": "complete"} if era.modern else {}
    hints: JsonObject = kind | ({"ttlMs": 5000, "cacheScope": "public"} if era.modern else {})
    own = {
        "prompts/list": fixed(**hints, prompts=[{"name": "ask"}]),
        "prompts/get": fixed(**kind, messages=[]),
        "resources/list": fixed(**hints, resources=[{"uri": "memo://one", "name": "one"}]),
        "resources/templates/list": fixed(**hints, resourceTemplates=[{"uriTemplate": "memo://{x}/d", "name": "t"}]),
        "resources/read": fixed(**hints, contents=[{"uri": "memo://one", "text": "x"}]),
        "completion/complete": fixed(**kind, completion={"values": ["a"]}),
        "logging/setLevel": fixed(),
    }
    more = {name.replace("__", "/"): handler for name, handler in handlers.items()}
    return ScriptedBackend(era=era, capabilities=EVERYTHING, ttl_ms=5000, handlers=own | more)


def error_of(reply: RecordedReply) -> Message:
    error: Message = reply.error
    return error


def result_of(reply: RecordedReply) -> Message:
    result: Message = reply.result
    return result


COMMON: dict[str, JsonObject] = {
    "tools/list": {},
    CALL: {"name": "read"},
    "prompts/list": {},
    "prompts/get": {"name": "ask"},
    "resources/list": {},
    "resources/templates/list": {},
    "resources/read": {"uri": "memo://one"},
    "completion/complete": {"ref": {"type": "ref/prompt", "name": "ask"}, "argument": {"name": "a", "value": ""}},
}
