"""The JSON that the scripted backends answer with.

Owns tools and results as dictionaries. Deliberately standard library only (see ``journal``) and no transport.
Invariant: the same number of tools gives the same bytes.
"""

LEGACY = "2025-11-25"
MODERN = "2026-07-28"
META = "io.modelcontextprotocol/"

HANG = "hang"
"""Never answers; its argument ``n`` is the call's number in the journal."""
FAST = "fast"
"""Answers about 500 bytes at once."""
WAIT = "wait"
"""Answers the same after 20 ms."""
LARGE = "large"
"""Answers a text of 1 MiB."""
STREAM = "stream"
"""Tells of its progress 19 times before its result, as server-sent events of one response."""

WAIT_S = 0.020
EVENTS = 20
_NAMES = (HANG, FAST, WAIT, LARGE, STREAM)

Json = dict[str, object]


def tools(count: int) -> list[Json]:
    """The scripted tools, and as many more as make ``count``."""
    names = [*_NAMES, *(f"tool_{number:04}" for number in range(len(_NAMES), count))][:count]
    return [_tool(name) for name in names]


def _tool(name: str) -> Json:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "q": {"type": "string"}}}
    return {
        "name": name,
        "title": name.title(),
        "description": f"The tool {name} of a benchmark.",
        "inputSchema": schema,
    }


def text_result(size: int) -> Json:
    """A tool's result with a text of so many bytes."""
    return {"content": [{"type": "text", "text": ("lorem ipsum " * (size // 12 + 1))[:size]}], "isError": False}


def progress(token: object, step: int) -> Json:
    """One of the 19."""
    params = {"progressToken": token, "progress": step, "total": EVENTS - 1, "message": "a step of a computation"}
    return {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}


def initialize_result() -> Json:
    """What a backend of 2025 says of itself."""
    return {"protocolVersion": LEGACY, "capabilities": {"tools": {}}, "serverInfo": {"name": "bench", "version": "1"}}


def modern(result: Json, *, cacheable: bool = False) -> Json:
    """A result as 2026-07-28 wants it."""
    hints: Json = {"ttlMs": 600_000, "cacheScope": "public"} if cacheable else {}
    return {
        "resultType": "complete",
        **result,
        **hints,
        "_meta": {META + "serverInfo": {"name": "bench", "version": "1"}},
    }


def discover_result() -> Json:
    """What a backend of 2026 says of itself."""
    return modern({"supportedVersions": [MODERN], "capabilities": {"tools": {}}}, cacheable=True)
