"""Task ids as clients see them: whose a task is and where it runs, sealed.

Owns what such an id says. Deliberately keeps nothing, so that an id outlives the
process that made it as long as the keys do. Pure. Invariant: an id opens for the
client that it was made for, where it was made and in its era, and for nobody else;
a server's id of a task gives one client always the same id (as long as the first key
stays).

Spec: MCP 2025-11-25 basic/utilities/tasks, "Task Isolation and Access Control"; SEP-2663, "Security Implications".
"""

import hashlib
from typing import Final

import attrs

from mcp_gateway.protocol import json_text
from mcp_gateway.protocol.eras import Family
from mcp_gateway.sessions.signed import Purpose, Signer
from mcp_gateway.values import BackendKey

MAX_UPSTREAM_CHARS: Final = 1024
"""Of a server's own id: what clients get fits into a header, and a store of theirs."""


@attrs.frozen(kw_only=True)
class TaskOwner:
    """Whose tasks are meant."""

    realm: str
    """Where: the gateway and the virtual server of its path."""
    family: Family
    """The era of the client, which is the task's own: tasks are not bridged."""
    principal: bytes
    """Digest of who it is."""
    session: str = ""
    """``session_digest`` of the client session, where nothing else tells 2025 clients apart."""
    shared_with: str = ""
    """Who owns it beside or instead of them; nobody yet."""


@attrs.frozen(kw_only=True)
class TaskRef:
    """One task at its server."""

    server: BackendKey
    upstream: str
    """The server's own id."""


def session_digest(key: str) -> str:
    """What an id says of the client session: nothing that leads to the session's own id."""
    return hashlib.blake2s(key.encode(), digest_size=8).hexdigest()


def seal(signer: Signer, owner: TaskOwner, task: TaskRef) -> str:
    """The id under which its owner knows a task: visible ASCII."""
    return signer.seal(Purpose.TASK, owner.realm, json_text.dumps([*_of(owner), task.server, task.upstream]))


def read(signer: Signer, owner: TaskOwner, token: str) -> TaskRef | None:
    """What ``seal`` wrote for this owner; None for anything else."""
    payload = signer.open(Purpose.TASK, owner.realm, token)
    value = None if payload is None else json_text.parse(payload)
    if not isinstance(value, list) or value[:-2] != _of(owner):
        return None
    return TaskRef(server=BackendKey(str(value[-2])), upstream=str(value[-1]))


def _of(owner: TaskOwner) -> list[str]:
    return [owner.family.value, owner.principal.hex(), owner.session, owner.shared_with]
