"""What a demonstration needs of this machine, checked before anything is started (R003-1)."""

import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from aggregator.cli.checks import Check, Level, check_data_folder, check_open_files, check_python
from aggregator.cli.render import number
from aggregator.cli.version import BASE, Package, packages
from schemas.errors import ConfigError

LEAST_MEMORY_BYTES: Final = 512 << 20
"""An aggregator with its store, and a fleet of a few dozen nodes."""
LOOPBACK: Final = "127.0.0.1"


class NeedsError(ConfigError):
    """This machine lacks something; each place is one thing, with what to do about it."""

    code = "demo.needs"


def check_needs(folder: Path) -> Iterator[Check]:
    """Check everything that a demonstration in `folder` needs."""
    yield check_python()
    yield check_installed(packages())
    yield from (check for check in check_data_folder(folder) if check.name != "disk sync")
    yield check_memory()
    yield check_open_files()
    yield check_loopback()


def missing(checks: Sequence[Check]) -> list[str]:
    """Give what is missing, each with what to do about it."""
    return [
        f"{one.name}: {one.found}" + (f"; {one.remedy}" if one.remedy else "")
        for one in checks
        if one.level is Level.FAIL
    ]


def check_installed(found: Sequence[Package]) -> Check:
    """Check that the packages of an aggregator are there; a checkout that was never installed declares none."""
    needed = [one for one in found if one.extra in (BASE, "aggregator")]
    absent = [one.name for one in needed if one.version is None]
    if absent:
        return Check("packages", Level.FAIL, f"missing: {', '.join(absent)}", "pip install 'rackmuster[aggregator]'")
    return Check("packages", Level.OK, f"{len(needed)} of {len(needed)}")


def check_memory(root: Path = Path("/")) -> Check:
    """Check that there is memory left. Source: proc_meminfo(5), MemAvailable."""
    try:
        text = (root / "proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return Check("memory", Level.WARN, "not known: /proc/meminfo cannot be read")
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            available = int(rest.split()[0]) * 1024
            level = Level.OK if available >= LEAST_MEMORY_BYTES else Level.FAIL
            remedy = "" if level is Level.OK else f"end something: {number(LEAST_MEMORY_BYTES, 'bytes')} are needed"
            return Check("memory", level, f"{number(available, 'bytes')} available", remedy)
    return Check("memory", Level.WARN, "not known: /proc/meminfo does not say what is available")


def check_loopback() -> Check:
    """Check that something can listen on this machine for itself."""
    try:
        port = free_port()
    except OSError as error:
        return Check("loopback", Level.FAIL, f"{LOOPBACK}: {error.strerror}", "bring it up: ip link set lo up")
    return Check("loopback", Level.OK, f"port {port} is free")


def free_port() -> int:
    """Give a TCP port on which nothing listens now. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind((LOOPBACK, 0))
        port: int = sock.getsockname()[1]
        return port
