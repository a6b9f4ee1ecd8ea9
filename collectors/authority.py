"""Whose certificates a node believes: `publish.ca_file`, else the authority pinned at enrolment, else the system's.

An enrolment token carries the SHA-256 of the aggregator's authority. At first contact the node asks for the authority's
certificates over a connection that nothing vouches for yet, sends nothing of its own there, and keeps the certificate
that has this very fingerprint. From then on only that authority counts, so that whoever stands between them never sees
a token. What the authority itself vouches for may bring the next one (`Authority.keep`).

Source: kubeadm's `--discovery-token-ca-cert-hash` and the tokens of k3s, which bootstrap trust the same way; RFC 7468
for the PEM form.
"""

import binascii
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from collectors._durable import replace_file
from schemas.errors import ConfigError, MusterError

if TYPE_CHECKING:
    import ssl

AUTHORITY_PATH: Final = "/v1/authority"
"""Where an aggregator gives its authority's certificates to everybody: PEM, the one in use among them."""
MAX_CERTIFICATES: Final = 16
_PINNED: Final = re.compile(r"(.+)_([0-9a-f]{64})\Z")
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+?)\s*-----END CERTIFICATE-----")
_KEPT: Final = re.compile(r"# pinned at enrolment: sha256:([0-9a-f]{64})\n")


class AuthorityError(MusterError, OSError):
    """A certificate does not come from the authority that this node was told to believe, and nobody else."""

    code = "tls.authority"


class Authority:
    """What vouches for aggregators. Safe for several threads.

    Without `ca_file`, kept authority and pin the system's authorities count.
    """

    def __init__(self, *, ca_file: Path | None = None, kept: Path | None = None, pin: str = "") -> None:
        """Read what is kept. Raises ConfigError when that cannot be used.

        Args:
            ca_file: A PEM file that was written into the configuration: nothing else counts.
            kept: Where the pinned authority is kept; None to pin none.
            pin: The fingerprint that the enrolment token carries; another one than was pinned takes its place. "" when
                it carries none: what is kept stays in force.
        """
        self._ca_file = ca_file
        self._path = kept
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._pin, self._bundle = ("", "") if kept is None or ca_file is not None else _read(kept)
        if kept is not None and ca_file is None and pin and pin != self._pin:
            self._pin, self._bundle = pin, ""

    @property
    def known(self) -> bool:
        """Whether it can be told now who is believed; else `learn` comes first."""
        return not self._pin or bool(self._bundle)

    @property
    def is_nodes(self) -> bool:
        """Whether it is a node's, with the options of `[publish]`; else a command's, which has its own."""
        return self._path is not None

    @property
    def pinned(self) -> bool:
        """Whether it is an authority that was pinned, and nothing from the configuration or the system."""
        return bool(self._pin)

    @property
    def pin(self) -> str:
        """The SHA-256 that was pinned, in hexadecimal; "" when none was."""
        return self._pin

    def context(self) -> "ssl.SSLContext":
        """Give what checks certificates, one for all connections: each of its own would have some MB."""
        with self._lock:
            if self._context is None:
                self._context = context_of(self._bundle) if self._bundle else _default(self._ca_file)
            return self._context

    def learn(self, offered: str) -> None:
        """Pin the authority, from certificates that anybody may have sent. Raises AuthorityError when none is it."""
        with self._lock:
            if self.known:  # another connection was first
                return
            found = [one for one in certificates(offered) if fingerprint(one) == self._pin]
            if not found:
                raise AuthorityError(
                    f"its authority is not the one that the enrolment token names (sha256:{self._pin}); the token was"
                    " not sent. Make the enrolment token on this very aggregator ('muster token enrol'); if it was,"
                    " somebody stands between"
                )
            self._store(found[0])

    def keep(self, bundle: str) -> bool:
        """Take the authority's certificates from a connection that it vouched for; tell whether they are others.

        So that the next authority is known before the first certificate comes from it. Raises AuthorityError for what
        is none.
        """
        with self._lock:
            offered = certificates(bundle)
            if offered == certificates(self._bundle):
                return False
            context_of("".join(offered))
            self._store("".join(offered))
            return True

    def refusal(self, why: object) -> AuthorityError:
        """Give the error for a certificate that no authority vouches for which counts here, and what to do."""
        if self._ca_file is not None:
            return AuthorityError(f"its certificate does not come from publish.ca_file {self._ca_file}: {why}")
        if not self._pin:
            return AuthorityError(
                f"its certificate comes from no authority of this system: {why}. Set publish.ca_file to its authority"
                " (PEM), or publish.enrolment_token to a token that carries the authority's fingerprint ('muster token"
                " enrol' on the aggregator)"
            )
        return AuthorityError(
            f"its certificate does not come from the authority that was pinned at enrolment (sha256:{self._pin}, kept"
            f" in {self._path}): {why}. If the authority was changed on purpose, set publish.enrolment_token to a new"
            " one ('muster token enrol' on the aggregator) or publish.ca_file, and restart; if not, somebody stands"
            " between"
        )

    def _store(self, bundle: str) -> None:
        """Keep it, on disk before it is believed."""
        assert self._path is not None
        replace_file(self._path, f"# pinned at enrolment: sha256:{self._pin}\n{bundle}".encode("ascii"), mode=0o644)
        self._bundle, self._context = bundle, None


def split_pin(enrolment_token: str) -> tuple[str, str]:
    """Give what is traded for the node's own token, and the fingerprint that comes with it ("" without one)."""
    match = _PINNED.match(enrolment_token)
    return (match[1], match[2]) if match else (enrolment_token, "")


def with_pin(enrolment_token: str, pin: str) -> str:
    """Give the enrolment token as it is handed to nodes: with the fingerprint of the authority; "" for none."""
    return f"{enrolment_token}_{pin}" if pin else enrolment_token


def certificates(text: str) -> list[str]:
    """Give the certificates of a PEM file in order, each as PEM in one form. What is around them is passed over."""
    found = []
    for match in _PEM.finditer(text):
        body = "".join(match[1].split())
        lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
        found.append(f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n")
    return found[:MAX_CERTIFICATES]


def fingerprint(certificate: str) -> str:
    """Give the SHA-256 of a certificate's DER form, as `openssl x509 -fingerprint -sha256` does; "" when it is none."""
    from hashlib import sha256  # brings OpenSSL, which is here already when there are certificates

    try:
        body = binascii.a2b_base64("".join(certificate.splitlines()[1:-1]), strict_mode=True)
    except binascii.Error:
        return ""
    return sha256(body).hexdigest()


def context_of(bundle: str) -> "ssl.SSLContext":
    """Give a client's context that believes these certificates alone, each as an end of the chain.

    Raises AuthorityError when they cannot be used.
    """
    import ssl

    if not certificates(bundle):  # of nothing a context would be made that believes the system's
        raise AuthorityError("not the certificates of an authority: there is none among them")
    try:
        context = ssl.create_default_context(cadata=bundle)
    except (ssl.SSLError, ValueError) as error:
        raise AuthorityError(f"not the certificates of an authority: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # what was pinned may itself come from another one
    return context


def unverified_context() -> "ssl.SSLContext":
    """Give a context that believes everybody: for asking what `Authority.learn` then checks, and for nothing else."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _default(ca_file: Path | None) -> "ssl.SSLContext":
    import ssl

    # with an authority named only that one counts: no public one may vouch for an aggregator
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _read(path: Path) -> tuple[str, str]:
    """Give the pin and the certificates that are kept; two empty texts when none are."""
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        return "", ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}. {_REMEDY}") from None
    match, found = _KEPT.match(text), "".join(certificates(text))
    if match is None or not found:
        raise ConfigError(f"{path}: is not the authority that was pinned at enrolment. {_REMEDY}")
    return match[1], found


_REMEDY: Final = "Remove it, and set publish.enrolment_token to a new one ('muster token enrol' on the aggregator)"
