"""Bytes to lines, with a bound.

Owns the cutting of a child's output. Deliberately no I/O and no JSON.
Invariant: never holds more than its bound; what is longer comes out as its
head, and the rest up to the next newline is let go.
"""

import attrs

HEAD_BYTES = 256
"""What is kept of a line that is too long: enough to see whose answer it was."""


_BOM = b"\xef\xbb\xbf"
"""Programs on .NET begin their output with it."""


@attrs.frozen(kw_only=True)
class LongLine:
    """The first bytes of a line above the bound."""

    head: bytes = attrs.field(repr=False)


@attrs.define(eq=False)
class LineCutter:
    """Cuts chunks, cut anywhere themselves, into lines of at most ``max_bytes``."""

    max_bytes: int
    _begun: bytearray = attrs.field(factory=bytearray, init=False, repr=False)
    """The line that is not complete yet: a list of short pieces would be many times the bound."""
    _skipping: bool = attrs.field(default=False, init=False)

    def feed(self, chunk: bytes) -> list[bytes | LongLine]:
        """The lines that ``chunk`` completes, without line ends or a mark of byte order; blank ones are left out."""
        found: list[bytes | LongLine] = []
        *whole, rest = chunk.split(b"\n")
        for piece in whole:
            self._add(piece, found)
            line = bytes(self._begun).removeprefix(_BOM).strip()
            if line:
                found.append(line)
            self._begun.clear()
            self._skipping = False
        self._add(rest, found)
        return found

    def end(self) -> list[bytes | LongLine]:
        """The last line, which had no line end."""
        return self.feed(b"\n")

    def _add(self, piece: bytes, found: list[bytes | LongLine]) -> None:
        if self._skipping:
            return
        if len(self._begun) + len(piece) > self.max_bytes:
            found.append(LongLine(head=(bytes(self._begun[:HEAD_BYTES]) + piece[:HEAD_BYTES])[:HEAD_BYTES]))
            self._begun.clear()
            self._skipping = True
        else:
            self._begun += piece
