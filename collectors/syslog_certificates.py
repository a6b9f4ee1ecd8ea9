"""The certificates of a TLS listener: loaded, loaded anew when their files change, and which peers they let in.

Source: RFC 5425 parts 4.2 and 5, RFC 9662 (TLS 1.2 or later; no early data, which could be sent twice).
"""

import hashlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from collectors.syslog_config import SyslogConfig, each
from schemas.errors import StartupError

_REQUIRE: Final = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
FINGERPRINT: Final = "sha-256:"
"""How a fingerprint begins, by IANA's name of the hash function (RFC 5425 part 4.2.2)."""

Identity = tuple[tuple[int, int, int, int] | None, ...]


class Certificates:
    """The context in force, made from files that may be replaced at any time."""

    def __init__(self, config: SyslogConfig) -> None:
        """Load the files. Raises StartupError that says which one is wrong and how."""
        self._config = config
        self._seen = self._changed = _identity(config)
        self.context = load_context(config)

    def refresh(self) -> bool:
        """Load the files anew if they have changed, and not since the last call; tell whether that was done.

        Two files are not replaced at one instant, so a change counts when it has come to rest. Connections that are
        there already keep what they began with. Raises StartupError once for each change that cannot be used, and what
        was in force stays.
        """
        found, before = _identity(self._config), self._changed
        self._changed = found
        if found == self._seen or found != before:
            return False
        self._seen = found
        self.context = load_context(self._config)
        return True

    def admit(self, tls: ssl.SSLObject) -> str | None:
        """Give the name that the peer is known by after the handshake; None when it showed no certificate.

        Raises PeerRefusedError when there are peers listed and this is none of them.
        """
        listed = each(self._config.tls_client_names)
        certificate = tls.getpeercert(binary_form=True)
        if certificate is None:
            if listed:
                raise PeerRefusedError("it showed no certificate, and only the peers of tls_client_names may send")
            return None
        names = list(names_of(tls.getpeercert() or {}))
        if listed and not any(_matches(pattern, names, certificate) for pattern in listed):
            shown = ", ".join(names) or "no name"
            raise PeerRefusedError(f"its certificate is for {shown}, which tls_client_names does not list")
        return names[0] if names else f"{FINGERPRINT}{_fingerprint(certificate)}"


class PeerRefusedError(Exception):
    """The certificate is good, and is not of a peer that may send."""


def load_context(config: SyslogConfig) -> ssl.SSLContext:
    """Make a server's context. Raises StartupError that says which file is wrong and how."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Nobody resumes: each connection is checked against the files as they are, and costs one handshake of many hours.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    certificate, key = config.tls_certificate, config.tls_key or config.tls_certificate
    for path in (certificate, key):
        _readable(path)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise StartupError(f"{certificate} and {key} are no certificate and its key in PEM: {_words(error)}") from None
    context.verify_mode = _REQUIRE[config.tls_clients]
    if config.tls_clients != "none":
        _readable(config.tls_client_ca)
        try:
            context.load_verify_locations(config.tls_client_ca)
        except ssl.SSLError as error:
            raise StartupError(f"{config.tls_client_ca} holds no certificates in PEM: {_words(error)}") from None
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a peer's own certificate may be listed as well
    return context


def names_of(certificate: dict[str, Any]) -> Iterator[str]:
    """Give the names of a certificate as `getpeercert` shows it: host names, addresses, then the common name.

    The common name counts only where there is no host name (RFC 5425 part 5.2, RFC 6125).
    """
    alternatives = certificate.get("subjectAltName", ())
    hosts = [value for kind, value in alternatives if kind == "DNS"]
    yield from hosts
    yield from (value for kind, value in alternatives if kind in ("IP Address", "email", "URI"))
    if not hosts:
        yield from (value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName")


def reason_of(error: Exception) -> str:
    """Give in plain words why a handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was not accepted: {error.verify_message}"
    if isinstance(error, PeerRefusedError):
        return str(error)
    if isinstance(error, ssl.SSLEOFError | ConnectionError | ssl.SSLZeroReturnError):
        return "it closed the connection during the handshake"
    reason = getattr(error, "reason", None) or ""
    return _REASONS.get(reason) or _words(error)


_REASONS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no certificate",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "HTTP_REQUEST": "it does not speak TLS",
    "PACKET_LENGTH_TOO_LONG": "it does not speak TLS",
    "RECORD_LAYER_FAILURE": "it does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "it does not offer TLS 1.2 or later",
    "VERSION_TOO_LOW": "it does not offer TLS 1.2 or later",
    "NO_SHARED_CIPHER": "it offers no cipher that this machine takes",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust this listener's certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept this listener's certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that this listener's certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept this listener's certificate",
}
"""OpenSSL's words for what people meet most."""


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason).lower().replace("_", " ") if reason else str(error)


def _readable(path: str) -> None:
    try:
        with Path(path).open("rb"):
            return
    except OSError as error:
        raise StartupError(f"{path} cannot be read: {error.strerror}") from None


def _no_password() -> str:
    raise ValueError("the key is encrypted; nobody can type a password here: decrypt it, mode 0600")


def _identity(config: SyslogConfig) -> Identity:
    """Give what changes when one of the files is replaced or written; None for a file that is not there."""
    return tuple(
        _file_identity(path) for path in (config.tls_certificate, config.tls_key, config.tls_client_ca) if path
    )


def _file_identity(path: str) -> tuple[int, int, int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _matches(pattern: str, names: list[str], certificate: bytes) -> bool:
    """Tell whether a listed peer is meant: by fingerprint, by name, or by `*.` and the rest of a name."""
    wanted = pattern.lower()
    if wanted.startswith(FINGERPRINT):
        return wanted == f"{FINGERPRINT}{_fingerprint(certificate)}".lower()
    for name in (name.lower() for name in names):
        if name == wanted or (wanted.startswith("*.") and name.partition(".")[2] == wanted[2:]):
            return True
    return False


def _fingerprint(certificate: bytes) -> str:
    return hashlib.sha256(certificate).digest().hex(":").upper()
