"""One JSON object of the API server, read by paths.

Owns how a value is taken out of it: dotted paths, plain types, absent values. Deliberately knows no field by name.
Invariant: a value is of the type that was asked for, absent, or the object is ``Malformed``; members that nobody asks
for are ignored, because a newer API server or CRD may have more of them.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Final, TypeVar

import attrs

from mcp_gateway.values import JsonObject, JsonValue

T = TypeVar("T", bound=JsonValue)
_EMPTY: Final[JsonObject] = {}


@attrs.frozen
class Malformed(Exception):
    """An object cannot be used at all; fields, not prose."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where} {self.what}"


@attrs.frozen
class Fields:
    """A JSON object and where it stands in the whole."""

    value: Mapping[str, JsonValue]
    where: str = ""

    def _path(self, path: str) -> str:
        return f"{self.where}.{path}" if self.where else path

    def _find(self, path: str) -> JsonValue:
        found: JsonValue = dict(self.value) if "." in path else self.value.get(path)
        if "." not in path:
            return found
        for key in path.split("."):
            if found is None:
                return None
            if not isinstance(found, dict):
                raise Malformed(self._path(path), "does not lead through objects")
            found = found.get(key)
        return found

    def _take(self, path: str, kind: type[T], what: str) -> T | None:
        found = self._find(path)
        if found is None:
            return None
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            raise Malformed(self._path(path), f"must be {what}")
        return found

    def text(self, path: str, default: str = "") -> str:
        """Text, or the default where there is none; an empty one counts as given."""
        found = self._take(path, str, "text")
        return default if found is None else found

    def optional_text(self, path: str) -> str | None:
        """Text, or None where there is none."""
        return self._take(path, str, "text")

    def integer(self, path: str) -> int | None:
        """A whole number, or None where there is none."""
        return self._take(path, int, "a whole number")

    def boolean(self, path: str) -> bool:
        """True or false; false where there is none."""
        return self._take(path, bool, "true or false") or False

    def has(self, path: str) -> bool:
        """Whether there is a value."""
        return self._find(path) is not None

    def at(self, path: str) -> "Fields":
        """The object at a path; an empty one where there is none."""
        found = self._take(path, dict, "an object")
        return Fields(_EMPTY if found is None else found, self._path(path))

    def _list(self, path: str) -> list[JsonValue]:
        found = self._take(path, list, "a list")
        return [] if found is None else found

    def items(self, path: str) -> "tuple[Fields, ...]":
        """The objects of a list."""
        made = []
        for number, item in enumerate(self._list(path)):
            where = f"{self._path(path)}[{number}]"
            if not isinstance(item, dict):
                raise Malformed(where, "must be an object")
            made.append(Fields(item, where))
        return tuple(made)

    def texts(self, path: str) -> tuple[str, ...]:
        """The texts of a list."""
        made = []
        for number, item in enumerate(self._list(path)):
            if not isinstance(item, str):
                raise Malformed(f"{self._path(path)}[{number}]", "must be text")
            made.append(item)
        return tuple(made)

    def text_map(self, path: str) -> Mapping[str, str]:
        """An object whose values are texts, such as labels."""
        made = {}
        for key, item in self.at(path).value.items():
            if not isinstance(item, str):
                raise Malformed(f"{self._path(path)}[{key}]", "must be text")
            made[key] = item
        return made

    def bytes_map(self, path: str) -> Mapping[str, bytes]:
        """An object whose values are bytes in base64, such as a Secret's data."""
        try:
            return {key: base64.b64decode(item, validate=True) for key, item in self.text_map(path).items()}
        except (binascii.Error, ValueError):
            raise Malformed(self._path(path), "must be base64") from None
