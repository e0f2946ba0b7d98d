"""Who is calling.

Owns ``Principal``. Deliberately no verification (its own issue brings it); until
then everybody is ``ANONYMOUS``, a real value that is passed everywhere.
"""

from typing import Final

import attrs


@attrs.frozen(kw_only=True)
class Principal:
    """One authenticated caller; ``digest`` is what ids and states are bound to (8 bytes)."""

    subject: str
    digest: bytes


ANONYMOUS: Final = Principal(subject="anonymous", digest=b"\0" * 8)
