"""What must be remembered of sessions beyond one process.

Owns the ``SessionStore`` seam. Deliberately tiny: session ids carry their own
content, so a store only has to know which of them were ended by their client. Invariant:
an id that nobody ended is never called ended.
"""

from typing import Protocol


class SessionStore(Protocol):
    """Remembers ended sessions (tombstones) until their ids are too old anyway."""

    async def end(self, key: str, until_unix_s: float) -> None:
        """Remember that the session ``key`` was ended; forget it after ``until_unix_s``."""
        ...

    async def ended(self, key: str) -> bool:
        """Whether the session was ended."""
        ...
