"""The time limits that desktop clients write, each with a unit of its own.

Owns their keys, and the unit of a bare ``timeout``, which only the client that the entry was
written for tells: seconds for some, milliseconds for others. Deliberately never guesses: a
``timeout`` whose unit is not known is ignored with a note. Invariant: only a key that says so is
taken for the time of a start.
"""

from collections.abc import Mapping
from typing import Final

import attrs

from mcp_gateway.config import document
from mcp_gateway.config.durations import duration_s
from mcp_gateway.config.schema import MAX_DURATION_S, Fields, Item, Reader, Unfit
from mcp_gateway.config.spec import Timeouts

_S: Final = 1.0
_MS: Final = 0.001
_STARTS: Final[Mapping[str, float]] = {"startup_timeout_sec": _S, "startup_timeout_ms": _MS, "initTimeout": _MS}
"""Codex, Codex, LibreChat."""
_CALLS: Final[Mapping[str, float]] = {"tool_timeout_sec": _S}
"""Codex."""
_UNIT_BY_MARK: Final[Mapping[str, float]] = {
    "initTimeout": _MS,  # LibreChat
    "serverInstructions": _MS,
    "httpUrl": _MS,  # Gemini
    "trust": _MS,
    "includeTools": _MS,
    "excludeTools": _MS,
    "alwaysAllow": _S,  # Roo Code
}
"""The unit of ``timeout``, by a key that only one kind of client writes."""


def desktop_timeouts(fields: Fields, *, gemini: bool) -> Timeouts:
    """The defaults, but for what the entry says in the words of a desktop client.

    ``gemini``: the whole file is one of Gemini, whatever stands in the entry.
    """
    base = Timeouts()
    start_s = _first(fields, _STARTS, base.start_s)
    call_s = _first(fields, _CALLS, base.call_s)
    item = fields.at("timeout")
    if item is not None and call_s == base.call_s:
        call_s = _plain_timeout_s(item, _unit(fields, gemini=gemini)) or call_s
    return attrs.evolve(base, start_s=start_s, call_s=call_s, max_s=max(base.max_s, call_s))


def _first(fields: Fields, units: Mapping[str, float], default_s: float) -> float:
    given = [key for key in units if fields.has(key)]
    for key in given[1:]:
        fields.refuse(key, f"{given[0]} and {key} are two ways to say the same; keep one of them")
    return fields.take(given[0], _number_of(units[given[0]]), default_s) if given else default_s


def _number_of(unit: float) -> Reader[float]:
    def read(item: Item) -> float:
        seconds = _seconds(item, unit)
        if seconds is None:
            raise Unfit(f"must be a number of {'seconds' if unit == _S else 'milliseconds'} above 0, at most 365 days")
        return seconds

    return read


def _seconds(item: Item, unit: float) -> float | None:
    value = item.node.value if isinstance(item.node, document.Scalar) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    seconds = value if unit == _S else value / 1000
    return float(seconds) if 0.001 <= seconds <= MAX_DURATION_S else None


def _unit(fields: Fields, *, gemini: bool) -> float | None:
    """The unit of ``timeout``, if everything that tells agrees."""
    units = {unit for mark, unit in _UNIT_BY_MARK.items() if fields.has(mark)} | ({_MS} if gemini else set())
    return units.pop() if len(units) == 1 else None


def _plain_timeout_s(item: Item, unit: float | None) -> float | None:
    value = item.node.value if isinstance(item.node, document.Scalar) else None
    seconds = duration_s(value) if isinstance(value, str) else None  # with its unit, as we write it
    if unit is not None and seconds is None:
        seconds = _seconds(item, unit)
    if not seconds or seconds > MAX_DURATION_S:
        why = "nothing says whether it means seconds or milliseconds" if unit is None else "it is no time"
        item.note(f"is ignored: {why}; write timeouts: {{call: 60s}} for the limit of a call")
        return None
    return seconds
