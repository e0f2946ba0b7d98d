"""Trace context and request ids."""

from contextvars import copy_context

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.telemetry.trace import TraceParent, note_request, parse_traceparent, request_id, trace_id
from mcp_gateway.values import Header

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.mark.parametrize(
    "text, sampled",
    [
        (f"00-{TRACE}-{PARENT}-01", True),
        (f"00-{TRACE}-{PARENT}-00", False),
        (f" 00-{TRACE}-{PARENT}-01 ", True),
        (f"cc-{TRACE}-{PARENT}-01", True),
        (f"cc-{TRACE}-{PARENT}-01-what-the-future-brings", True),
    ],
)
def test_a_traceparent_is_read(text: str, sampled: bool) -> None:
    found = parse_traceparent(text)
    assert found is not None
    assert (found.trace_id, found.parent_id, found.sampled) == (TRACE, PARENT, sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-1",
        f"00_{TRACE}_{PARENT}_01",
        f"00-{TRACE}-{PARENT}-01\n00",
    ],
)
def test_a_malformed_traceparent_is_treated_as_absent(text: str) -> None:
    assert parse_traceparent(text) is None


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8), st.integers(0, 255))
def test_what_is_written_is_read_back(trace: bytes, parent: bytes, flags: int) -> None:
    written = TraceParent(trace_id=trace.hex(), parent_id=parent.hex(), flags=flags)
    assert parse_traceparent(str(written)) == (written if any(trace) and any(parent) else None)


def noted(*headers: Header) -> tuple[str, str]:
    def run() -> tuple[str, str]:
        note_request(dict(headers))
        return request_id.get(), trace_id.get()

    return copy_context().run(run)


def test_a_sane_request_id_and_a_trace_are_kept() -> None:
    traceparent = f"00-{TRACE}-{PARENT}-01".encode()
    assert noted((b"x-request-id", b"abc-1"), (b"traceparent", traceparent)) == ("abc-1", TRACE)


@pytest.mark.parametrize("value", [b"", b"two words", b"x" * 129, b"a\x00b", b"\xff"])
def test_any_other_request_id_is_replaced(value: bytes) -> None:
    first, second = noted((b"x-request-id", value)), noted((b"x-request-id", value))
    assert len(first[0]) == 16
    assert first[0] != second[0]


def test_a_malformed_trace_leaves_none() -> None:
    assert noted((b"traceparent", b"\xff"))[1] == ""
