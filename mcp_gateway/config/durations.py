"""Durations and sizes as people write them.

Owns ``5s`` -> seconds and ``4MiB`` -> bytes. Deliberately has no bounds: the setting knows them.
Invariant: what is not exactly of one of the forms is None, never a guess.
"""

import re
from typing import Final

_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE: Final = re.compile(r"([0-9]{1,12})(B|KiB|MiB|GiB)?")
_BYTES: Final = {None: 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def duration_s(text: str) -> float | None:
    """Seconds of ``500ms``, ``5s``, ``2m``, ``24h`` or ``1d``; None if it is none of these."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    number, unit = match.groups()
    # milliseconds by division: 300 * 0.001 is not 0.3
    return float(number) / 1000 if unit == "ms" else float(number) * _SECONDS[unit]


def size_bytes(text: str) -> int | None:
    """Bytes of ``4MiB``, ``256KiB``, ``1GiB``, ``512B`` or ``4096``; None if it is none of these."""
    match = _SIZE.fullmatch(text)
    return None if match is None else int(match[1]) * _BYTES[match[2]]
