"""What the operator can set about logs."""

from typing import Annotated, Literal

import msgspec

from collectors.syslog_framing import Framing

Addresses = str | tuple[str, ...]


class SyslogConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section `syslog`. Raises ValueError on an address or path that cannot be one."""

    kmsg: bool = True
    """Read the kernel log. Needs root or CAP_SYSLOG where `kernel.dmesg_restrict` is 1."""
    journald: bool = False
    """Read the journal of systemd, through `journalctl`: what services and programs of this machine log. The kernel's
    records come by `kmsg` where that is on, else by the journal as well. Needs root or the group `systemd-journal`."""
    journald_begin: Literal["now", "boot"] = "now"
    """Where the very first start begins: with the newest record, or with the first of this boot, which may be millions
    of records. Later starts go on where the last one ended."""
    journald_directory: str = ""
    """A folder of journal files to read instead of this machine's own: in a container, the host's."""
    udp: Addresses = ()
    """Where to listen on UDP, one address or a list: `127.0.0.1:5514`, `[::1]:5514`, `:514` for all of IPv4."""
    tcp: Addresses = ()
    """Where to listen on TCP, plain text; framing by RFC 6587. One address or a list."""
    tls: Addresses = ()
    """Where to listen for syslog over TLS (RFC 5425; port 6514 by custom), TLS 1.2 or later. One address or a list."""
    tls_certificate: str = ""
    """The file of this machine's certificate for `tls`, in PEM, with those between it and its authority behind it. It
    and the other files are read anew within 15 s after they change; connections stay."""
    tls_key: str = ""
    """The file of the key of `tls_certificate`, in PEM, not encrypted; empty: it is in the same file."""
    tls_clients: Literal["required", "optional", "none"] = "required"
    """Whether senders must show a certificate that `tls_client_ca` vouches for: `required`; `optional`: one that is
    shown must be good; `none`: nobody is asked, and whoever reaches the port may send."""
    tls_client_ca: str = ""
    """The file of the authorities that vouch for senders, in PEM; a sender's own certificate may be there as well."""
    tls_client_names: Addresses = ()
    """The senders that may send; empty: each with a good certificate. A name in the certificate (`db2.example.com`),
    `*.example.com`, or a certificate's fingerprint (`sha-256:E1:2D:...`)."""
    tls_handshake_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=300)] = 10.0
    """How long a sender may take over the TLS handshake."""
    unix_datagram: Addresses = ()
    """Paths of datagram sockets to make, such as programs write to at `/dev/log`."""
    unix_stream: Addresses = ()
    """Paths of stream sockets to make; messages end in LF or NUL, or are counted."""
    unix_mode: Annotated[int, msgspec.Meta(ge=0, le=0o777)] = 0o666
    """The access mode of the socket files: 0o666 lets every local program log, as with `/dev/log`."""
    udp_receive_buffer_bytes: Annotated[int, msgspec.Meta(ge=1024, le=1 << 30)] = 4 << 20
    """How much the kernel may hold for a UDP socket in a burst; beyond, it drops, and the drops are counted. Without
    CAP_NET_ADMIN the kernel grants no more than `net.core.rmem_max`."""
    max_message_bytes: Annotated[int, msgspec.Meta(ge=480, le=128 << 10)] = 64 << 10
    """Longer messages are cut to this, marked and counted; RFC 5424 asks for 480 at least and 2048 if possible."""
    max_connections: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 200
    """How many connections a stream listener keeps; further ones are closed at once, and counted. As many again may be
    in the TLS handshake; one more, and the oldest of those is closed."""
    idle_timeout_seconds: Annotated[float, msgspec.Meta(ge=0)] = 3600.0
    """Close a connection on which nothing came for so long; 0 never does. A sender that wakes up on a closed connection
    loses a message, so keep it long; dead peers are found by TCP keepalive in minutes."""
    framing: Framing = Framing.AUTO
    """How stream messages are told apart: `auto` (by each frame's first byte), `octet` or `line`."""
    time_zone: Literal["local", "utc"] = "local"
    """The zone of times that name none (RFC 3164): this machine's, or UTC."""
    kernel_events: bool = True
    """Make events of what the kernel log says of devices: Xid, AER, machine checks, drives, links, memory, hangs."""
    storm_copies: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 50
    """Fold copies of a record beyond about so many within `storm_seconds` into one that counts them; copies differ in
    numbers and addresses alone. 0 keeps every record, as a relay of access logs may want."""
    storm_seconds: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 10.0
    """How long copies are counted. The count of those that were folded is told once none came for two seconds, and of
    a storm that goes on every six times this long."""
    max_records_per_second: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How many records of one host may go on in a second, by each way in; what is beyond is left out, counted, and told
    by an event. 0 is no limit."""
    gather_seconds: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.01
    """How long to let messages gather after a reading; a first message never waits. 0 reads at once, and costs more."""

    def __post_init__(self) -> None:
        for address in (*each(self.udp), *each(self.tcp), *each(self.tls)):
            split_address(address)
        if each(self.tls):
            _check_tls(self)
        if self.journald_directory and not self.journald_directory.startswith("/"):
            raise ValueError(f"journald_directory {self.journald_directory!r} is not an absolute path")
        for path in (*each(self.unix_datagram), *each(self.unix_stream)):
            if not path.startswith("/") or len(path.encode()) > _LONGEST_PATH:
                raise ValueError(f"{path!r} is not an absolute path of at most {_LONGEST_PATH} bytes")


_LONGEST_PATH = 107
"""sockaddr_un holds 108 bytes with the final NUL."""


def _check_tls(config: SyslogConfig) -> None:
    if not config.tls_certificate:
        raise ValueError("tls needs tls_certificate, the file of this machine's certificate")
    if config.tls_clients != "none" and not config.tls_client_ca:
        raise ValueError(
            f'tls_clients = "{config.tls_clients}" needs tls_client_ca, the file of the authorities that vouch for '
            'senders; tls_clients = "none" lets everybody send'
        )
    if config.tls_clients == "none" and each(config.tls_client_names):
        raise ValueError('tls_client_names means nothing with tls_clients = "none": nobody shows a certificate')


def each(addresses: Addresses) -> tuple[str, ...]:
    """Give the addresses one by one; a single one may be written without a list, and "" is none."""
    if isinstance(addresses, str):
        return (addresses,) if addresses else ()
    return addresses


def split_address(text: str) -> tuple[str, int]:
    """Give host and port of `127.0.0.1:5514`, `[::1]:5514`, `localhost:5514`, `:5514`. Raises ValueError otherwise."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, as [::1]:5514")
    if not (colon and port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise ValueError(f"{text!r} is not an address such as 127.0.0.1:5514")
    return host, int(port)
