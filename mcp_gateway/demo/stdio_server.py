"""A small MCP server on standard input and output: the time, and dice.

Owns the 2025 protocol on a pipe, as far as tools need it. Deliberately uses the
standard library only and handles one message after the other.
Invariant: one line out for each request in; nothing else on standard output.
Run: ``python -m mcp_gateway.demo.stdio_server``
"""

import json
import random
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import IO, Final, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

JsonObject: TypeAlias = dict[str, object]

VERSIONS: Final = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
MAX_DICE: Final = 100

TOOLS: Final[tuple[JsonObject, ...]] = (
    {
        "name": "now",
        "description": "Tell the date and time.",
        "inputSchema": {
            "type": "object",
            "properties": {"timezone": {"type": "string", "description": "such as Europe/Berlin; UTC if absent"}},
        },
    },
    {
        "name": "roll_dice",
        "description": "Roll dice and tell each result.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "sides": {"type": "integer", "minimum": 2, "maximum": 1000, "default": 6},
                "count": {"type": "integer", "minimum": 1, "maximum": MAX_DICE, "default": 1},
            },
        },
    },
)


class BadArguments(Exception):
    """The arguments cannot be used; the text is for the model."""


def now(arguments: Mapping[str, object]) -> str:
    """The time as ISO 8601."""
    name = arguments.get("timezone", "UTC")
    try:
        return datetime.now(ZoneInfo(str(name))).isoformat(timespec="seconds")
    except (ZoneInfoNotFoundError, ValueError, OSError):  # ValueError: a path; OSError: a folder of zones
        raise BadArguments(f"there is no timezone {str(name)[:100]!r}") from None


def roll_dice(arguments: Mapping[str, object]) -> str:
    """Each die's result, and the sum if there are several."""
    sides, count = arguments.get("sides", 6), arguments.get("count", 1)
    if not isinstance(sides, int) or not isinstance(count, int):
        raise BadArguments("sides and count must be whole numbers")
    if not 2 <= sides <= 1000 or not 1 <= count <= MAX_DICE:
        raise BadArguments(f"sides must be 2 to 1000, count 1 to {MAX_DICE}")
    dice = [random.randint(1, sides) for _ in range(count)]
    return " + ".join(map(str, dice)) + (f" = {sum(dice)}" if count > 1 else "")


RUN: Final[Mapping[str, Callable[[Mapping[str, object]], str]]] = {"now": now, "roll_dice": roll_dice}


def call(params: Mapping[str, object]) -> tuple[str, JsonObject]:
    """The result of ``tools/call``, or an error: ("result" | "error", value)."""
    run, arguments = RUN.get(str(params.get("name"))), params.get("arguments", {})
    if run is None or not isinstance(arguments, dict):
        return "error", {"code": -32602, "message": "unknown tool" if run is None else "arguments must be an object"}
    try:
        text, failed = run(arguments), False
    except BadArguments as bad:
        text, failed = str(bad), True
    return "result", {"content": [{"type": "text", "text": text}], "isError": failed}


def answer(message: object) -> JsonObject | None:
    """The response to one message; None for notifications and responses."""
    if not isinstance(message, dict) or not isinstance(message.get("method"), str):
        return None
    if "id" not in message:
        return None
    params = message.get("params")
    params = params if isinstance(params, dict) else {}
    kind, value = "result", JsonObject()
    match message["method"]:
        case "initialize":
            asked = params.get("protocolVersion")
            value = {
                "protocolVersion": asked if asked in VERSIONS else VERSIONS[0],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "clock", "version": "1.0.0"},
            }
        case "ping":
            pass
        case "tools/list":
            value = {"tools": list(TOOLS)}
        case "tools/call":
            kind, value = call(params)
        case method:
            kind, value = "error", {"code": -32601, "message": f"method {method[:100]} not found"}
    return {"jsonrpc": "2.0", "id": message["id"], kind: value}


def serve(lines: IO[bytes], out: IO[bytes]) -> None:
    """Answer until the input ends."""
    for line in lines:
        if not line.strip():
            continue
        response: JsonObject | None
        try:
            response = answer(json.loads(line))
        except (ValueError, RecursionError):
            response = {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "not JSON"}}
        if response is not None:
            out.write(json.dumps(response).encode() + b"\n")
            out.flush()


def main() -> None:
    """Serve standard input and output until one of them ends."""
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    except (KeyboardInterrupt, BrokenPipeError):
        sys.stderr.close()  # nobody reads any more; say nothing on the way out


if __name__ == "__main__":
    main()
