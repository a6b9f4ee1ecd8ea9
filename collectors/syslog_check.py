"""What is wrong with where logs are to come in, told before anything listens."""

import contextlib
import logging
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from collectors.contract import Objection
from collectors.syslog_config import SyslogConfig, each, split_address
from collectors.syslog_sockets import open_tcp, open_udp
from schemas.errors import StartupError


def objections_to(config: SyslogConfig, log: logging.Logger, *, attempt: bool) -> Iterator[Objection]:
    """Give what cannot work. `attempt` binds every address for a moment, all together, and so finds what is taken."""
    for option, addresses in _addresses(config):
        for address in addresses:
            yield from (Objection(option, text) for text in _address(address))
    if each(config.tls):
        yield from _certificates(config)
    seen: set[str] = set()
    for option, paths in (("unix_datagram", each(config.unix_datagram)), ("unix_stream", each(config.unix_stream))):
        for path in paths:
            yield from (Objection(option, text) for text in _path(path))
            if path in seen:
                yield Objection(option, f"{path} is named twice: one socket cannot be two; choose another path")
            seen.add(path)
    if attempt:
        yield from _bound(config, log)


def _addresses(config: SyslogConfig) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return ("udp", each(config.udp)), ("tcp", each(config.tcp)), ("tls", each(config.tls))


def _certificates(config: SyslogConfig) -> Iterator[Objection]:
    from collectors.syslog_certificates import load_context  # the library is of no use to those who speak no TLS

    try:
        load_context(config)
    except StartupError as error:
        yield Objection("tls_certificate", str(error))


def _address(address: str) -> Iterator[str]:
    host, port = split_address(address)
    if port == 0:
        yield f"{address}: port 0 is a port that nobody knows beforehand: name one, such as {host}:5514"
    try:
        socket.getaddrinfo("127.0.0.1" if host == "localhost" else host or "0.0.0.0", port,
                           flags=socket.AI_NUMERICHOST)  # fmt: skip
    except OSError:
        yield f"{address}: {host!r} is no address of this machine: write numbers, as 127.0.0.1:{port} or :{port}"


def _path(path: str) -> Iterator[str]:
    folder = Path(path).parent
    if not folder.is_dir():
        yield f"{path}: there is no folder {folder}: make it, or choose another path"
    with contextlib.suppress(OSError):
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            yield f"{path}: there is a file there that is no socket: choose another path, or take it away"


def _bound(config: SyslogConfig, log: logging.Logger) -> Iterator[Objection]:
    with contextlib.ExitStack() as held:
        for option, addresses in _addresses(config):
            for address in addresses:
                if any(_address(address)):
                    continue  # told already
                try:
                    opened = open_udp(
                        address, config.udp_receive_buffer_bytes, log
                    ) if option == "udp" else open_tcp(address)  # fmt: skip
                except StartupError as error:
                    yield Objection(option, str(error))
                else:
                    held.callback(opened.close)
