"""The headers that mirror the body: Mcp-Method, Mcp-Name and Mcp-Param-*.

Owns their encoding, the rules of ``x-mcp-header``, and the comparison of headers
with the body. Deliberately changes no body and knows no routing. Invariant: what
``mirror`` writes, ``check_mirrored`` accepts; what a header claims and the body
does not say is refused.
Spec: MCP 2026-07-28, basic/transports/streamable-http, "Standard Request Headers",
"Custom Headers", "Server Validation".
"""

import re
from base64 import b64encode
from binascii import Error as BadBase64
from binascii import a2b_base64
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from math import isfinite
from typing import Final, TypeAlias

import attrs

from mcp_gateway.errors import RemoteFault
from mcp_gateway.protocol import json_schema
from mcp_gateway.values import Header, JsonObject, JsonValue, Params

MAX_SAFE_INTEGER: Final = (1 << 53) - 1
"""Integers in mirrored headers stay within what JavaScript can hold."""

NAMING: Final = ("name", "uri", "taskId")
"""Members of ``params`` that say what a request is about."""

Annotations: TypeAlias = "tuple[tuple[str, tuple[str, ...]], ...]"
"""(name as annotated, property path) of each mirrored argument, in the schema's order."""

ByName: TypeAlias = "Mapping[bytes, bytes | None]"
"""Name, in lower case, to the one value; None: it occurs more than once."""

_NAMES: Final = {"Mcp-Method": b"mcp-method", "Mcp-Name": b"mcp-name"}
_MAX_KEPT_VALUE: Final = 128
_PREFIX: Final = b"=?base64?"
_SUFFIX: Final = b"?="
_PLAIN: Final = re.compile(rb"[\t\x20-\x7e]*")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NUMBER: Final = re.compile(r"-?[0-9]{1,16}(?:\.[0-9]{1,16})?(?:[eE][+-]?[0-9]{1,2})?")
_PARAM: Final = b"mcp-param-"
_ANNOTATION: Final = "x-mcp-header"
_MIRRORED_TYPES: Final = ("string", "integer", "boolean")


@attrs.frozen(kw_only=True, eq=False)
class HeaderFault(RemoteFault):
    """A header that does not say what the body says, or an annotation that breaks the rules."""


def encode_value(text: str) -> bytes:
    """A header value for ``text``: as it is where that is safe, else ``=?base64?...?=``.

    Raises:
        HeaderFault: a lone surrogate, which UTF-8 cannot carry.
    """
    try:
        raw = text.encode()
    except UnicodeEncodeError as exc:
        raise HeaderFault(what="a header value that UTF-8 cannot carry") from exc
    looks_encoded = raw.startswith(_PREFIX) and raw.endswith(_SUFFIX)
    if _PLAIN.fullmatch(raw) and raw == raw.strip(b" \t") and not looks_encoded:
        return raw
    return _PREFIX + b64encode(raw) + _SUFFIX


def decode_value(raw: bytes) -> str:
    """The text that a header value carries; white space around it is no part of it.

    Raises:
        HeaderFault: characters outside visible ASCII, space and tab; bad base64; not UTF-8 inside.
    """
    raw = raw.strip(b" \t")
    if not _PLAIN.fullmatch(raw):
        raise HeaderFault(what="a header value with characters outside ASCII")
    if len(raw) < len(_PREFIX) + len(_SUFFIX) or not (raw.startswith(_PREFIX) and raw.endswith(_SUFFIX)):
        return raw.decode("ascii")
    inside = raw[len(_PREFIX) : -len(_SUFFIX)]
    try:
        text = a2b_base64(inside, strict_mode=True)
        if b64encode(text) == inside:  # spare bits would give one text many spellings
            return text.decode()
    except (BadBase64, UnicodeDecodeError) as exc:
        raise HeaderFault(what="a header value with bad base64") from exc
    raise HeaderFault(what="a header value with bad base64")


_decode_kept: Final = lru_cache(maxsize=512)(decode_value)
"""Clients call few tools many times."""


def annotated(schema: JsonValue) -> Annotations:
    """The ``x-mcp-header`` annotations of a tool's ``inputSchema``.

    Raises:
        HeaderFault: an annotation breaks the rules; the tool must be left out of ``tools/list``.
    """
    found: list[tuple[str, tuple[str, ...]]] = []
    seen: set[str] = set()
    for name, path, node in _annotations(schema, ()):
        if path is None or not path:
            raise HeaderFault(what=f"{_ANNOTATION} {name!r} is not on a property reachable by properties alone")
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise HeaderFault(what=f"{_ANNOTATION} {name!r} is not a header name")
        if node.get("type") not in _MIRRORED_TYPES:
            raise HeaderFault(what=f"{_ANNOTATION} {name!r} is on {'.'.join(path)!r}, not a string, integer or boolean")
        if name.lower() in seen:
            raise HeaderFault(what=f"{_ANNOTATION} {name!r} occurs twice")
        seen.add(name.lower())
        found.append((name, path))
    return tuple(found)


def _annotations(
    node: JsonValue, path: tuple[str, ...] | None
) -> Iterator[tuple[JsonValue, tuple[str, ...] | None, JsonObject]]:
    """Every annotation in the schema; its path is None where something other than ``properties`` leads there."""
    if isinstance(node, list):
        for item in node:
            yield from _annotations(item, None)
    if not isinstance(node, dict):
        return
    if _ANNOTATION in node:
        yield node[_ANNOTATION], path, node
    for key, child in node.items():
        if key == json_schema.PROPERTIES and isinstance(child, dict):
            for name, inner in child.items():
                yield from _annotations(inner, None if path is None else (*path, name))
        elif key in json_schema.MAPS_OF_SCHEMAS and isinstance(child, dict):
            # Their keys are names, so one called x-mcp-header is no annotation.
            for inner in child.values():
                yield from _annotations(inner, None)
        elif key in json_schema.SCHEMAS:
            yield from _annotations(child, None)


def mirror(annotations: Annotations, arguments: JsonValue) -> tuple[Header, ...]:
    """The ``Mcp-Param-*`` headers for a call. Absent and null arguments have none; nor have arrays and objects,
    which no annotation allows: the backend's own schema check says that better.

    Raises:
        HeaderFault: an integer outside the safe range, or a text that UTF-8 cannot carry.
    """
    headers: list[Header] = []
    for name, path in annotations:
        text = _text_of(_argument(arguments, path))
        if text is not None:
            headers.append((b"Mcp-Param-" + name.encode("ascii"), encode_value(text)))
    return tuple(headers)


def _argument(arguments: JsonValue, path: tuple[str, ...]) -> JsonValue:
    for step in path:
        arguments = arguments.get(step) if isinstance(arguments, dict) else None
    return arguments


def _text_of(value: JsonValue) -> str | None:
    """The text of a mirrored value; None where there is nothing to mirror."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, float) and isfinite(value):
        return repr(value)  # not an integer: the schema forbids it, but both sides see the same text
    if isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise HeaderFault(what="an integer in a mirrored argument is outside the safe range")
        return str(value)
    return None


def check_mirrored(annotations: Annotations, arguments: JsonValue, headers: Sequence[Header]) -> None:
    """Compare the ``Mcp-Param-*`` headers of a call with its arguments. Unknown ones are nobody's business.

    Args:
        headers: all headers of the request, names in any case.
    Raises:
        HeaderFault: missing, repeated, ill-charactered, different, or there though the argument is not.
    """
    if not annotations:
        return
    given: dict[bytes, list[bytes]] = {}
    for key, raw in headers:
        lower = key.lower()
        if lower.startswith(_PARAM):
            given.setdefault(lower, []).append(raw)
    for name, path in annotations:
        raws = given.get(_PARAM + name.lower().encode("ascii"), [])
        _check_one(f"Mcp-Param-{name}", raws, _argument(arguments, path))


def _check_one(label: str, raws: list[bytes], value: JsonValue) -> None:
    if len(raws) > 1:
        raise HeaderFault(what=f"{label} occurs more than once")
    expected = _text_of(value)
    if not raws:
        if expected is not None:
            raise HeaderFault(what=f"{label} is missing")
        return
    if value is None:
        raise HeaderFault(what=f"{label} has no argument to mirror")
    said = _decoded(label, raws[0])
    if said == expected:
        return
    numeric = isinstance(value, int | float) and not isinstance(value, bool) and _NUMBER.fullmatch(said)
    if not numeric or expected is None or Decimal(said) != Decimal(expected):
        raise HeaderFault(what=f"{label} does not match the body")


def by_name(headers: Sequence[Header]) -> ByName:
    """Headers to be looked up by their names, which are lower case."""
    found: dict[bytes, bytes | None] = dict(headers)
    if len(found) != len(headers):
        seen: set[bytes] = set()
        for name, _ in headers:
            if name in seen:
                found[name] = None
            seen.add(name)
    return found


def check_standard(method: str, name: str | None, headers: ByName) -> None:
    """Compare ``Mcp-Method`` and ``Mcp-Name`` with the body.

    Args:
        method: the body's method.
        name: what ``Mcp-Name`` must say (params.name, .uri or .taskId); None where the method has none.
    Raises:
        HeaderFault: missing, repeated, ill-charactered or different.
    """
    said = _only("Mcp-Method", headers).strip(b" \t")
    if not _PLAIN.fullmatch(said):
        raise HeaderFault(what="Mcp-Method has characters outside ASCII")
    if said.decode("ascii") != method:
        raise HeaderFault(what="Mcp-Method does not match the body")
    if name is not None and _decoded("Mcp-Name", _only("Mcp-Name", headers)) != name:
        raise HeaderFault(what="Mcp-Name does not match the body")


def check_custom_name(params: Params, headers: ByName) -> None:
    """Compare ``Mcp-Name``, if it is there, with the body of a request that only an extension has.

    Which member it mirrors, the extension says: it must be one of those that routing looks at.

    Raises:
        HeaderFault: repeated, ill-charactered or different.
    """
    if b"mcp-name" in headers:
        said = _decoded("Mcp-Name", _only("Mcp-Name", headers))
        if said not in (params.get(member) for member in NAMING):
            raise HeaderFault(what="Mcp-Name does not match the body")


def custom_name(params: Params, headers: Sequence[Header], *, modern: bool) -> str | None:
    """The member of a custom request's params that ``Mcp-Name`` mirrors towards its backend; None: there is none.

    Args:
        headers: the client's, checked by ``check_custom_name``.
        modern: the client's revision has the header: if it sent none, there is none.
    """
    raw = next((value for key, value in headers if key.lower() == b"mcp-name"), None) if modern else None
    if modern and raw is None:
        return None
    said = None if raw is None else decode_value(raw)
    values = ((member, params.get(member)) for member in NAMING)
    return next((member for member, value in values if isinstance(value, str) and said in (None, value)), None)


def _only(label: str, headers: ByName) -> bytes:
    name = _NAMES[label]
    value = headers.get(name)
    if value is None:
        raise HeaderFault(what=f"{label} occurs more than once" if name in headers else f"{label} is missing")
    return value


def _decoded(label: str, raw: bytes) -> str:
    try:
        return _decode_kept(raw) if len(raw) <= _MAX_KEPT_VALUE else decode_value(raw)
    except HeaderFault as fault:
        raise HeaderFault(what=f"{label}: {fault.what}") from fault
