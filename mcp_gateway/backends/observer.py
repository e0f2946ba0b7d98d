"""What the backends tell the metrics.

Owns the protocol only; ``telemetry.metrics`` fits it. Deliberately nothing a call
waits for. Invariant: every argument that may become a label is from a bounded set.
"""

from typing import Final, Protocol


class Observer(Protocol):
    """Told plainly, never awaited."""

    def server_state(self, server: str, state: str) -> None:
        """The health of a backend became a different one."""

    def discovery(self, server: str, duration_s: float, *, ok: bool) -> None:
        """A discovery, or the attempt to connect for one, has ended."""

    def items(self, server: str, *, tools: int, prompts: int, resources: int) -> None:
        """What the last good discovery found."""

    def reconnected(self, server: str) -> None:
        """The gateway's own connection was opened again."""

    def late_answer(self, server: str) -> None:
        """An answer came for a call that had ended."""

    def message_skipped(self, server: str) -> None:
        """Something came where a message should be, and is none."""

    def kept_connection_lost(self, server: str) -> None:
        """A request was sent on a connection that was kept, and the backend closed that without a word."""


class Silent:
    """An observer that does not look."""

    def server_state(self, server: str, state: str) -> None: ...

    def discovery(self, server: str, duration_s: float, *, ok: bool) -> None: ...

    def items(self, server: str, *, tools: int, prompts: int, resources: int) -> None: ...

    def reconnected(self, server: str) -> None: ...

    def late_answer(self, server: str) -> None: ...

    def message_skipped(self, server: str) -> None: ...

    def kept_connection_lost(self, server: str) -> None: ...


SILENT: Final[Observer] = Silent()
