"""Trees of configuration texts as plain values."""

from mcp_gateway.config import document
from mcp_gateway.config.document import Node
from mcp_gateway.values import JsonValue


def value_of(node: Node) -> JsonValue:
    """What a reader without lines would have given."""
    match node:
        case document.Mapping():
            return {entry.key: value_of(entry.node) for entry in node.entries}
        case document.Sequence():
            return [value_of(item) for item in node.items]
        case document.Scalar():
            return node.value
