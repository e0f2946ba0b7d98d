"""Objects for an API server whose kinds are older than we are: what they do not declare is left out.

Owns how the API server names such fields. Deliberately learns nothing for the next time: the kinds may be new ones by
then. Pure. Invariant: what is left out was named in a refusal, and everything else stays as it is.

Server-side apply refuses a whole object for one field that its CustomResourceDefinition does not declare; the other
ways to write drop the field. So without this, programs that are upgraded before their kinds could write no status.
"""

import re
from typing import Final

from mcp_gateway.values import JsonObject, JsonValue

# ".status.extensions[0].tools: field not declared in schema", as structured-merge-diff has it
_UNDECLARED: Final = re.compile(r"\.([^\s:]+): field not declared in schema")
_WHICH: Final = re.compile(r"\[[^\]]*\]")
"""The item of a list: what one lacks, all lack."""


def named(refusal: str) -> tuple[tuple[str, ...], ...]:
    """The paths of the fields that a refusal names; none, if it is about something else."""
    return tuple(tuple(_WHICH.sub("", path).split(".")) for path in _UNDECLARED.findall(refusal))


def without(value: JsonObject, refusal: str) -> JsonObject:
    """A copy of an object without the fields that a refusal names; equal to it if there are none."""
    for path in named(refusal):
        value = _without(value, path)
    return value


def _without(value: JsonObject, path: tuple[str, ...]) -> JsonObject:
    first, *rest = path
    if not rest:
        return {name: one for name, one in value.items() if name != first}
    return {name: _inside(one, tuple(rest)) if name == first else one for name, one in value.items()}


def _inside(value: JsonValue, path: tuple[str, ...]) -> JsonValue:
    if isinstance(value, list):
        return [_inside(item, path) for item in value]
    return _without(value, path) if isinstance(value, dict) else value
