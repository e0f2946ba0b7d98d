"""The public listener's reader beside h11, which Hypercorn reads with: the same bytes, the same requests.

Where they differ ours must be the stricter one: it refuses at a request that h11 takes, never the other way round, and
the kinds are listed in ``STRICTER``.
"""

from collections.abc import Sequence

import h11
from hypothesis import event, example, given
from hypothesis import strategies as st

from mcp_gateway.front.http1.request_reader import HEAD_BYTES, Malformed, RequestReader
from tests.support.ambiguous import ambiguous

Request = tuple[bytes, bytes, bytes]
"""Method, target, body."""

STRICTER = """
    obsolete folding; several expectations, or another than 100-continue
    absolute-form, authority-form and asterisk-form targets, fragments, bytes above ASCII in targets
    HTTP versions but 1.0 and 1.1; methods that nobody has registered; white space around the request line's parts
    a Host that is no host and port, or empty; a Host twice in HTTP/1.0
    Content-Length with Transfer-Encoding (h11 prefers the latter), the same length twice
    chunked in HTTP/1.0; framing fields in trailers; bare LF in chunk sizes and heads; control characters
"""


def ours(pieces: Sequence[bytes]) -> tuple[list[Request], bool]:
    """The requests until one is refused (True) or the bytes end."""
    reader, found, head = RequestReader(), list[Request](), None
    try:
        for piece in pieces:
            reader.feed(piece)
            while head is not None or (head := reader.head()) is not None:
                reader.read_body()
                if not reader.complete:
                    break
                found.append((head.method.encode(), head.target, reader.take_body()))
                head = None
                if not reader.keep_alive:
                    return found, False
    except Malformed:
        return found, True
    return found, False


def theirs(pieces: Sequence[bytes]) -> tuple[list[Request], bool]:
    """The same by h11, as Hypercorn uses it."""
    connection, found = h11.Connection(h11.SERVER, HEAD_BYTES), list[Request]()
    request, body = None, b""
    try:
        for piece in pieces:
            connection.receive_data(piece)
            while True:
                happened = connection.next_event()
                if isinstance(happened, h11.Request):
                    request, body = happened, b""
                elif isinstance(happened, h11.Data):
                    body += happened.data
                elif isinstance(happened, h11.EndOfMessage):
                    assert request is not None
                    found.append((request.method, request.target, body))
                    if request.method == b"CONNECT":  # a tunnel would begin; we know no such method
                        return found, False
                    connection.send(h11.Response(status_code=204, headers=[]))
                    connection.send(h11.EndOfMessage())
                    if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                        return found, False
                    connection.start_next_cycle()
                else:
                    break
    except h11.RemoteProtocolError:
        return found, True
    return found, False


_PARTS = [
    *(b"GET", b"POST", b"FOO", b"PRI", b" ", b"  ", b"\t", b"/mcp", b"/a?b", b"*", b"http://x/", b"#f", b"\xff"),
    *(
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"HTTP/2.0",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b"Host: x\r\n",
        b"Host: y\r\n",
        b"Host:",
    ),
    *(b"Content-Length: 2\r\n", b"Content-Length: 0\r\n", b"Content-Length:", b"Host:"),
    *(b"Transfer-Encoding: chunked\r\n", b"X: y\r\n"),
    *(
        b"Transfer-Encoding: gzip\r\n",
        b"2\r\n{}\r\n",
        b"0\r\n\r\n",
        b"{}",
        b";a=b",
        b"Expect: 100-continue\r\n",
        b"X: y\r\n",
    ),
    *(
        b"Connection: close\r\n",
        b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
        b"X: \x01",
        b"X : y\r\n",
        b" folded\r\n",
        b"\0",
    ),
    *(b"GET /mcp HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"),
    b"POST /mcp HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\nHost: x\r\n",
]
_CORPUS = sorted(raw for raw in ambiguous(b"/mcp") if len(raw) < 1000)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A few requests in order, or out of order, with something else in between."""
    raw = draw(st.sampled_from(_PARTS[-4:-1] + _CORPUS)) + draw(st.sampled_from(_PARTS[-4:-1]))
    for _ in range(draw(st.integers(0, 3))):
        at, drop = draw(st.integers(0, len(raw))), draw(st.integers(0, 3))
        raw = raw[:at] + draw(st.sampled_from([b"", *_PARTS])) + raw[at + drop :]
    return raw


@given(mutated() | st.lists(st.sampled_from(_PARTS), max_size=12).map(b"".join), st.integers(1, 50))
@example(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 1)
def test_what_we_read_h11_reads_too(raw: bytes, cut: int) -> None:
    pieces = [raw[at : at + cut] for at in range(0, len(raw), cut)]
    found, refused = ours(pieces)
    assert ours([raw]) == (found, refused)
    known, rejected = theirs(pieces)
    event(f"{len(found)} read, {'refused' if refused else 'not refused'}, h11 {'did' if rejected else 'did not'}")
    assert known[: len(found)] == found
    assert refused or len(known) == len(found)  # h11 may refuse a head that has not come whole: nobody was served
