"""The coming up of one link: how long it may take, and what a process says meanwhile.

Owns the deadline of an opening and its extension. Deliberately opens nothing itself
(``Connector.link``) and does not try again (``supervisor``). Invariant: an opening ends
within ``timeouts.connect``, or, of a process, within ``timeouts.start`` after it last
wrote to standard error, and within ``LONGEST_S`` in any case.

Why: the first start of a command such as ``uvx`` or ``npx`` downloads it. Ended too early, it
begins anew with every attempt and never comes up; what it says tells work from a hang.
"""

import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from mcp_gateway.backends.connector import Connection, Connector, Verdict
from mcp_gateway.backends.transports.base import ClientIdentity, Hear
from mcp_gateway.config.spec import ServerSpec, StdioTarget
from mcp_gateway.errors import BackendTimeout, Executed, Limit
from mcp_gateway.values import BackendKey

LONGEST_S: Final = 300.0
"""For a process that goes on writing; ``timeouts.start`` may be longer."""
KEPT_BYTES: Final = 2000
WORDS_CHARS: Final = 200

_STEERING: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
"""Control sequences of terminals: colours, and what draws a progress bar."""


@attrs.define(eq=False, kw_only=True)
class Start:
    """One attempt to open a link."""

    backend: BackendKey
    limit: Limit
    """Which limit bounds it."""
    patience_s: float
    """How long it may take; of a process, after each time that it wrote to standard error."""
    longest_s: float
    began_at: float = attrs.field(factory=trio.current_time)
    running: bool = False
    """It is being opened."""
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _tail: bytes = attrs.field(default=b"", repr=False)

    @classmethod
    def of(cls, spec: ServerSpec) -> "Start":
        """An attempt that begins now."""
        times = spec.timeouts
        if isinstance(spec.target, StdioTarget):
            longest_s = max(LONGEST_S, times.start_s)
            return cls(backend=spec.key, limit=Limit.START, patience_s=times.start_s, longest_s=longest_s)
        return cls(backend=spec.key, limit=Limit.CONNECT, patience_s=times.connect_s, longest_s=times.connect_s)

    @property
    def said(self) -> str:
        """The last line that the process has written to standard error, for people; empty: nothing yet."""
        text = _STEERING.sub("", self._tail.decode(errors="replace"))
        lines = ("".join(char if char.isprintable() else " " for char in line).strip() for line in text.splitlines())
        return next((line for line in reversed(list(lines)) if line), "")[:WORDS_CHARS]

    def heard(self, chunk: bytes) -> None:
        """The process wrote to standard error: it works."""
        self._tail = (self._tail + chunk)[-KEPT_BYTES:]
        if self.running and not self._scope.cancel_called:
            longest_at = self.began_at + self.longest_s
            self._scope.deadline = max(self._scope.deadline, min(trio.current_time() + self.patience_s, longest_at))

    @asynccontextmanager
    async def link(
        self, connector: Connector, verdict: Verdict, identity: ClientIdentity, unattributed: Hear
    ) -> AsyncIterator[Connection]:
        """Open a link under the deadline; the body runs without it. To be entered once.

        Raises:
            BackendTimeout: not open in time; nothing was executed.
            as ``Connector.link``.
        """
        self._scope.deadline, self.running = self.began_at + self.patience_s, True
        try:
            with self._scope:
                async with connector.link(verdict, identity, unattributed, self.heard) as connection:
                    self._scope.deadline, self.running = math.inf, False
                    yield connection
                return
        finally:
            self.running = False
        after_s = self._scope.deadline - self.began_at
        raise BackendTimeout(
            backend=self.backend, after_s=after_s, limit=self.limit, executed=Executed.NO, request=verdict.opening
        )


async def detect(connector: Connector, spec: ServerSpec) -> Verdict:
    """``Connector.detect`` within ``timeouts.connect``.

    Raises:
        BackendTimeout: it took longer. As ``Connector.detect``.
    """
    connect_s = spec.timeouts.connect_s
    with trio.move_on_after(connect_s):
        return await connector.detect()
    raise BackendTimeout(
        backend=spec.key,
        after_s=connect_s,
        limit=Limit.CONNECT,
        executed=Executed.NO,
        request="server/discover" if spec.protocol is not None else "initialize",
    )
