"""The authority that nodes pin at enrolment: found, and tried on the aggregator's own certificate."""

import ssl
from pathlib import Path
from typing import Final

import msgspec

from collectors.authority import AuthorityError, certificates, context_of, fingerprint
from schemas.errors import ConfigError

_TURNS: Final = 10
"""A handshake takes two or three."""


class Authority(msgspec.Struct, frozen=True):
    """What vouches for this aggregator, as nodes are told of it."""

    bundle: str
    """Its certificates as PEM: the one in use, and during a change the next one."""
    pin: str
    """The SHA-256 of the one in use, in hexadecimal."""


def find_authority(certificate: str, key: str, authority: str) -> Authority | None:
    """Give what nodes are to pin, from the paths of `[aggregator]`; None when Muster cannot know it.

    `authority` names a PEM file; without one it is the end of the certificate's own chain, when that vouches for
    itself. Without a certificate (something in front of the aggregator ends TLS) the first one of the file is in use.
    Raises ConfigError for a file that holds no authority of the certificate.
    """
    if not authority:
        return None if not certificate else _own_end(certificate, key)
    offered = certificates(_text(authority))
    if not offered:
        raise ConfigError(f"tls_authority {authority} holds no certificate: name the PEM file of the authority")
    if not certificate:
        return Authority("".join(offered), fingerprint(offered[0]))
    why = ""
    for one in offered:
        problem = refusal(one, certificate, key)
        if not problem:
            return Authority("".join(offered), fingerprint(one))
        why = why or problem
    raise ConfigError(
        f"tls_authority {authority} does not vouch for tls_certificate {certificate}: {why}. Nodes that pin it would"
        " refuse this aggregator: name the PEM file of the authority that signed the certificate"
    )


def refusal(anchor: str, certificate: str, key: str, *, root: bool = False) -> str:
    """Give why a node that believes `anchor` alone refuses the certificate in these files; "" when it does not.

    Found by a handshake in memory, so by what nodes do themselves. `root`: the anchor must vouch for itself as well.
    """
    try:
        client_context = context_of(anchor)
    except AuthorityError as error:
        return str(error)
    client_context.check_hostname = False  # by which name nodes call it is seen when they do
    if root:
        client_context.verify_flags &= ~ssl.VERIFY_X509_PARTIAL_CHAIN
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificate, key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    try:
        for _ in range(_TURNS):
            for end in (client, server):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    return ""


def _own_end(certificate: str, key: str) -> Authority | None:
    chain = certificates(_text(certificate))
    if not chain or refusal(chain[-1], certificate, key, root=True):
        return None
    return Authority(chain[-1], fingerprint(chain[-1]))


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
