"""Reading a backend's list results, page by page, without trusting one item.

Owns what makes an item unusable and what is merely reported. Deliberately applies
no prefix, filter or collision rule (``routing.build``). Invariant: one bad item
never costs another; only a result that is no list at all raises.

Lives here and not in ``protocol``: its values are those of ``routing.snapshot``.
"""

from collections.abc import Generator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Final

import attrs

from mcp_gateway.errors import MalformedMessage, RemoteFault
from mcp_gateway.protocol import headers, json_schema, json_text, splice
from mcp_gateway.protocol.eras import Era
from mcp_gateway.routing import names
from mcp_gateway.routing.snapshot import Item, Kind, Listing, Problem
from mcp_gateway.values import JsonObject, JsonValue

MAX_ITEM_BYTES: Final = 256 * 2**10
MAX_HINT_BYTES: Final = 64 * 2**10
"""Of a cursor, which is sent back, and of what is said beside the items."""
MAX_URI: Final = 8192
"""Characters of a resource's URI or a template."""
MAX_ITEMS: Final = 10_000
"""Items of one kind of one backend; the rest is dropped and reported."""
MAX_PROBLEMS: Final = 100
"""Problems kept per list; a broken backend must not fill the status page."""
MAX_TTL_MS: Final = 24 * 3600 * 1000
_SHOWN: Final = 128
_PAUSE_BYTES: Final = 16 * 2**10
"""Of items between two steps, 2 ms of loop time."""

_NAMED_BY: Final = MappingProxyType(
    {Kind.TOOLS: "name", Kind.PROMPTS: "name", Kind.RESOURCES: "uri", Kind.TEMPLATES: "uriTemplate"}
)
# A member of another type makes strict clients refuse the whole list, other servers' items included.
_ANY: Final[Mapping[str, type]] = {"title": str, "description": str, "annotations": dict, "icons": list, "_meta": dict}
_TYPES: Final[Mapping[Kind, Mapping[str, type]]] = MappingProxyType(
    {
        Kind.TOOLS: {**_ANY, "outputSchema": dict, "execution": dict},
        Kind.PROMPTS: {**_ANY, "arguments": list},
        Kind.RESOURCES: {**_ANY, "mimeType": str},
        Kind.TEMPLATES: {**_ANY, "mimeType": str},
    }
)


@attrs.frozen(kw_only=True)
class Page:
    """One page of one list; ``next_cursor`` None ends the list (an empty string does not)."""

    items: tuple[Item, ...] = ()
    problems: tuple[Problem, ...] = ()
    next_cursor: str | None = None
    bad_cursor: str = ""
    """Why there is no ``next_cursor`` although there should be one: the list has more than can be read."""
    ttl_ms: int = 0
    private: bool = False


class _Unusable(Exception):
    """This item is dropped; the text is the reason."""


def page_steps(kind: Kind, result: bytes, era: Era, *, over_http: bool = True) -> Generator[None, None, Page]:
    """Read one list result, yielding now and then so that the caller can let others run.

    Args:
        kind: which list was asked for.
        result: the raw ``result`` member.
        era: the backend's.
        over_http: whether tools' ``x-mcp-header`` matters (a stdio client may ignore it).
    Returns:
        (as the generator's value) the usable items in the backend's order, and a
        ``Problem`` for each other one (``hidden``) and each one with an unusual name
        (not ``hidden``), at most ``MAX_PROBLEMS``. After ``MAX_ITEMS`` elements none is looked at.
    Raises:
        RemoteFault: not an object, without the array, or with too much beside it.
    Spec: MCP 2026-07-28 server/utilities/pagination and caching; x-mcp-header: basic/transports/streamable-http.
    """
    found = splice.members(result)
    array = found.find(kind.value)
    if array is None:
        raise RemoteFault(what=f"a list result without {kind.value!r}")
    items: dict[str, Item] = {}
    problems: list[Problem] = []
    checks_headers = over_http and era.modern
    seen = splice.each_element(result, array.value_start)
    paused_at = array.value_start
    for index, (start, end) in enumerate(islice(seen, MAX_ITEMS)):
        if start - paused_at > _PAUSE_BYTES:
            paused_at = start
            yield
        problem = _take_item(kind, index, result[start:end], checks_headers, era.tasks, items)
        if problem is not None and len(problems) < MAX_PROBLEMS:
            problems.append(problem)
    if next(seen, None) is not None:
        reason = f"more than {MAX_ITEMS} items in one page: the rest was not read"
        problems.insert(0, Problem(kind=kind, name="", reason=reason, hidden=True))
    next_cursor, bad_cursor = _cursor(result, found)
    return Page(
        items=tuple(items.values()),
        problems=tuple(problems),
        next_cursor=next_cursor,
        bad_cursor=bad_cursor,
        ttl_ms=_ttl_ms(_value(result, found, "ttlMs")) if era.caching_hints else 0,
        private=era.caching_hints and _value(result, found, "cacheScope") != "public",
    )


def _take_item(
    kind: Kind, index: int, raw: bytes, checks_headers: bool, has_tasks: bool, items: dict[str, Item]
) -> Problem | None:
    """Add one item to ``items``, if it can be used, and say what is wrong with it."""
    try:
        item = _read_item(kind, raw, checks_headers, has_tasks)
        if item.name in items:
            raise _Unusable("this name twice")
    except _Unusable as unusable:
        shown = _shown_name(kind, raw)
        where = "" if shown else f"item {index}: "
        return Problem(kind=kind, name=shown, reason=f"{where}{unusable}", hidden=True)
    items[item.name] = item
    odd = names.oddity(item.name) if kind in {Kind.TOOLS, Kind.PROMPTS} else None
    return None if odd is None else Problem(kind=kind, name=item.name, reason=odd, hidden=False)


def join(kind: Kind, pages: Sequence[Page]) -> tuple[Listing, tuple[Problem, ...]]:
    """One list from its pages: first of equal names wins, shortest ttl, private if any page is."""
    items: dict[str, Item] = {}
    problems = [problem for page in pages for problem in page.problems]
    for item in (item for page in pages for item in page.items):
        if item.name in items:
            problems.append(Problem(kind=kind, name=item.name[:_SHOWN], reason="this name twice", hidden=True))
            continue
        items[item.name] = item
    if len(items) > MAX_ITEMS:
        reason = f"{len(items) - MAX_ITEMS} items over {MAX_ITEMS}, which is the most of one server"
        problems.insert(0, Problem(kind=kind, name="", reason=reason, hidden=True))
    listing = Listing(
        items=tuple(items.values())[:MAX_ITEMS],
        ttl_ms=min((page.ttl_ms for page in pages), default=0),
        private=any(page.private for page in pages),
    )
    return listing, tuple(problems[:MAX_PROBLEMS])


def _value(result: bytes, found: splice.Members, key: str) -> JsonValue:
    member = found.find(key)
    if member is None:
        return None
    if member.value_end - member.value_start > MAX_HINT_BYTES:
        raise RemoteFault(what=f"{key} is over {MAX_HINT_BYTES} bytes")
    return json_text.parse(result[member.value_start : member.value_end])


def _cursor(result: bytes, found: splice.Members) -> tuple[str | None, str]:
    """The cursor, and why it is of no use."""
    try:
        value = _value(result, found, "nextCursor")
    except RemoteFault as fault:
        return None, str(fault)
    # null is what careless servers send for "no more".
    return (value, "") if value is None or isinstance(value, str) else (None, "nextCursor is not a string")


def _ttl_ms(value: JsonValue) -> int:
    return min(max(value, 0), MAX_TTL_MS) if type(value) is int else 0


def _read_item(kind: Kind, raw: bytes, checks_headers: bool, has_tasks: bool) -> Item:
    if len(raw) > MAX_ITEM_BYTES:
        raise _Unusable(f"over {MAX_ITEM_BYTES} bytes")
    try:
        value = json_text.parse(raw)
    except MalformedMessage as malformed:
        raise _Unusable(str(malformed)) from malformed
    if not isinstance(value, dict):
        raise _Unusable("not an object")
    name = _name(kind, raw, value)
    for member, wanted in _TYPES[kind].items():
        if not isinstance(value.get(member), wanted | None):
            raise _Unusable(f"{member!r} is of the wrong type")
    if kind is Kind.TOOLS:
        execution = value.get("execution") if has_tasks else None
        only_as_task = isinstance(execution, dict) and execution.get("taskSupport") == "required"
        return Item(name=name, raw=raw, headers=_check_schema(value, checks_headers), only_as_task=only_as_task)
    if kind is Kind.PROMPTS:
        _check_arguments(value.get("arguments"))
    return Item(name=name, raw=raw)


def _name(kind: Kind, raw: bytes, value: JsonObject) -> str:
    member = _NAMED_BY[kind]
    try:
        splice.members(raw).find(member)
    except MalformedMessage as twice:
        raise _Unusable(str(twice)) from twice
    name = value.get(member)
    # Resources and templates must have both; without a name strict clients refuse the whole list.
    if not isinstance(name, str) or not name or not isinstance(value.get("name"), str):
        raise _Unusable("no name" if name else f"no {member}")
    if member == "name":
        fault = names.fault(name)
    elif len(name) > MAX_URI:
        fault = f"{member} over {MAX_URI} characters"
    else:
        fault = f"{member} with control characters" if names.has_control(name) else None
    if fault is not None:
        raise _Unusable(fault)
    return name


def _check_schema(tool: JsonObject, checks_headers: bool) -> tuple[tuple[str, tuple[str, ...]], ...]:
    schema = tool.get("inputSchema")
    # "inputSchema ... MUST be a valid JSON Schema object" with root type object -- MCP 2026-07-28 server/tools
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise _Unusable("inputSchema is not an object schema")
    # One such tool makes strict clients refuse the whole list, and models' APIs the whole request.
    for member in ("inputSchema", "outputSchema"):
        why = json_schema.fault(tool.get(member))
        if why is not None:
            raise _Unusable(f"{member} has {why}")
    # "Clients ... MUST exclude a tool with an invalid x-mcp-header" -- 2026-07-28 basic/transports/streamable-http.
    # Of other backends' tools valid ones are kept too: modern clients mirror them towards us, and we must check them.
    try:
        return headers.annotated(schema)
    except headers.HeaderFault as fault:
        if checks_headers:
            raise _Unusable(str(fault)) from fault
        return ()


def _check_arguments(arguments: JsonValue) -> None:
    for argument in arguments if isinstance(arguments, list) else ():
        if not isinstance(argument, dict) or not isinstance(argument.get("name"), str):
            raise _Unusable("an argument without a name")


def _shown_name(kind: Kind, raw: bytes) -> str:
    """The name of an unusable item for reports, cut; empty when it cannot be read."""
    try:
        value = json_text.parse(raw[: MAX_ITEM_BYTES + 1])
    except MalformedMessage:
        return ""
    name = value.get(_NAMED_BY[kind]) if isinstance(value, dict) else None
    return name[:_SHOWN] if isinstance(name, str) else ""
