"""Who is calling.

Owns ``Principal``. Deliberately verifies nothing: without verification everybody
is ``ANONYMOUS``. Invariant: there is always a principal, a real value that is
passed everywhere.
"""

from typing import Final

import attrs


@attrs.frozen(kw_only=True)
class Principal:
    """One authenticated caller; ``digest`` is what ids and states are bound to (8 bytes)."""

    subject: str
    digest: bytes


ANONYMOUS: Final = Principal(subject="anonymous", digest=b"\0" * 8)
