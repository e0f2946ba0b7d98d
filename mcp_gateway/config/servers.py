"""One server of a configuration file, in our own form and in the one of desktop clients.

Owns how an entry of ``servers`` or ``mcpServers`` becomes a ``ServerSpec``.
Deliberately knows nothing of the other entries: ``config.file`` compares them.
Invariant: whatever is returned for an entry without mistakes can be connected to.
"""

import re
import sys
from collections.abc import Mapping
from typing import Final, TypeVar

from mcp_gateway.config import document
from mcp_gateway.config.addresses import dial_address, host_name, proxy_url, server_url
from mcp_gateway.config.desktop_times import desktop_timeouts
from mcp_gateway.config.headers import forwarded_name, header_name, refusal, static_value
from mcp_gateway.config.schema import (
    Fields,
    Item,
    Reader,
    Unfit,
    boolean,
    duration,
    fields_of,
    filled_text,
    integer,
    items_of,
    list_of,
    map_of,
    one_of,
    size,
    text,
)
from mcp_gateway.config.secrets import certificates, credential
from mcp_gateway.config.spec import (
    BackendLimits,
    HealthSpec,
    HttpTarget,
    ServerSpec,
    StdioTarget,
    Timeouts,
    TlsSpec,
    TransportKind,
)
from mcp_gateway.config.tool_filters import desktop_filter, is_filter, own_filter
from mcp_gateway.protocol.eras import ERAS
from mcp_gateway.values import BackendKey

T = TypeVar("T")

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}(?:/[a-z0-9][a-z0-9.-]{0,252})?")
"""The second part is the name of a Kubernetes object, which may have dots (DNS subdomain, RFC 1123)."""
_PREFIX: Final = re.compile(r"[A-Za-z0-9_.-]{0,64}")
_VARIABLE: Final = re.compile(r"[^=\x00]{1,256}")
_REFERENCE: Final = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_TRANSPORTS: Final = {kind.value: kind for kind in TransportKind}
_PROTOCOLS: Final[Mapping[str, str | None]] = {"auto": None} | {version: version for version in ERAS}
_STATES: Final = {"enabled": True, "disabled": False}
_HTTP_ONLY: Final = ("headers", "forwardHeaders", "credential", "tls", "connect", "proxy")
_STDIO_ONLY: Final = ("args", "env", "cwd")
_DESKTOP_TYPES: Final = {
    "http": TransportKind.AUTO,
    "streamable-http": TransportKind.STREAMABLE_HTTP,
    "streamableHttp": TransportKind.STREAMABLE_HTTP,
    "streamable_http": TransportKind.STREAMABLE_HTTP,
    "sse": TransportKind.SSE,
    "stdio": TransportKind.STDIO,
}
_DESKTOP_SET_BY_US: Final = frozenset({"accept", "content-type"})


def entry_name(item: Item) -> str:
    """``time`` or ``namespace/name``."""
    value = text(item)
    if not _NAME.fullmatch(value):
        raise Unfit("must be lower-case letters, digits and -, such as time or team-a/time")
    return value


def server(item: Item) -> ServerSpec:
    """One entry of ``servers``."""
    fields = fields_of(item)
    name = fields.need("name", entry_name, "")
    kind = fields.take("transport", one_of(_TRANSPORTS), TransportKind.AUTO)
    spec = _server(fields, name, kind, Timeouts(), enabled=fields.take("state", one_of(_STATES), True))
    fields.finish()
    return spec


def desktop_server(item: Item, name: str, *, gemini: bool) -> ServerSpec:
    """One entry of ``mcpServers``: the same keys, and what desktop clients write; ``gemini``: in a file of Gemini.

    Keys of other programs are ignored, unless they look like a slip of ours.
    """
    fields = fields_of(item)
    kind = fields.take("transport", one_of(_TRANSPORTS | _DESKTOP_TYPES), TransportKind.AUTO)
    kind = fields.take("type", one_of(_DESKTOP_TYPES), kind)
    disabled = fields.take("disabled", boolean, False)
    wanted = (fields.take("state", one_of(_STATES), True), fields.take("enabled", boolean, True), not disabled)
    spec = _server(fields, name, kind, desktop_timeouts(fields, gemini=gemini), enabled=all(wanted), desktop=True)
    for key in ("description", "icon", "name"):
        fields.at(key)
    for unknown, near in fields.unknown():
        if is_filter(unknown.path[len(fields.item.path) + 1 :]):
            unknown.wrong("a filter of tools that is not understood; write tools: {include: [...], exclude: [...]}")
        elif near:
            unknown.wrong(f"unknown key; did you mean {near}?")
    return spec


def _server(
    fields: Fields, name: str, kind: TransportKind, times: Timeouts, *, enabled: bool, desktop: bool = False
) -> ServerSpec:
    target = _target(fields, desktop)
    stdio = isinstance(target, StdioTarget)
    if kind is TransportKind.SSE and isinstance(target, HttpTarget) and target.forward_headers:
        why = "the one connection of HTTP+SSE is shared by clients, so it can carry no client's headers"
        fields.refuse("forwardHeaders", why)
    if fields.has("url") != fields.has("command") and kind is not TransportKind.AUTO:
        if stdio != (kind is TransportKind.STDIO):
            key = "type" if fields.has("type") else "transport"
            fields.refuse(key, f"{kind.value} does not fit a server with {'command' if stdio else 'url'}")
    return ServerSpec(
        key=BackendKey(name),
        target=target,
        transport=TransportKind.STDIO if stdio else kind,
        protocol=fields.take("protocol", one_of(_PROTOCOLS), None),
        prefix=_prefix(fields, name),
        enabled=enabled,
        tools=desktop_filter(fields) if desktop else own_filter(fields),
        survey=fields.take("survey", _switch, None),
        timeouts=_timeouts(fields, times),
        limits=fields.take("limits", _limits, BackendLimits()),
        health=fields.take("health", _health, HealthSpec()),
        tags=fields.take("tags", list_of(filled_text, unique=True), ()),
        category=fields.take("category", list_of(filled_text, unique=True), ()),
        hint=fields.take("hint", text, ""),
        own_instructions=fields.take("instructions", one_of({"own": True, "none": False}), True),
    )


def _target(fields: Fields, desktop: bool) -> HttpTarget | StdioTarget:
    if fields.has("url") and fields.has("command"):
        fields.refuse("command", "a server has either url or command, not both")
    elif not fields.has("url") and not fields.has("command"):
        fields.item.wrong("needs either url or command")
    if fields.has("command") and not fields.has("url"):
        if sys.platform == "win32":
            fields.refuse("command", "child processes are not supported on Windows; use url")
        for key in _HTTP_ONLY:
            fields.refuse(key, f"{key} is for servers with url; a child process has no HTTP headers or connections")
        return _stdio_target(fields, desktop)
    if fields.has("url"):
        for key in _STDIO_ONLY:
            if not desktop or not _is_empty(fields.at(key)):  # some clients write an empty env beside a url
                fields.refuse(key, f"{key} is for servers with command")
    return _http_target(fields, desktop)


def _is_empty(item: Item | None) -> bool:
    match item.node if item is not None else None:
        case document.Mapping(entries=()) | document.Sequence(items=()) | None:
            return True
        case _:
            return False


# --- url -----------------------------------------------------------------------------------------------------------


def _http_target(fields: Fields, desktop: bool) -> HttpTarget:
    for key in ("command", *_STDIO_ONLY):
        fields.at(key)
    given = fields.take("credential", credential, None)
    headers: tuple[tuple[str, str], ...]
    if desktop:
        headers, authorization = fields.take("headers", _desktop_headers, ((), None))
        if given is not None and authorization is not None:
            fields.refuse("credential", "an Authorization header is given too; keep one of them")
        given = given or authorization
    else:
        headers = fields.take("headers", _headers, ())
    forwarded = fields.take("forwardHeaders", list_of(forwarded_name, unique=True), ())
    static = {name.lower() for name, _ in headers}
    for name in forwarded:
        if name in static:
            fields.refuse("forwardHeaders", f"header {name} is also in headers; it can come from one place only")
    return HttpTarget(
        url=fields.take("url", _expanded(server_url) if desktop else server_url, ""),
        connect=fields.take("connect", dial_address, None),
        proxy=fields.take("proxy", proxy_url, None),
        tls=fields.take("tls", _tls, TlsSpec()),
        headers=headers,
        forward_headers=forwarded,
        credential=given,
    )


def _headers(item: Item) -> tuple[tuple[str, str], ...]:
    return _each_once(item, map_of(header_name, static_value)(item))


def _each_once(item: Item, headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    seen: set[str] = set()
    for name, _ in headers:
        if name.lower() in seen:
            item.wrong(f"header {name} is given twice; one value each")
        seen.add(name.lower())
    return headers


def _desktop_headers(item: Item) -> tuple[tuple[tuple[str, str], ...], str | None]:
    """Headers as desktop clients write them; Authorization becomes the credential."""

    def name(given: str) -> str:
        own = given.lower() == "authorization" or given.lower() in _DESKTOP_SET_BY_US
        return given if own and refusal(given) else header_name(given)

    found = _each_once(item, map_of(name, _expanded(static_value))(item))
    authorization = next((value for key, value in found if key.lower() == "authorization"), None)
    return tuple(pair for pair in found if refusal(pair[0]) is None), authorization


def _tls(item: Item) -> TlsSpec:
    fields = fields_of(item)
    spec = TlsSpec(
        ca_pem=fields.take("ca", certificates, None),
        insecure_skip_verify=fields.take("insecureSkipVerify", boolean, False),
        server_name=fields.take("serverName", host_name, None),
    )
    fields.finish()
    return spec


# --- command -------------------------------------------------------------------------------------------------------


def _stdio_target(fields: Fields, desktop: bool) -> StdioTarget:
    fields.at("url")
    program = fields.take("command", _program if desktop else _command, ("",))
    args: tuple[str, ...] = fields.take("args", list_of(_argument), ())
    value = _expanded(_argument) if desktop else _variable_value
    return StdioTarget(
        command=(*program, *args),
        env=fields.take("env", map_of(_variable_name, value), ()),
        cwd=fields.take("cwd", _path, None),
    )


def _command(item: Item) -> tuple[str, ...]:
    if not isinstance(item.node, document.Sequence):
        raise Unfit("must be a list of a program and its arguments, such as [uvx, mcp-server-time]")
    if not items_of(item):
        raise Unfit("must name a program")
    words = list_of(_argument)(item)
    if words and not words[0].strip():
        raise Unfit("must name a program")
    return (_without_controls(words[0]), *words[1:]) if words else ()


def _program(item: Item) -> tuple[str, ...]:
    if isinstance(item.node, document.Sequence):
        return _command(item)
    return (_path(item),)


def _path(item: Item) -> str:
    return _without_controls(filled_text(item))


def _without_controls(value: str) -> str:
    """Nobody means one in a path: it is what became of a back-slash, as in ``"C:\temp"``."""
    if _CONTROL.search(value):
        raise Unfit(
            "must not contain a control character; in double quotes, a back-slash that is meant is written \\\\"
        )
    return value


def _argument(item: Item) -> str:
    """An argument; a number is taken as it is usually meant."""
    node = item.node
    if isinstance(node, document.Scalar) and isinstance(node.value, int) and not isinstance(node.value, bool):
        return str(node.value)
    return _no_nul(text(item))


def _variable_value(item: Item) -> str:
    """An environment variable's value: text, a number, or a secret."""
    if isinstance(item.node, document.Mapping):
        return _no_nul(credential(item))
    return _argument(item)


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise Unfit("must not contain a NUL character")
    return value


def _variable_name(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise Unfit("is no name of an environment variable")
    return name


# --- both ----------------------------------------------------------------------------------------------------------


def _expanded(reader: Reader[T]) -> Reader[T]:
    """Read text after putting environment variables in for ``${NAME}`` and ``${NAME:-default}``."""

    def read(item: Item) -> T:
        node = item.node
        if not isinstance(node, document.Scalar) or not isinstance(node.value, str):
            return reader(item)

        def value(reference: re.Match[str]) -> str:
            name, default = reference.groups()
            found = item.context.environ.get(name) or default
            if found is None:
                raise Unfit(f"environment variable {name} is not set")
            return found

        put_in = document.Scalar(line=node.line, value=_REFERENCE.sub(value, node.value))
        return reader(Item(node=put_in, path=item.path, line=item.line, context=item.context))

    return read


def _prefix(fields: Fields, name: str) -> str:
    if fields.has("prefix") and fields.has("toolPrefix"):
        fields.refuse("toolPrefix", "toolPrefix is another name for prefix; keep one of them")
    default = f"{name.replace('/', '_')}_"
    return fields.take("prefix", _prefix_text, fields.take("toolPrefix", _prefix_text, default))


def _prefix_text(item: Item) -> str:
    value = text(item)
    if not _PREFIX.fullmatch(value):
        raise Unfit("must be at most 64 letters, digits and _ . -")
    return value


def _switch(item: Item) -> bool:
    """``on`` or ``off``; JSON has words of its own for them."""
    node = item.node
    if isinstance(node, document.Scalar) and isinstance(node.value, bool):
        return node.value
    return one_of({"on": True, "off": False})(item)


def _timeouts(fields: Fields, base: Timeouts) -> Timeouts:
    return fields.take("timeouts", lambda item: _own_timeouts(item, base), base)


def _own_timeouts(item: Item, base: Timeouts) -> Timeouts:
    fields, positive = fields_of(item), duration()
    spec = Timeouts(
        connect_s=fields.take("connect", positive, base.connect_s),
        start_s=fields.take("start", positive, base.start_s),
        call_s=fields.take("call", positive, base.call_s),
        input_s=fields.take("input", positive, base.input_s),
        max_s=fields.take("max", positive, base.max_s),
        list_s=fields.take("list", positive, base.list_s),
    )
    fields.finish()
    return spec


def _limits(item: Item) -> BackendLimits:
    fields, base = fields_of(item), BackendLimits()
    spec = BackendLimits(
        concurrency=fields.take("concurrency", integer(1, 10_000), base.concurrency),
        response_bytes=fields.take("responseBytes", size, base.response_bytes),
        event_bytes=fields.take("eventBytes", size, base.event_bytes),
        upstream_sessions=fields.take("upstreamSessions", integer(1, 1_000_000), base.upstream_sessions),
        processes=fields.take("processes", integer(1, 1000), base.processes),
    )
    fields.finish()
    return spec


def _health(item: Item) -> HealthSpec:
    fields, base = fields_of(item), HealthSpec()
    spec = HealthSpec(
        interval_s=fields.take("interval", duration(), base.interval_s),
        failures=fields.take("failures", integer(1, 1000), base.failures),
        grace_when_down_s=fields.take("graceWhenDown", duration(lowest_s=0.0), base.grace_when_down_s),
    )
    fields.finish()
    return spec
