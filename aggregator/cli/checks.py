"""What `muster doctor` checks of this machine. Each check gives what it found and, when that is bad, what to do."""

import ctypes
import errno
import os
import resource
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec

from aggregator.cli.probing import Found, apart
from aggregator.cli.render import number
from aggregator.cli.version import BASE, Package
from collectors.authority import Authority
from collectors.config import OPTIONAL_COLLECTORS, socket_path
from collectors.node_identity import read_machine_id
from schemas.errors import ConfigError


class Level(Enum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    """It works, but not as well or not all of it."""
    FAIL = "fail"
    """Something that is needed is missing or broken."""


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    level: Level
    found: str
    remedy: str = ""
    """What to do; "" when there is nothing to do."""


OLDEST_PYTHON: Final = (3, 11)
_LOW_BYTES, _FULL_BYTES = 2 << 30, 200 << 20
_SLOW_SYNC_SECONDS: Final = 0.02
"""With a commit a batch, a slower disk bounds what one aggregator takes."""
_SYNCS: Final = 20
_FEW_FILES: Final = 4096
_LONGEST_SOCKET: Final = 107
"""sockaddr_un holds 108 bytes with the final NUL."""
_NVIDIA: Final = "0x10de"


def check_python(version: tuple[int, int, int] = sys.version_info[:3]) -> Check:
    """Check the interpreter's version."""
    word = ".".join(map(str, version))
    if version[:2] < OLDEST_PYTHON:
        return Check("python", Level.FAIL, word, "Muster needs Python 3.11 or newer")
    return Check("python", Level.OK, word)


_EXTRAS: Final = {
    BASE: "what every part needs",
    "aggregator": "an aggregator, and this command line",
    "kafka": "a log on Kafka",
    "influxdb": "a store on InfluxDB",
    "dashboards": "making Grafana dashboards",
}


def check_packages(packages: Sequence[Package]) -> Iterator[Check]:
    """Check the packages of each extra: the base must be whole, the others are there or not."""
    if not packages:
        yield Check("packages", Level.WARN, "rackmuster is not installed as a distribution",
                    "pip install rackmuster; from a checkout: pip install -e '.[aggregator]'")  # fmt: skip
    for extra in dict.fromkeys(one.extra for one in packages):
        mine = [one for one in packages if one.extra == extra]
        missing = [one.name for one in mine if one.version is None]
        name = f"packages, {extra}" if extra else "packages"
        purpose = _EXTRAS.get(extra, extra)
        if not missing:
            yield Check(name, Level.OK, f"{len(mine)} of {len(mine)}: {purpose}")
            continue
        install = f"pip install 'rackmuster[{extra}]'" if extra else "pip install rackmuster"
        if not extra or (extra == "aggregator" and len(missing) < len(mine)):
            yield Check(name, Level.FAIL, f"missing: {', '.join(missing)}", install)
        else:  # not asked for
            yield Check(name, Level.OK, f"not installed; for {purpose}: {install}")


def check_data_folder(folder: Path, free_of: Callable[[Path], int] | None = None) -> Iterator[Check]:
    """Check that the data folder can be written, has room, and syncs soon, and that its path is short enough."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        seconds = sync_seconds(folder)
    except OSError as error:
        yield Check("data folder", Level.FAIL, f"{folder}: cannot be written: {error.strerror}",
                    "give it to the user that runs Muster, or name another with MUSTER_DATA_DIR")  # fmt: skip
        return
    free = free_of(folder) if free_of else shutil.disk_usage(folder).free
    word = f"{folder}: {number(free, 'bytes')} free"
    if free < _LOW_BYTES:
        level = Level.FAIL if free < _FULL_BYTES else Level.WARN
        yield Check("data folder", level, word, "free some, or set spool.max_bytes, log.max_bytes, retention.max_bytes")
    else:
        yield Check("data folder", Level.OK, word)
    slow = seconds > _SLOW_SYNC_SECONDS
    yield Check("disk sync", Level.WARN if slow else Level.OK, f"{seconds * 1000:.1f} ms a sync (median of {_SYNCS})",
                "a disk with power-loss protection takes less than 1 ms; rows wait for it" if slow else "")  # fmt: skip
    path = socket_path(folder)
    if len(str(path).encode()) > _LONGEST_SOCKET:
        yield Check("socket path", Level.FAIL, f"{path}: longer than {_LONGEST_SOCKET} bytes",
                    "name a shorter folder with MUSTER_DATA_DIR")  # fmt: skip


def check_damaged(folder: Path) -> Iterator[Check]:
    """Look for spools that were set aside because they were damaged."""
    for path in sorted(folder.glob("*/spool.db.damaged-*")):
        if path.name.endswith(("-wal", "-shm")):
            continue
        size = number(path.stat().st_size, "bytes")
        found = f"{path}: {size}, set aside; what could be read went on, the rest counts as dropped (corrupt)"
        remedy = "look at the disk ('dmesg', 'smartctl -a'); then remove it with its -wal and -shm: nothing reads it"
        yield Check("damaged spool", Level.WARN, found, remedy)


def check_authority(folder: Path) -> Iterator[Check]:
    """Tell which authority this machine's agent pinned at enrolment, if it did."""
    path = folder / "agent" / "authority.pem"
    if not path.exists():
        return
    try:
        pin = Authority(kept=path).pin
    except ConfigError as error:
        yield Check("authority", Level.FAIL, str(error), f"remove {path} and enrol again ('muster token enrol')")
    else:
        yield Check("authority", Level.OK, f"aggregators must come from sha256:{pin} ({path})")


def sync_seconds(folder: Path) -> float:
    """Measure how long it takes until 4 KiB are on the disk, as the median of several. Raises OSError."""
    took = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_SYNCS):
            begun = time.perf_counter()
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - begun)
    return statistics.median(took)


def check_kernel_log(root: Path = Path("/")) -> Check:
    """Check that the kernel log can be read."""
    path = root / "dev/kmsg"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENOENT:
            remedy = "in a container: give it the device (--device /dev/kmsg); else kernel messages are missing"
            return Check("kernel log", Level.WARN, f"{path} is not there", remedy)
        remedy = "give the agent CAP_SYSLOG (AmbientCapabilities=CAP_SYSLOG), or set kernel.dmesg_restrict=0"
        return Check("kernel log", Level.WARN, f"{path}: {error.strerror}", remedy)
    try:
        os.read(descriptor, 8192)
    except BlockingIOError:
        pass  # readable, and empty
    except OSError as error:
        if error.errno != errno.EPIPE:  # the oldest record was overwritten meanwhile
            return Check("kernel log", Level.WARN, f"{path}: {error.strerror}", "give the agent CAP_SYSLOG")
    finally:
        os.close(descriptor)
    return Check("kernel log", Level.OK, f"{path} can be read")


def check_identity(root: Path = Path("/")) -> Check:
    """Check what the node's id can be decided on."""
    path = root / "sys/class/dmi/id/product_uuid"
    machine_id = read_machine_id(root)
    try:
        path.read_bytes()
        return Check("identity", Level.OK, "the firmware's system UUID can be read")
    except PermissionError:
        return Check("identity", Level.WARN, f"{path}: only root may read it",
                     "start the agent once as root, or set agent.node_id")  # fmt: skip
    except OSError:
        pass
    if machine_id:
        return Check("identity", Level.OK, "no firmware tables here; the machine id stands in")
    return Check("identity", Level.FAIL, "neither a system UUID nor a machine id",
                 "run systemd-machine-id-setup, or set agent.node_id")  # fmt: skip


def check_gpu(root: Path = Path("/"), nvml: Callable[[], str] | None = None) -> Check:
    """Check that NVML answers where there are NVIDIA GPUs. It is tried in a process of its own: it may hang."""
    cards = 0
    for device in (root / "sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
        except OSError:
            continue
        cards += vendor == _NVIDIA and kind.startswith("0x03")
    outcome = apart(nvml or _nvml, 20.0)
    if not outcome.error:
        return Check("nvml", Level.OK, outcome.value)
    if cards:
        remedy = "install the NVIDIA driver with its libnvidia-ml.so.1, and see that it is loaded (nvidia-smi)"
        found = f"{cards} NVIDIA GPU(s), but NVML does not answer: {outcome.error}"
        return Check("nvml", Level.WARN, found, remedy)
    return Check("nvml", Level.OK, "no NVIDIA GPU here")


def _nvml() -> str:
    import pynvml

    pynvml.nvmlInit()
    try:
        return f"driver {pynvml.nvmlSystemGetDriverVersion()}, {pynvml.nvmlDeviceGetCount()} GPU(s)"
    finally:
        pynvml.nvmlShutdown()


def check_open_files(limits: tuple[int, int] | None = None) -> Check:
    """Check how many files and connections a process may have open."""
    soft, hard = limits or resource.getrlimit(resource.RLIMIT_NOFILE)
    word = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft:,}"
    if 0 <= soft < _FEW_FILES:
        return Check("open files", Level.WARN, f"{word} (hard limit {hard:,})",
                     "an aggregator needs one a node: LimitNOFILE=65536 in its unit, or ulimit -n 65536")  # fmt: skip
    return Check("open files", Level.OK, word)


class _Timex(ctypes.Structure):
    """`struct timex` as far as it is needed, with room for the rest. Source: adjtimex(2)."""

    _fields_ = (  # type: ignore[mutable-override] # fixed, whatever the base class allows
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


_UNSYNCHRONISED, _TIME_ERROR = 0x40, 5


def check_clock(root: Path = Path("/"), kernel: Callable[[], tuple[int, int, int]] | None = None) -> Check:
    """Check that something keeps the clock: the kernel's word, else systemd's. `kernel` gives state, status, error."""
    try:
        state, status, error_us = (kernel or _adjtimex)()
    except OSError:
        state = status = error_us = -1
    if state >= 0 and state != _TIME_ERROR and not status & _UNSYNCHRONISED:
        return Check("clock", Level.OK, f"synchronised, within {error_us / 1000:.0f} ms")
    if (root / "run/systemd/timesync/synchronized").exists():
        return Check("clock", Level.OK, "synchronised by systemd-timesyncd")
    return Check("clock", Level.WARN, "nothing synchronises it, as far as the kernel knows",
                 "run chrony or systemd-timesyncd: times of different nodes are compared")  # fmt: skip


def _adjtimex() -> tuple[int, int, int]:
    timex = _Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    if state < 0:
        raise OSError(ctypes.get_errno(), "adjtimex")
    return state, timex.status, timex.maxerror


def check_port(host: str, port: int, *, ours: bool) -> Check:
    """Check that the address is free, or taken by the aggregator that answers."""
    place = f"{host}:{port}"
    if ours:
        return Check("port", Level.OK, f"{place} is served by the aggregator of this machine")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
    except OSError as error:
        return Check("port", Level.FAIL, f"{place}: {error.strerror or error}",
                     "stop what listens there ('ss -ltnp' names it), or choose another with MUSTER_LISTEN")  # fmt: skip
    return Check("port", Level.OK, f"{place} is free")


def check_collectors(found: Sequence[Found], wanted: Sequence[str], own: str) -> Iterator[Check]:
    """Check each installed collector: what it lacks matters where it is to run, or where it is ours and broken."""
    for one in found:
        name = f"collector {one.name}"
        if not one.problem:
            yield Check(name, Level.OK, "ready")
        elif one.broken:
            level = Level.FAIL if one.distribution == own or one.name in wanted else Level.WARN
            yield Check(name, level, one.problem, f"reinstall or remove {one.distribution or 'its distribution'}")
        elif one.name in wanted and one.name not in OPTIONAL_COLLECTORS:
            remedy = f"if it is not to run here: [collectors.{one.name}] enabled = false"
            yield Check(name, Level.WARN, one.problem, remedy)
        else:
            yield Check(name, Level.OK, f"nothing for it here: {one.problem}")
    for name in wanted:
        if name not in {one.name for one in found}:
            yield Check(f"collector {name}", Level.FAIL, "not installed", f"install the distribution that has {name}")
