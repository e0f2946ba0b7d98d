"""Values out of users' Secrets: credentials and certificates.

Owns what such a value must look like, and what to do when it cannot be had. Deliberately keeps none and repeats none
in a message. Invariant: only a Secret whose owner has labelled it is used, only from the namespace of whoever refers
to it; one that was known stays in use while it cannot be read.
"""

import re
import ssl
from functools import lru_cache
from typing import Final, Generic, TypeVar

import attrs

from mcp_gateway.config.schema import Unfit
from mcp_gateway.config.secrets import MAX_CREDENTIAL_BYTES, header_value
from mcp_gateway.kube import schema
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.own_objects import SecretRef
from mcp_gateway.kube.reconcile.conditions import Reason, Verdict, bad, unknown
from mcp_gateway.kube.store import Access, Store

T = TypeVar("T")
MAX_CA_BYTES: Final = 64 * 2**10
_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
_LABEL: Final = f"{schema.LABEL_CREDENTIAL}={schema.LABEL_TRUE}"


@attrs.frozen(kw_only=True)
class Found(Generic[T]):
    """A value, or what is wrong with it; both, while a known value is used that can no longer be read."""

    value: T | None = attrs.field(default=None, repr=False)
    verdict: Verdict | None = None


def credential(view: Store, namespace: str, ref: SecretRef) -> Found[str]:
    """The whole value of an Authorization header."""
    found = _entry(view, namespace, ref, "credential secret")
    if found.value is None:
        return Found(verdict=found.verdict)
    content = found.value.removesuffix(b"\n").removesuffix(b"\r")
    try:
        if not content:
            raise Unfit("is empty")
        return Found(value=header_value(content), verdict=found.verdict)
    except Unfit as unfit:
        why = (
            f"credential secret {ref.name}: key {ref.key} {unfit}; put one line for the header Authorization there, "
            f"at most {MAX_CREDENTIAL_BYTES} bytes"
        )
        return Found(verdict=bad(Reason.SECRET_INVALID, why))


def authorities(view: Store, namespace: str, ref: SecretRef) -> Found[str]:
    """PEM certificates of authorities; other blocks, such as a private key, are left where they are."""
    found = _entry(view, namespace, ref, "CA certificate secret")
    if found.value is None:
        return Found(verdict=found.verdict)
    if len(found.value) > MAX_CA_BYTES:
        why = (
            f"CA certificate secret {ref.name}: key {ref.key} exceeds maximum size ({MAX_CA_BYTES} bytes); "
            "leave out authorities"
        )
        return Found(verdict=bad(Reason.SECRET_INVALID, why))
    pem = _certificates(found.value)
    if pem is None:
        why = f"CA certificate secret {ref.name}: key {ref.key} is invalid; put PEM certificates of authorities there"
        return Found(verdict=bad(Reason.SECRET_INVALID, why))
    return Found(value=pem, verdict=found.verdict)


@lru_cache(maxsize=1024)
def _certificates(content: bytes) -> str | None:
    """The certificates alone, as OpenSSL accepts them."""
    blocks = [block.decode("ascii") for block in _CERTIFICATE.findall(content)]
    pem = "".join(f"{block}\n" for block in blocks)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except (ValueError, ssl.SSLError):
        return None
    return pem


def _entry(view: Store, namespace: str, ref: SecretRef, what: str) -> Found[bytes]:
    secret, access = view.secret(Key(namespace, ref.name)), view.access(namespace)
    forbidden = _forbidden(view, namespace) if access is Access.FORBIDDEN else None
    if secret is None:
        if forbidden is not None:
            return Found(verdict=forbidden)
        if access is not Access.LISTED:
            why = (
                f"{what} {ref.name}: the Secrets of namespace {namespace} could not be read yet; wait, and see the log "
                "of the controller if that lasts"
            )
            return Found(verdict=unknown(Reason.PENDING, why))
        why = (
            f"{what} {ref.name} not found in namespace {namespace}, or it is missing required label {_LABEL}; "
            f"create it, or run: kubectl label secret {ref.name} -n {namespace} {_LABEL}"
        )
        return Found(verdict=bad(Reason.SECRET_NOT_FOUND, why))
    labels = secret.meta.labels
    if schema.LABEL_TRUE not in (labels.get(schema.LABEL_CREDENTIAL), labels.get(schema.LABEL_CREDENTIAL_ALIAS)):
        why = (
            f"{what} {ref.name} is missing required label {_LABEL}; "
            f"run: kubectl label secret {ref.name} -n {namespace} {_LABEL}"
        )
        return Found(verdict=bad(Reason.SECRET_INVALID, why))
    value = secret.data.get(ref.key)
    if value is None:
        there = ", ".join(sorted(secret.data)) or "none"
        why = f"{what} {ref.name} missing key {ref.key}; it has {there}; add it, or correct the key of the reference"
        return Found(verdict=bad(Reason.SECRET_INVALID, why))
    return Found(value=value, verdict=forbidden)


def _forbidden(view: Store, namespace: str) -> Verdict:
    account = f"{view.settings.namespace}:{schema.CONTROLLER}"
    role = view.settings.secret_reader_role
    why = (
        f"Secrets of namespace {namespace} may not be read; allow it with: kubectl create rolebinding "
        f"{role} -n {namespace} --clusterrole={role} "
        f"--serviceaccount={account}"
    )
    return bad(Reason.REF_NOT_PERMITTED, why)
