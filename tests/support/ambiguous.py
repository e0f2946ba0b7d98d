"""Requests that could be read in two ways, or that are none: each must be refused, and end its connection.

Owns the bytes. Deliberately says not how they are refused. Each is followed by ``SMUGGLED``, which nobody may answer.
"""

from collections.abc import Iterator
from typing import Final

SMUGGLED: Final = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"

_LINES: Final = (
    *(b"GET  %b HTTP/1.1", b"GET %b  HTTP/1.1", b" GET %b HTTP/1.1", b"GET\t%b HTTP/1.1", b"GET %b\tHTTP/1.1"),
    *(b"GET %b HTTP/1.1 ", b"GET %b HTTP/1.1\t", b"GET %b HTTP/2.0", b"GET %b HTTP/2", b"GET %b HTTP/3.0"),
    *(b"GET %b HTTP/1.2", b"GET %b HTTP/0.9", b"GET %b HTTP/1.10", b"GET %b HTTP/11", b"GET %b http/1.1"),
    *(b"GET %b HTTP/1,1", b"GET %b HTTP /1.1", b"GET %b HTTP/1.1x", b"GET %b HTTP/", b"GET %b HTTPS/1.1", b"GET %b"),
    *(b"GET %b x HTTP/1.1", b"get %b HTTP/1.1", b"G ET %b HTTP/1.1", b"FOO %b HTTP/1.1", b"\0GET %b HTTP/1.1"),
    *(b"GET\0 %b HTTP/1.1", b"GE:T %b HTTP/1.1", b"GET http://x%b HTTP/1.1", b"GET https://x%b HTTP/1.1"),
    *(b"GET x%b HTTP/1.1", b"GET x:80%b HTTP/1.1", b"GET %b#x HTTP/1.1", b"GET \\%b HTTP/1.1", b"GET %b\x80 HTTP/1.1"),
    *(b"GET %b\0 HTTP/1.1", b"GET %b\x7f HTTP/1.1", b"GET %b\x0b HTTP/1.1", b"GET *%b HTTP/1.1", b"GET ?%b HTTP/1.1"),
    *(b"CONNECT x:80%b HTTP/1.1", b"GET %b HTTP/1.1\r", b"GET \r%b HTTP/1.1", b"RTSP %b RTSP/1.0", b": %b HTTP/1.1"),
)
_FIXED_LINES: Final = (
    *(b"GET", b"GET ", b"x", b"OPTIONS * HTTP/1.1", b"GET HTTP/1.1", b"CONNECT x:80 HTTP/1.1", b"GET mcp HTTP/1.1"),
    *(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0", b"HTTP/1.1 200 OK", b"Host: x"),
)
_FIELDS: Final = (
    *(b"X : 1", b"X\t: 1", b" X: 1", b"\tX: 1", b": 1", b"X", b"X 1", b"X\0: 1", b"X\x01: 1", b"\x80: 1", b"X(: 1"),
    *(b'"X": 1', b"X@: 1", b"X/: 1", b"X{: 1", b"X[: 1", b"X: a\0b", b"X: a\rb", b"X: a\x01b", b"X: a\nb", b"X: \x0bb"),
    *(b"X: 1\r\n 2", b"X: 1\r\n\t2", b"X:\r\n 2", b"Host:\r\n x", b"Content-Length:\r\n 2", b"Host: x", b"host: y"),
    *(b"Transfer-Encoding:\r\n chunked", b"X: 1\r\r", b"Expect: 200-ok", b"Expect: 100-continue, x"),
    *(b"Expect: 100-continue\r\nExpect: 100-continue", b"X\r: 1", b"X\n: 1"),
)
_HOSTS: Final = (
    *(b"", b" ", b"a b", b"a/b", b"u@a", b"a:b:c", b"[::1", b"a:9x", b"http://a", b"a?b", b"a#b", b"a\\b", b"a\tb"),
    *(b"a\x80", b"<a>", b"[a]x", b'"a"', b"a^b", b"a|b"),
)
_LENGTHS: Final = (
    *(
        b"",
        b"+2",
        b"-2",
        b"0x2",
        b"2 2",
        b"2,2",
        b"2, 2",
        b"2;",
        b"two",
        b"1e1",
        b"2.0",
        b"\xb2",
        b"2\x0b",
        b"_2",
        b"2_0",
    ),
    *(b"2_0", b"18446744073709551616", b"99999999999999999999", b"2\r\nContent-Length: 2", b"2\r\nContent-Length: 3"),
    *(b"2\r\ncontent-LENGTH: 0", b"0\r\nContent-Length: 2"),
)
_CODINGS: Final = (
    *(b"", b"identity", b"gzip", b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"chunked;q=1", b'"chunked"'),
    *(
        b"xchunked",
        b"chunkedx",
        b"chunked,",
        b",chunked",
        b"\x0bchunked",
        b"chunked\x0b",
        b"chunk ed",
        b"chunked identity",
    ),
    *(
        b"chunked\r\nTransfer-Encoding: chunked",
        b"chunked\r\nTransfer-Encoding: identity",
        b"chunked\r\nContent-Length: 2",
    ),
    *(b"gzip\r\nTransfer-Encoding: chunked", b"chunked\r\nContent-Length: 0", b"identity\r\nContent-Length: 2"),
)
_CHUNKS: Final = (
    *(b"\r\n{}\r\n0\r\n\r\n", b"g\r\n{}\r\n0\r\n\r\n", b"0x2\r\n{}\r\n0\r\n\r\n", b"-2\r\n{}\r\n0\r\n\r\n"),
    *(b"+2\r\n{}\r\n0\r\n\r\n", b"2 \r\n{}\r\n0\r\n\r\n", b" 2\r\n{}\r\n0\r\n\r\n", b"\t2\r\n{}\r\n0\r\n\r\n"),
    *(
        b"2\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\n0\r\n\r\n",
        b"2\r\n{}0\r\n\r\n",
        b"2\r\n{}x\r\n0\r\n\r\n",
        b"1\r\n{}\r\n0\r\n\r\n",
    ),
    *(b"2\r{}\r\n0\r\n\r\n", b"2_0\r\n{}\r\n0\r\n\r\n", b"2.0\r\n{}\r\n0\r\n\r\n", b"2;a\nb\r\n{}\r\n0\r\n\r\n"),
    *(b"2;a\rb\r\n{}\r\n0\r\n\r\n", b"2;\0\r\n{}\r\n0\r\n\r\n", b"10000000000000000\r\n{}\r\n0\r\n\r\n"),
    *(b"ffffffffffffffffff\r\n{}\r\n0\r\n\r\n", b"2\r\n{}\r\n0\r\nX\r\n\r\n", b"2\r\n{}\r\n0\r\nX: a\nb\r\n\r\n"),
    *(b"2\r\n{}\r\n0\r\nX: 1\r\n 2\r\n\r\n", b"2\r\n{}\r\n0\r\nX : 1\r\n\r\n", b"2\r\n{}\r\n0\r\nX: \0\r\n\r\n"),
    *(b"2\r\n{}\r\n0\n\n", b"2\r\n{}\r\n0\r\n\n", b"2\r\n{}\r\n\r\n\r\n", b"2\r\n{}\r\n0 \r\n\r\n", b"0;\n\r\n\r\n"),
    *(b"2\r\n{}\r\n0\r\nContent-Length: 5\r\n\r\n", b"2\r\n{}\r\n0\r\nTransfer-Encoding: gzip, x\r\n\r\n"),
)


def ambiguous(path: bytes) -> Iterator[bytes]:
    """Every request of the corpus, to one path, with ``SMUGGLED`` behind it."""
    for request in _all(path):
        yield request + SMUGGLED


def _all(path: bytes) -> Iterator[bytes]:
    for line in [each.replace(b"%b", path) for each in _LINES] + list(_FIXED_LINES):
        yield line + b"\r\nHost: x\r\n\r\n"
    get, post = b"GET %b HTTP/1.1\r\nHost: x\r\n" % path, b"POST %b HTTP/1.1\r\nHost: x\r\n" % path
    for field in _FIELDS:
        yield get + field + b"\r\n\r\n"
    for host in _HOSTS:
        yield b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path, host)
    for length in _LENGTHS:
        yield post + b"Content-Length: %b\r\n\r\n{}" % length
        yield b"POST %b HTTP/1.0\r\nContent-Length: %b\r\n\r\n{}" % (path, length)
    for coding in _CODINGS:
        yield post + b"Transfer-Encoding: %b\r\n\r\n2\r\n{}\r\n0\r\n\r\n" % coding
    for chunks in _CHUNKS:
        yield post + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
    yield b"GET %b HTTP/1.1\r\n\r\n" % path
    for empty in (b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" \r\n"):
        yield empty + b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path
    yield b"GET %b HTTP/1.1\nHost: x\n\n" % path
    yield b"GET %b HTTP/1.1\r\nHost: x\n\r\n" % path
    yield b"GET %b HTTP/1.1\r\nHost: x\r\n\n" % path
    yield b"GET %b HTTP/1.1\r\nHost: x\r\r\n\r\n" % path
    yield b"GET %b HTTP/1.1\n\rHost: x\n\r\n\r" % path
    yield b"POST %b HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" % path
    yield b"POST %b HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\nHost: x\r\n\r\n0\r\n\r\n" % path
    yield get + b"X: " + b"y" * 32768 + b"\r\n\r\n"
    yield get + b"X: 1\r\n" * 300 + b"\r\n"
    yield post + b"Transfer-Encoding: chunked\r\n\r\n2;" + b"y" * 32768 + b"\r\n{}\r\n0\r\n\r\n"
    yield post + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"y" * 32768 + b"\r\n\r\n"
