"""Certificates of the tests' own authority, made in memory, good for a day."""

import datetime
import hashlib
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """An authority with a file of its own certificate, and the certificates of 127.0.0.1 that it makes."""

    def __init__(self, folder: Path, name: str = "the tests' authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._builder(self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(self._sign(made))
        self.pem = self.ca_file.read_text()
        der = x509.load_pem_x509_certificate(self.pem.encode()).public_bytes(serialization.Encoding.DER)
        self.fingerprint = hashlib.sha256(der).hexdigest()

    def certificate(self, host: str = "127.0.0.1", *, expired: bool = False) -> tuple[Path, Path]:
        """Give the files of a certificate for a host, by name or address, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            alternative = x509.DNSName(host)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        made = self._builder(subject, key.public_key()).add_extension(
            x509.SubjectAlternativeName([alternative]), critical=False
        )
        if expired:
            past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)
            made = x509.CertificateBuilder(
                self._name, subject, key.public_key(), x509.random_serial_number(),
                past - datetime.timedelta(days=1), past, list(made._extensions),
            )  # fmt: skip
        certificate, key_file = self._folder / f"{host}.pem", self._folder / f"{host}.key"
        certificate.write_bytes(self._sign(made))
        form, syntax = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        key_file.write_bytes(key.private_bytes(form, syntax, serialization.NoEncryption()))
        return certificate, key_file

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )

    def _sign(self, made: x509.CertificateBuilder) -> bytes:
        return made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
