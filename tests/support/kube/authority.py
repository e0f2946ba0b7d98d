"""Throw-away certificates for a Kubernetes API server, its users and its kubelets.

Owns one authority, which lies in a folder with everything that it issues, because the programs read files.
Deliberately nothing of a real one. Invariant: names and groups are written as Kubernetes reads them.
"""

import datetime
import ipaddress
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY: Final = datetime.timedelta(days=1)


class ClusterAuthority:
    """A certificate authority; what it issues lies in ``folder`` as ``name.crt`` and ``name.key``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject("ca", ())
        self._write("ca", self._name, self._key)

    def issue(self, name: str, *groups: str) -> None:
        """Issue a certificate for a user in these groups; a server on 127.0.0.1 may use it as well."""
        self._write(name, _subject(name, groups), ec.generate_private_key(ec.SECP256R1()))

    def _write(self, file: str, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> None:
        now = datetime.datetime.now(datetime.UTC)
        loopback = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
            .add_extension(x509.BasicConstraints(ca=key is self._key, path_length=None), critical=True)
            .add_extension(_usage(signs=key is self._key), critical=True)
            .add_extension(own, critical=False)
            .add_extension(issuer, critical=False)
            .add_extension(loopback, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
        (self.folder / f"{file}.crt").write_bytes(certificate.public_bytes(pem))
        (self.folder / f"{file}.key").write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))


def _subject(user: str, groups: tuple[str, ...]) -> x509.Name:
    organizations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organizations, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
