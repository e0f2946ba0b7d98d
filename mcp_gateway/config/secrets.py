"""Secrets: ``{env: NAME}``, ``{file: PATH}`` or ``{value: TEXT}``.

Owns where a secret comes from and what it must look like. Deliberately keeps none.
Invariant: a mistake names the variable or the path, never anything of the value.
"""

import ssl
from typing import Final

from mcp_gateway.config.schema import Item, Unfit, fields_of, filled_text

MIN_KEY_BYTES: Final = 16
MAX_CREDENTIAL_BYTES: Final = 8 * 2**10
_FORMS: Final = "{env: NAME}, {file: PATH} or {value: TEXT}"


def secret_bytes(item: Item) -> bytes:
    """The bytes of a secret, without the line end that editors leave at the end of a file."""
    try:
        fields = fields_of(item)
    except Unfit:
        raise Unfit(f"must be {_FORMS}") from None
    sources = [key for key in ("env", "file", "value") if fields.has(key)]
    env = fields.take("env", filled_text, None)
    file = fields.take("file", filled_text, None)
    value = fields.take("value", filled_text, None)
    if len(sources) != 1:
        raise Unfit(f"must be exactly one of {_FORMS}")
    fields.finish()
    if env is not None:
        return _from_environment(item, env)
    if file is not None:
        return _from_file(item, file)
    return b"" if value is None else value.encode("utf-8", "surrogatepass")


def _from_environment(item: Item, name: str) -> bytes:
    value = item.context.environ.get(name)
    if not value:
        raise Unfit(f"environment variable {name} is {'not set' if value is None else 'empty'}")
    return value.encode("utf-8", "surrogateescape")


def _from_file(item: Item, path: str) -> bytes:
    try:
        content = item.context.read_file(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Unfit(f"cannot read file {path}: {why}") from None
    content = content.removesuffix(b"\n").removesuffix(b"\r")
    if not content:
        raise Unfit(f"file {path} is empty")
    return content


def credential(item: Item) -> str:
    """A whole header value: one line of at most 8 KiB."""
    return header_value(secret_bytes(item))


def header_value(content: bytes) -> str:
    """Bytes as the value of one header. Raises Unfit."""
    if len(content) > MAX_CREDENTIAL_BYTES:
        raise Unfit("is longer than 8 KiB")
    if b"\r" in content or b"\n" in content:
        raise Unfit("must not contain a line break")
    if any((byte < 0x20 and byte != 0x09) or byte == 0x7F for byte in content):
        raise Unfit("must not contain control characters")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Unfit("must be UTF-8 text") from None


def signing_key(item: Item) -> bytes:
    """A key for session ids, at least 16 bytes."""
    content = secret_bytes(item)
    if 0 < len(content) < MIN_KEY_BYTES:
        raise Unfit(f"must be at least {MIN_KEY_BYTES} bytes long")
    return content


def certificates(item: Item) -> str:
    """PEM certificates that OpenSSL accepts as authorities."""
    try:
        pem = secret_bytes(item).decode("ascii")
        if pem:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except (ValueError, ssl.SSLError):  # UnicodeDecodeError is a ValueError
        raise Unfit("holds no valid PEM certificate") from None
    return pem
