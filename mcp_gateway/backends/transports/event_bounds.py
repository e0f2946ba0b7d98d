"""How large the events of one backend may be.

Owns which setting bounds which event: an answer may be as large as one that comes as JSON,
anything else is bounded by ``limits.eventBytes``. Deliberately reads nothing. Pure.
"""

from mcp_gateway.config.spec import BackendLimits
from mcp_gateway.errors import BackendTooLarge
from mcp_gateway.protocol import jsonrpc
from mcp_gateway.protocol.sse import Larger, SseDecoder
from mcp_gateway.values import BackendKey


def decoder_for(limits: BackendLimits) -> SseDecoder:
    """A decoder for one event stream."""
    return SseDecoder(limits.event_bytes, Larger(begins=jsonrpc.begins_answer, max_bytes=limits.response_bytes))


def too_large(key: BackendKey, decoder: SseDecoder) -> BackendTooLarge:
    """What to raise when the decoder has refused an event."""
    limit = "limits.responseBytes" if decoder.bound > decoder.max_event_bytes else "limits.eventBytes"
    return BackendTooLarge(backend=key, limit=limit, bound=decoder.bound)


def above_response_bytes(key: BackendKey, limits: BackendLimits, answer: bytes) -> BackendTooLarge | None:
    """What to raise for an answer event that passed as an event, but is too large for an answer; None: it is not."""
    if len(answer) <= limits.response_bytes:
        return None
    return BackendTooLarge(backend=key, limit="limits.responseBytes", bound=limits.response_bytes)
