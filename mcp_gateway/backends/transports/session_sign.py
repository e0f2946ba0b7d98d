"""What an answer says of the session that it was asked in.

Owns the table of answers by which servers say, in so many ways, that they no longer know
a session. Deliberately neither waits nor counts (``doubts``), and knows no connection. Pure.
Invariant: a session is lost, and a request not executed, only where the answer cannot be
that of a tool: HTTP 404, or words about a session that do not carry our request's id.

Spec: "The server MAY terminate the session at any time, after which it MUST respond to requests
containing that session ID with HTTP 404 Not Found." -- MCP 2025-11-25 basic/transports, Session
Management; what servers do instead is a table in the tests.
"""

import re
from enum import Enum
from typing import Final

from mcp_gateway.errors import RemoteFault
from mcp_gateway.protocol import jsonrpc

METHOD_NOT_FOUND: Final = -32601
WORDS_BYTES: Final = 4096
"""So much of a body is looked through for words."""
JSON: Final = b"application/json"

REFUSING: Final = frozenset({400, 410, 422})
"""What servers answer to a session that they do not know, beside 404."""
_WORDS: Final = re.compile(rb"session|initiali[sz]", re.IGNORECASE)
_UNKNOWN_METHOD: Final = re.compile(rb'"code"\s*:\s*%d\b' % METHOD_NOT_FOUND)


class Sign(Enum):
    """What one answer says of its session."""

    ANSWERED = "answered"
    """It stands: the answer is one of MCP."""
    FAILED = "failed"
    """Nothing by itself; several in a row are suspicious."""
    SUSPICIOUS = "suspicious"
    """It may be lost, or something else may be wrong: ask."""
    LOST = "lost"
    """The server does not know it; the request was not executed."""


def judge(status: int, media_type: bytes, body: bytes, our_id: int | None) -> Sign:
    """Judge the answer to a POST that carried a session id.

    Args:
        media_type: alone, in lower case.
        body: the whole of it, or its beginning; of an event stream the answer's data, with ``application/json``.
        our_id: of the request; None for a notification or a response, which nothing can answer by id.
    """
    parts = _parts(body) if media_type == JSON else None
    if parts is not None and our_id is not None and type(parts.id) is int and parts.id == our_id:
        return _judge_own(status, parts)
    if status == 404:
        return Sign.LOST
    if status < 300:
        return _judge_stray(parts, our_id)
    if status in REFUSING and speaks_of_session(body):
        return Sign.LOST
    return Sign.SUSPICIOUS if status in (401, 403) or status >= 500 else Sign.FAILED


def speaks_of_session(text: bytes) -> bool:
    """Whether words that refuse a request are about the session, or about its being initialized."""
    return _WORDS.search(text, 0, WORDS_BYTES) is not None


def _judge_own(status: int, parts: jsonrpc.AnswerParts) -> Sign:
    """An answer that carries our id goes to the client as it is, for a tool may have made it."""
    if not parts.is_error:
        return Sign.ANSWERED if status < 300 else Sign.FAILED
    if speaks_of_session(parts.result) or status in (401, 403) or status >= 500:
        return Sign.SUSPICIOUS
    # Fronts of stdio servers send "no such method" with 404.
    return Sign.ANSWERED if status < 300 or _UNKNOWN_METHOD.search(parts.result) else Sign.FAILED


def _judge_stray(parts: jsonrpc.AnswerParts | None, our_id: int | None) -> Sign:
    """A success that is no answer of ours: a notice taken, or an error that says that the request was not even read."""
    if our_id is None:
        return Sign.ANSWERED
    # A number may be the id of another request of ours, and then its tool's words.
    unread = parts is not None and parts.is_error and type(parts.id) is not int
    return Sign.LOST if unread and parts is not None and speaks_of_session(parts.result) else Sign.FAILED


def _parts(body: bytes) -> jsonrpc.AnswerParts | None:
    try:
        return jsonrpc.answer_parts(body)
    except RemoteFault:
        return None
