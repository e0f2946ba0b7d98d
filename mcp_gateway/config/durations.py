"""Durations and sizes as people write them.

Owns ``5s`` -> seconds and ``4MiB`` -> bytes, and back. Deliberately reads no file.
Invariant: what ``duration_text`` and ``size_text`` write, the readers read back.
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


def duration_text(seconds: float) -> str:
    """The shortest way to write a duration: ``0.5`` gives ``500ms``."""
    for unit in ("h", "m", "s"):
        if seconds >= _SECONDS[unit] and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return f"{seconds * 1000:g}ms" if seconds < 1 else f"{seconds:g}s"


def size_bytes(text: str) -> int | None:
    """Bytes of ``4MiB``, ``256KiB``, ``1GiB``, ``512B`` or ``4096``; None if it is none of these."""
    match = _SIZE.fullmatch(text)
    return None if match is None else int(match[1]) * _BYTES[match[2]]


def size_text(size: int) -> str:
    """The shortest way to write a size: ``4194304`` gives ``4MiB``."""
    for unit in ("GiB", "MiB", "KiB"):
        if size >= _BYTES[unit] and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return str(size)
