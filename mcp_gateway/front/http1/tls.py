"""The certificate of the public listener, read again when its files change.

Owns the TLS context. Deliberately no sockets. Invariant: a pair of files that cannot be used
together changes nothing: the last good certificate stays, and the log says so once.
"""

import logging
import ssl
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

logger = logging.getLogger(__name__)

LOOK_S: Final = 2.0


@attrs.frozen(kw_only=True, eq=False)
class CertificateError(Exception):
    """Certificate and key cannot be used; ``str()`` is one line for people."""

    cert: Path
    key: Path
    why: str

    def __str__(self) -> str:
        return f"cannot use the certificate {self.cert} with the key {self.key}: {self.why}"


@attrs.define(eq=False, kw_only=True)
class Certificate:
    """A certificate chain and its key, in PEM files."""

    cert: Path
    key: Path
    look_s: float = LOOK_S
    """Between two looks at the files."""
    context: ssl.SSLContext = attrs.field(init=False)
    """For new connections; those that are open keep theirs."""
    _seen: tuple[bytes, bytes] = attrs.field(init=False, repr=False)
    _limiter: trio.CapacityLimiter = attrs.field(init=False, factory=partial(trio.CapacityLimiter, 1), repr=False)

    def __attrs_post_init__(self) -> None:
        """Raises: CertificateError"""
        try:
            self._seen, self.context = self._read(), self._load()
        except (OSError, ssl.SSLError) as exc:
            raise CertificateError(cert=self.cert, key=self.key, why=_why(exc)) from exc

    async def follow(self) -> None:
        """Take over what the files become, until cancelled. Compared by content: renames and symlinks are the same."""
        told = ""
        while True:
            await trio.sleep(self.look_s)
            try:
                seen = await trio.to_thread.run_sync(self._read, abandon_on_cancel=True, limiter=self._limiter)
                if seen == self._seen:
                    continue
                self._seen = seen
                self.context = self._load()
            except (OSError, ssl.SSLError) as exc:
                if told != _why(exc):
                    told = _why(exc)
                    logger.warning("certificate not reloaded", extra={"cert": str(self.cert), "why": told})
            else:
                told = ""
                logger.info("certificate reloaded", extra={"cert": str(self.cert)})

    def _read(self) -> tuple[bytes, bytes]:
        return self.cert.read_bytes(), self.key.read_bytes()

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self.cert, self.key, password=_no_password)
        return context


def _no_password() -> str:
    """Instead of asking at the terminal."""
    raise OSError("the key is encrypted")


def _why(exc: Exception) -> str:
    return getattr(exc, "reason", None) or getattr(exc, "strerror", None) or str(exc)
