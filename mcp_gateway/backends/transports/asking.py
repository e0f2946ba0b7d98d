"""Which of the gateway's own requests has failed.

Owns the naming, so that who looks after a server is told what it refused. Deliberately
sends nothing. Invariant: the innermost name stands.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from mcp_gateway.errors import BackendError


@contextmanager
def asking(request: str) -> Iterator[None]:
    """Name the request in a ``BackendError`` that leaves the block without a name."""
    try:
        yield
    except BackendError as error:
        if error.request:
            raise
        raise attrs.evolve(error, request=request) from error
