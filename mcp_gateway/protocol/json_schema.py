"""Where a JSON Schema has schemas inside, and which types there are.

Owns the applicators and the names of types. Deliberately validates nothing else: what a schema means is for clients and
servers. Invariant: it ends after one look at each schema inside.
Spec: JSON Schema 2020-12 core, 10 (applicators) and validation, 6.1.1 ("type"); older drafts have the same names.
"""

from typing import Final

from mcp_gateway.values import JsonValue

# What stands under any other keyword is data, where the words mean nothing.
_ARRAY_SCHEMAS: Final = ("items", "additionalItems", "prefixItems", "contains", "unevaluatedItems")
_OBJECT_SCHEMAS: Final = ("additionalProperties", "propertyNames", "unevaluatedProperties", "contentSchema")
_COMPOSED_SCHEMAS: Final = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")
SCHEMAS: Final = frozenset((*_ARRAY_SCHEMAS, *_OBJECT_SCHEMAS, *_COMPOSED_SCHEMAS))
"""Keywords whose value is a schema, or a list of them."""
PROPERTIES: Final = "properties"
MAPS_OF_SCHEMAS: Final = frozenset({"patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"})
"""Keywords, beside ``properties``, whose value has a schema for each of its keys."""
TYPES: Final = ("null", "boolean", "object", "array", "number", "string", "integer")
_SHOWN: Final = 64
"""Characters of a name or of a path in a message."""


def fault(schema: JsonValue) -> str | None:
    """The first type that there is not, with its place as a JSON pointer; None: all are known.

    What else is odd is left alone, null for nothing among it, as careless servers write it.
    """
    waiting = [("", schema)]
    while waiting:
        at, node = waiting.pop()
        if not isinstance(node, dict):
            continue
        types = node.get("type")
        for one in types if isinstance(types, list) else (types,):
            if one is not None and one not in TYPES:
                return f"{str(one)[:_SHOWN]!r}, which is no type of JSON Schema, at {at[:_SHOWN] or '/'}"
        for keyword, child in node.items():
            waiting += _inside(f"{at}/{keyword}", keyword, child)
    return None


def _inside(at: str, keyword: str, child: JsonValue) -> list[tuple[str, JsonValue]]:
    """What may be a schema below one keyword."""
    if isinstance(child, dict) and (keyword == PROPERTIES or keyword in MAPS_OF_SCHEMAS):
        return [(f"{at}/{name}", inner) for name, inner in child.items()]
    if keyword not in SCHEMAS:
        return []
    if isinstance(child, list):
        return [(f"{at}/{number}", inner) for number, inner in enumerate(child)]
    return [(at, child)]
