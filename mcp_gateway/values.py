"""Names for values that cross module borders.

Owns type aliases and NewTypes only. Deliberately no behaviour.
Invariant: importing this module imports nothing but names of types.
"""

from collections.abc import Mapping
from typing import NewType, TypeAlias

JsonScalar: TypeAlias = str | int | float | bool | None
JsonValue: TypeAlias = "JsonScalar | list[JsonValue] | dict[str, JsonValue]"
JsonObject: TypeAlias = dict[str, JsonValue]
Params: TypeAlias = Mapping[str, JsonValue]
"""``params`` of a message, whose members may be parsed only when they are asked for."""

RequestId: TypeAlias = str | int
"""A JSON-RPC request id: a string or an integer, never null (MCP basic, Requests)."""

ProgressToken: TypeAlias = str | int

BackendKey = NewType("BackendKey", str)
"""The configured, unique name of one backend (``time`` or ``namespace/name``)."""

GatewayName = NewType("GatewayName", str)
"""The configured name of one gateway; ``""`` is the only one when none is configured."""

Header: TypeAlias = tuple[bytes, bytes]
"""One HTTP header as it came: name (any case), value without surrounding white space."""
