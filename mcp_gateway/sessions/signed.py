"""Tokens that only this gateway can have made: ids of sessions, events and tasks, request states, cursors.

Owns the signature and what a session id says. Deliberately no store, no clock and
no randomness: nonce and time come in as arguments. Invariant: a token of one
purpose or gateway is never accepted as one of another, and only the exact
characters that were sealed open again (docs/architecture.md).
"""

import hmac
import struct
from base64 import urlsafe_b64encode
from binascii import a2b_base64
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

import attrs

from mcp_gateway.errors import LocalFault
from mcp_gateway.protocol.capabilities import NAMES

MAC_BYTES: Final = 16
NONCE_BYTES: Final = 16
DIGEST_BYTES: Final = 8
MAX_ID_CHARS: Final = 256
"""A session id is at most this long (docs/configuration.md)."""

_FORMAT: Final = "1."
_FROM_URL: Final = str.maketrans("-_", "+/", "+/")  # and "+" and "/", which base64url does not have, go


class Purpose(Enum):
    """What a token is for; each purpose has a key of its own."""

    SESSION = "session"
    REQUEST_STATE = "request-state"
    CURSOR = "cursor"
    EVENT = "event"
    TASK = "task"


@attrs.frozen
class Signer:
    """Seals and opens tokens. The first key signs, all of them verify, so keys can be rotated.

    Raises:
        LocalFault: no key, or an empty one.
    """

    keys: tuple[bytes, ...] = attrs.field(repr=False)
    _derived: Mapping[Purpose, tuple[bytes, ...]] = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        if not self.keys or not all(self.keys):
            raise LocalFault(what="a signer needs keys that are not empty")
        derived = {
            # As HKDF-Expand with one block: the purpose is the info.
            purpose: tuple(
                hmac.digest(key, b"mcp-gateway/1/%b\x01" % purpose.value.encode(), "sha256") for key in self.keys
            )
            for purpose in Purpose
        }
        object.__setattr__(self, "_derived", MappingProxyType(derived))

    def seal(self, purpose: Purpose, gateway: str, payload: bytes) -> str:
        """``1.`` and base64url of payload and MAC, without padding. The payload is signed, not hidden."""
        mac = _mac(self._derived[purpose][0], gateway, payload)
        return _FORMAT + _encoded(payload + mac)

    def open(self, purpose: Purpose, gateway: str, token: str) -> bytes | None:
        """The sealed payload, or None for anything that ``seal`` did not make for this purpose and gateway.

        Takes the same time whichever key fits. Never raises, whatever ``token`` holds.
        """
        sealed = _decoded(token)
        if sealed is None or len(sealed) < MAC_BYTES:
            return None
        payload, mac = sealed[:-MAC_BYTES], sealed[-MAC_BYTES:]
        fits = False
        for key in self._derived[purpose]:
            fits |= hmac.compare_digest(_mac(key, gateway, payload), mac)
        return payload if fits else None


def _mac(key: bytes, gateway: str, payload: bytes) -> bytes:
    name = gateway.encode()
    # The length keeps ("ab", "c") and ("a", "bc") apart.
    return hmac.digest(key, struct.pack(">I", len(name)) + name + payload, "sha256")[:MAC_BYTES]


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decoded(token: str) -> bytes | None:
    if not token.startswith(_FORMAT):
        return None
    text = token[len(_FORMAT) :]
    try:
        data = a2b_base64(text.translate(_FROM_URL) + "=" * (-len(text) % 4), strict_mode=True)
    except ValueError:  # bad base64, or not ASCII
        return None
    # Spare bits and foreign characters would give one payload many spellings.
    return data if _encoded(data) == text else None


_OWNED: Final = b"\0"
"""Between the version and the owner, if there is one."""
_FIXED: Final = struct.Struct(f">{NONCE_BYTES}sI{DIGEST_BYTES}sQ")


@attrs.frozen(kw_only=True)
class SessionId:
    """What a session id says of its session, so that it outlives the process that made it."""

    nonce: bytes = attrs.field(repr=False)
    """``NONCE_BYTES`` random bytes."""
    version: str
    """The negotiated protocol version."""
    capabilities: frozenset[str]
    """Names out of ``capabilities.NAMES``; others are not remembered."""
    principal: bytes
    """``DIGEST_BYTES`` of whom the session belongs to."""
    gateway: str
    issued_unix_s: int
    owner: str = ""
    """The process that holds what belongs to it, ASCII; "" for none: it can live anywhere."""

    key: str = attrs.field(
        init=False, repr=False, default=attrs.Factory(lambda self: self.nonce.hex(), takes_self=True)
    )
    """What the session is called inside the gateway; it does not lead to the id."""

    def encode(self, signer: Signer) -> str:
        """The id as it goes over the wire: visible ASCII, at most ``MAX_ID_CHARS``.

        Raises:
            LocalFault: a field of the wrong size.
        """
        if (
            len(self.nonce) != NONCE_BYTES
            or len(self.principal) != DIGEST_BYTES
            or not 0 <= self.issued_unix_s < 1 << 64
        ):
            raise LocalFault(what="a session id with a field of the wrong size")
        bits = sum(1 << bit for bit, name in enumerate(NAMES) if name in self.capabilities)
        fixed = _FIXED.pack(self.nonce, bits, self.principal, self.issued_unix_s)
        owner = _OWNED + self.owner.encode() if self.owner else b""
        text = signer.seal(Purpose.SESSION, self.gateway, fixed + self.version.encode() + owner)
        if len(text) > MAX_ID_CHARS:
            raise LocalFault(what=f"a session id of more than {MAX_ID_CHARS} characters")
        return text

    @classmethod
    def decode(cls, signer: Signer, gateway: str, text: str) -> "SessionId | None":
        """What ``encode`` wrote; None for anything else (answer 404: the client initializes again).

        Bits of capabilities that this version does not know make the id unknown too: to forget
        a capability silently would change the session.
        """
        if len(text) > MAX_ID_CHARS:
            return None
        payload = signer.open(Purpose.SESSION, gateway, text)
        if payload is None or len(payload) < _FIXED.size:
            return None
        nonce, bits, principal, issued_unix_s = _FIXED.unpack_from(payload)
        version, owned, owner = payload[_FIXED.size :].partition(_OWNED)
        if bits >> len(NAMES) or not version.isascii() or not owner.isascii() or bool(owned) is not bool(owner):
            return None
        return cls(
            nonce=nonce,
            version=version.decode("ascii"),
            capabilities=frozenset(name for bit, name in enumerate(NAMES) if bits >> bit & 1),
            principal=principal,
            gateway=gateway,
            issued_unix_s=issued_unix_s,
            owner=owner.decode("ascii"),
        )
