"""What a person sees in a terminal: tables and lines made of JSON values.

Owns layout, and the removal of control characters: what a server says must not
steer the terminal. Deliberately asks nobody and prints nothing.
Invariant: every string that came from outside passes ``plain``.
"""

import json
import re
from collections.abc import Iterable
from typing import Final

from rich.table import Table
from rich.text import Text

from mcp_gateway.config.spec import GatewaySpec, HttpTarget
from mcp_gateway.values import JsonObject, JsonValue

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_STATE_STYLES: Final = {
    "ready": "green",
    "connecting": "yellow",
    "starting": "yellow",
    "degraded": "yellow",
    "down": "red",
    "disabled": "dim",
}


def plain(value: JsonValue) -> str:
    """Text without control characters; ``None`` is empty, everything else its JSON."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def tools_table(tools: Iterable[JsonObject]) -> Table:
    """Name, arguments and description of each tool; a required argument has a star."""
    table = _table("TOOL", "ARGUMENTS", "DESCRIPTION")
    for tool in tools:
        description = plain(tool.get("description")).strip().partition("\n")[0]
        table.add_row(Text(plain(tool.get("name")), style="cyan"), Text(_arguments(tool)), Text(description))
    return table


def _arguments(tool: JsonObject) -> str:
    schema = tool.get("inputSchema")
    if not isinstance(schema, dict):
        return ""
    properties, required = schema.get("properties"), schema.get("required")
    names = properties if isinstance(properties, dict) else {}
    stars = required if isinstance(required, list) else []
    return " ".join(f"{plain(name)}{'*' if name in stars else ''}" for name in names)


def result_lines(result: JsonObject) -> list[str]:
    """A tool's result for people: its texts; of other content its kind and size; else its structured content."""
    content = result.get("content")
    lines = [_content_line(item) for item in content if isinstance(item, dict)] if isinstance(content, list) else []
    structured = result.get("structuredContent")
    if not lines and structured is not None:
        lines.append(plain(json.dumps(structured, indent=2, ensure_ascii=False)))
    return lines


def _content_line(item: JsonObject) -> str:
    match item.get("type"):
        case "text":
            return plain(item.get("text"))
        case "image" | "audio" as kind:
            data = item.get("data")
            size = len(data) * 3 // 4 if isinstance(data, str) else 0
            return f"[{kind} {plain(item.get('mimeType'))}, {size} bytes]"
        case "resource_link":
            return f"[link {plain(item.get('uri'))}]"
        case "resource":
            resource = item.get("resource")
            inner = resource if isinstance(resource, dict) else {}
            return plain(inner["text"]) if "text" in inner else f"[resource {plain(inner.get('uri'))}]"
        case kind:
            return f"[{plain(kind)}]"


def status_table(status: JsonObject) -> Table:
    """One line per server of ``/status``; what is missing stays empty."""
    table = _table("SERVER", "STATE", "PROTOCOL", "TOOLS", "PROMPTS", "RESOURCES", "LAST ERROR")
    servers = status.get("servers")
    for entry in servers if isinstance(servers, list) else []:
        if not isinstance(entry, dict):
            continue
        state, counts = plain(entry.get("state")), entry.get("counts")
        numbers = counts if isinstance(counts, dict) else {}
        error = entry.get("last_error") or (entry.get("stderr") if state == "starting" else None)
        table.add_row(
            Text(plain(entry.get("name")), style="cyan"),
            Text(state, style=_STATE_STYLES.get(state, "")),
            Text(plain(entry.get("protocol"))),
            *(Text(plain(numbers.get(kind))) for kind in ("tools", "prompts", "resources")),
            Text(plain(error.get("message") if isinstance(error, dict) else error)),
        )
    return table


def status_notes(status: JsonObject) -> list[str]:
    """What a person should know beside the table: not ready, a refused configuration, a restart to be done."""
    notes = [] if status.get("ready", True) else [f"not ready: {plain(status.get('why'))}"]
    configuration = status.get("configuration")
    if isinstance(configuration, dict):
        if configuration.get("error"):
            notes.append(f"the configuration file is refused:\n{plain(configuration['error'])}")
        waiting = configuration.get("restart_needed")
        if isinstance(waiting, list) and waiting:
            notes.append(f"waiting for a restart: {', '.join(plain(setting) for setting in waiting)}")
        ignored = configuration.get("notes")
        notes.extend(plain(note) for note in (ignored if isinstance(ignored, list) else ()))
    return notes


def spec_table(spec: GatewaySpec) -> Table:
    """The servers of a configuration: name, prefix, where. Queries are left out: they may hold a key."""
    table = _table("SERVER", "PREFIX", "TARGET")
    for server in spec.servers:
        target = server.target
        where = target.url.partition("?")[0] if isinstance(target, HttpTarget) else target.command[0]
        note = "" if server.enabled else " (disabled)"
        table.add_row(Text(server.key, style="cyan"), Text(server.prefix), Text(plain(where) + note))
    return table
