"""The requests that are sent to a server directly and through the gateway, as data.

Owns what is asked in each era, good and bad, whatever carries it. Deliberately knows no server but by its ``Things``,
and judges nothing. Invariant: a step says the same on both ways, byte for byte.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import attrs

Json: TypeAlias = dict[str, Any]

LEGACY: Final = "2025-11-25"
MODERN: Final = "2026-07-28"
BOTH: Final = "application/json, text/event-stream"
META: Final = "io.modelcontextprotocol/"
CAPABILITIES: Final[Json] = {"sampling": {}, "elicitation": {}, "roots": {"listChanged": True}}
"""Declared, so that lists are whole; nothing in these steps lets a server ask."""
WITHOUT_ROOTS: Final[Json] = {"sampling": {}, "elicitation": {}}
"""server-everything asks for the roots of each new session, which interrupts a call of a 2026 client."""
CLIENT: Final[Json] = {"name": "raw-client", "version": "1"}
NAMED: Final[Mapping[str, str]] = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
}


@attrs.frozen(kw_only=True)
class Step:
    """One request. What carries messages only (a pipe) is given steps with a ``message`` alone."""

    label: str
    message: object = None
    """The body, as JSON."""
    verb: str = "POST"
    body: bytes | None = None
    """The body where it is no JSON, or not this one."""
    headers: Mapping[str, str | None] = {}
    """Instead of the usual ones; None leaves one out."""
    plain: bool = True
    """Whether the message alone says everything."""

    @property
    def raw(self) -> bytes:
        if self.body is not None:
            return self.body
        return b"" if self.message is None else json.dumps(self.message).encode()


@attrs.frozen(kw_only=True)
class Things:
    """What one server has, as the steps need it."""

    calls: Mapping[str, tuple[str, Json]]
    """By label: a tool and its arguments."""
    slow: tuple[str, Json]
    """A tool that reports progress."""
    prompts: Mapping[str, Json]
    """By label: params of prompts/get."""
    resources: Mapping[str, str]
    """By label: a URI to read."""
    completions: Mapping[str, Json]
    """By label: params of completion/complete."""


def request(method: str, id: object = 7, **params: object) -> Json:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def hello(version: str = LEGACY, capabilities: Json = CAPABILITIES) -> Json:
    return request("initialize", 1, protocolVersion=version, capabilities=capabilities, clientInfo=CLIENT)


def features(things: Things) -> list[tuple[str, Json]]:
    """What servers are for, as label and request; the same in both eras."""
    found = [
        *((kind, request(kind)) for kind in ("tools/list", "prompts/list", "resources/list")),
        ("resources/templates/list", request("resources/templates/list")),
        ("tools/list, a cursor of nobody", request("tools/list", cursor="nobody's")),
        *(
            (f"call {label}", request("tools/call", name=name, arguments=what))
            for label, (name, what) in things.calls.items()
        ),
        ("call an unknown tool", request("tools/call", name="no-such-tool", arguments={})),
        ("call without a name", request("tools/call", arguments={})),
        ("call without arguments", request("tools/call", name=next(iter(things.calls.values()))[0])),
        *((f"get {label}", request("prompts/get", **params)) for label, params in things.prompts.items()),
        ("get an unknown prompt", request("prompts/get", name="no-such-prompt")),
        *((f"read {label}", request("resources/read", uri=uri)) for label, uri in things.resources.items()),
        ("read an unknown resource", request("resources/read", uri="nobody://has/this")),
        ("read no URI", request("resources/read", uri="no uri")),
        *(
            (f"complete {label}", request("completion/complete", **params))
            for label, params in things.completions.items()
        ),
        ("an unknown method", request("no/such/method")),
        ("ids are strings too", request("tools/list", "eleven")),
    ]
    return found


def legacy_messages(things: Things) -> list[Step]:
    """Within a session of 2025-11-25."""
    name, arguments = things.slow
    uri = next(iter(things.resources.values()))
    progress = {"_meta": {"progressToken": "mine"}}
    asked = [
        ("ping", request("ping")),
        *features(things),
        ("call with progress", request("tools/call", name=name, arguments=arguments, **progress)),
        ("logging/setLevel", request("logging/setLevel", level="error")),
        ("logging/setLevel, no level", request("logging/setLevel", level="loud")),
        ("resources/subscribe", request("resources/subscribe", uri=uri)),
        ("resources/unsubscribe", request("resources/unsubscribe", uri=uri)),
        ("server/discover", request("server/discover")),
        ("tasks/list", request("tasks/list")),
        ("subscriptions/listen", request("subscriptions/listen", notifications={})),
    ]
    steps = [Step(label=label, message=message) for label, message in asked]
    told = {
        "an unknown notification": {"jsonrpc": "2.0", "method": "notifications/nothing"},
        "roots have changed": {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
        "a cancellation of nothing": {
            "jsonrpc": "2.0",
            "method": "notifications/cancelled",
            "params": {"requestId": 4711},
        },
        "an answer to nothing": {"jsonrpc": "2.0", "id": 4711, "result": {}},
    }
    return [*steps, *(Step(label=label, message=message, plain=False) for label, message in told.items())]


def legacy_http() -> list[Step]:
    """What HTTP adds to a session of 2025; the last ones end it."""
    ping = request("ping")
    wrong: Sequence[Step] = (
        Step(label="no JSON", body=b"{no json"),
        Step(label="an empty body", body=b""),
        Step(label="a batch", message=[ping, request("tools/list", 8)]),
        Step(label="an empty batch", message=[]),
        Step(label="a string", message="ping"),
        Step(label="no jsonrpc", message={"id": 7, "method": "ping"}),
        Step(label="id null", message={"jsonrpc": "2.0", "id": None, "method": "ping"}),
        Step(label="id a fraction", message={"jsonrpc": "2.0", "id": 1.5, "method": "ping"}),
        Step(label="params a list", message={"jsonrpc": "2.0", "id": 7, "method": "ping", "params": []}),
        Step(label="text/plain", message=ping, headers={"Content-Type": "text/plain"}),
        Step(label="no Accept", message=ping, headers={"Accept": None}),
        Step(label="Accept any", message=ping, headers={"Accept": "*/*"}),
        Step(label="Accept JSON alone", message=ping, headers={"Accept": "application/json"}),
        Step(label="Accept streams alone", message=ping, headers={"Accept": "text/event-stream"}),
        Step(label="no version header", message=ping, headers={"MCP-Protocol-Version": None}),
        Step(label="another version header", message=ping, headers={"MCP-Protocol-Version": "2025-06-18"}),
        Step(label="a version of nobody", message=ping, headers={"MCP-Protocol-Version": "1999-01-01"}),
        Step(label="no session", message=ping, headers={"Mcp-Session-Id": None}),
        Step(label="a session of nobody", message=ping, headers={"Mcp-Session-Id": "nobody's"}),
        Step(label="initialize again", message=hello()),
        Step(label="PUT", verb="PUT", message=ping),
        Step(label="GET", verb="GET", headers={"Accept": "text/event-stream"}),
        Step(label="GET without Accept", verb="GET", headers={"Accept": None}),
        Step(
            label="GET without a session", verb="GET", headers={"Accept": "text/event-stream", "Mcp-Session-Id": None}
        ),
        Step(
            label="GET of another's session", verb="GET", headers={"Accept": "text/event-stream", "Mcp-Session-Id": "x"}
        ),
        Step(label="DELETE without a session", verb="DELETE", headers={"Mcp-Session-Id": None}),
        Step(label="DELETE another's session", verb="DELETE", headers={"Mcp-Session-Id": "nobody's"}),
        Step(label="DELETE", verb="DELETE"),
        Step(label="after DELETE", message=ping),
        Step(label="GET after DELETE", verb="GET", headers={"Accept": "text/event-stream"}),
        Step(label="DELETE again", verb="DELETE"),
    )
    return list(wrong)


def handshakes() -> list[Step]:
    """Each opens a session of its own."""
    versions = (LEGACY, "2025-06-18", "2025-03-26", "2024-11-05", "1999-01-01", MODERN)
    steps = [Step(label=f"initialize {version}", message=hello(version)) for version in versions]
    bad = hello()
    del bad["params"]["protocolVersion"]
    return [*steps, Step(label="initialize without a version", message=bad)]


def modern_request(method: str, meta: Json | None = None, **params: object) -> Json:
    own = {f"{META}protocolVersion": MODERN, f"{META}clientInfo": CLIENT, f"{META}clientCapabilities": CAPABILITIES}
    return request(method, **params, _meta={**own, **(meta or {})})


def modern_headers(message: Json) -> dict[str, str]:
    """What a 2026 request repeats in its head."""
    method, params = message["method"], message["params"]
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
    if method in NAMED and NAMED[method] in params:
        headers["Mcp-Name"] = str(params[NAMED[method]])
    return headers


def modern_messages(things: Things, capabilities: Json = CAPABILITIES) -> list[Step]:
    """Requests of 2026-07-28, each whole in itself."""
    declared = {f"{META}clientCapabilities": capabilities}
    name, arguments = things.slow
    asked: list[tuple[str, Json]] = [
        ("server/discover", modern_request("server/discover")),
        *(
            (label, modern_request(message["method"], **message["params"]) | {"id": message["id"]})
            for label, message in features(things)
        ),
        (
            "call with progress",
            modern_request("tools/call", {"progressToken": "mine"}, name=name, arguments=arguments),
        ),
        ("ping", modern_request("ping")),
        ("logging/setLevel", modern_request("logging/setLevel", level="error")),
        ("resources/subscribe", modern_request("resources/subscribe", uri=next(iter(things.resources.values())))),
        ("initialize", modern_request("initialize")),
        ("tasks/get", modern_request("tasks/get", taskId="nobody's")),
    ]
    for _, message in asked:
        message["params"]["_meta"] |= declared
    return [Step(label=label, message=message, headers=modern_headers(message)) for label, message in asked]


def modern_http(things: Things) -> list[Step]:
    """Requests of 2026-07-28 that are wrong, or no requests."""
    good = modern_request("tools/list")
    usual = modern_headers(good)
    name, arguments = next(iter(things.calls.values()))
    call = modern_request("tools/call", name=name, arguments=arguments)
    bare = request("tools/list")
    old = modern_request("tools/list", {f"{META}protocolVersion": "1999-01-01"})
    partly = modern_request("tools/list")
    del partly["params"]["_meta"][f"{META}clientCapabilities"]
    return [
        Step(label="no Mcp-Method", message=good, headers={**usual, "Mcp-Method": None}),
        Step(label="another Mcp-Method", message=good, headers={**usual, "Mcp-Method": "prompts/list"}),
        Step(label="no Mcp-Name", message=call, headers={**modern_headers(call), "Mcp-Name": None}),
        Step(label="another Mcp-Name", message=call, headers={**modern_headers(call), "Mcp-Name": "another"}),
        Step(label="no version header", message=good, headers={**usual, "MCP-Protocol-Version": None}),
        Step(label="another version header", message=good, headers={**usual, "MCP-Protocol-Version": LEGACY}),
        Step(label="a version of nobody", message=old, headers={**usual, "MCP-Protocol-Version": "1999-01-01"}),
        Step(label="no _meta", message=bare, headers=usual),
        Step(label="no capabilities", message=partly, headers=usual),
        Step(label="no JSON", body=b"{no json", headers=usual),
        Step(label="a batch", message=[good], headers=usual),
        Step(label="no Accept", message=good, headers={**usual, "Accept": None}),
        Step(label="Accept JSON alone", message=good, headers={**usual, "Accept": "application/json"}),
        Step(label="text/plain", message=good, headers={**usual, "Content-Type": "text/plain"}),
        Step(label="a session of nobody", message=good, headers={**usual, "Mcp-Session-Id": "nobody's"}),
        Step(label="GET", verb="GET", headers={"Accept": "text/event-stream", "MCP-Protocol-Version": MODERN}),
        Step(label="DELETE", verb="DELETE", headers={"MCP-Protocol-Version": MODERN}),
    ]
