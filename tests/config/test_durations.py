"""Durations and sizes as people write them."""

import pytest

from mcp_gateway.config.durations import duration_s, size_bytes


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("500ms", 0.5),
        ("300ms", 0.3),
        ("5s", 5.0),
        ("1.5s", 1.5),
        ("2m", 120.0),
        ("24h", 86400.0),
        ("1d", 86400.0),
        ("0s", 0.0),
        ("5", None),
        ("-5s", None),
        ("5 s", None),
        ("5sec", None),
        ("s", None),
        ("", None),
        ("1e3s", None),
        ("9999999999s", None),
        ("٥s", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize(
    "text, size",
    [
        ("4MiB", 4 * 2**20),
        ("256KiB", 256 * 2**10),
        ("1GiB", 2**30),
        ("512B", 512),
        ("4096", 4096),
        ("4MB", None),
        ("1.5MiB", None),
        ("-1", None),
        ("", None),
    ],
)
def test_sizes(text: str, size: int | None) -> None:
    assert size_bytes(text) == size
