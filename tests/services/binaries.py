"""Finds the programs of real servers, or installs them by the ordinary package clients; nothing else is downloaded.

What is built stays in `MUSTER_CACHE` (default `~/.cache/muster`), under a name that carries its version and how it was
built, so that a change of either builds anew. A lock keeps two test runs from building the same thing at once.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec


class NotAvailableError(Exception):
    """A program is neither here nor can it be installed here; the message says what would help."""


def cache_dir() -> Path:
    """Give the folder of what was built for tests, made if need be."""
    folder = Path(os.environ.get("MUSTER_CACHE") or Path.home() / ".cache" / "muster")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _locked(name: str) -> Iterator[None]:
    with (cache_dir() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(*command: str, seconds: float, **variables: str) -> None:
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotAvailableError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        raise NotAvailableError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-600:]}")


class GoProgram(msgspec.Struct, frozen=True):
    """A program built by `go install` from the Go module proxy."""

    name: str
    package: str
    version: str
    tags: tuple[str, ...] = ()
    """Build tags; they are a part of what it is."""

    def path(self) -> Path:
        """Say where it lies, or will lie, in the cache."""
        built = hashlib.sha256(",".join(self.tags).encode()).hexdigest()[:12]
        return cache_dir() / f"{self.name}-{self.version}-{built}" / self.name

    def find(self) -> Path | None:
        """Give the program: what `TEST_BINARY_<NAME>` names, else what the cache holds; None when neither is there."""
        given = os.environ.get(f"TEST_BINARY_{self.name.upper()}")
        if given:
            return Path(given)
        return self.path() if self.path().is_file() else None

    def install(self) -> Path:
        """Give the program, built if need be (minutes, once). Raises NotAvailableError."""
        with _locked(self.name):
            found = self.find()
            if found:
                return found
            go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
            if go is None:
                raise NotAvailableError(f"{self.name} {self.version} is built with Go, which is not installed")
            tags = ("-tags", ",".join(self.tags)) if self.tags else ()
            folder = self.path().parent
            folder.mkdir(exist_ok=True)
            target = f"{self.package}@v{self.version}"
            _run(go, "install", *tags, target, seconds=1800, GOBIN=str(folder), GOFLAGS="-trimpath -buildvcs=false")
            return self.path()


class DebianProgram(msgspec.Struct, frozen=True):
    """A program of a Debian package."""

    name: str
    package: str
    beside: str = ""
    """Where its package puts it if not on the search path; `*` stands for a version, of which the newest counts."""

    def find(self) -> Path | None:
        """Give the program: what `TEST_BINARY_<NAME>` names, else what is installed; None without either."""
        found = os.environ.get(f"TEST_BINARY_{self.name.upper()}") or shutil.which(self.name)
        if found:
            return Path(found)
        there = Path("/").glob(f"{self.beside.lstrip('/')}/{self.name}") if self.beside else ()
        return max(there, key=lambda path: [int(part) for part in path.parts if part.isdecimal()], default=None)

    def install(self) -> Path:
        """Give the program, its package installed if need be, which takes root. Raises NotAvailableError."""
        found = self.find()
        if found:
            return found
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise NotAvailableError(f"{self.name} is not installed: apt-get install {self.package}")
        with _locked("apt"):
            _run("apt-get", "update", "-qq", seconds=600)
            options = ("-y", "-qq", "--no-install-recommends")
            _run("apt-get", "install", *options, self.package, seconds=900, DEBIAN_FRONTEND="noninteractive")
        found = self.find()
        if found is None:
            raise NotAvailableError(f"the package {self.package} did not bring {self.name}")
        return found


class PythonProgram(msgspec.Struct, frozen=True):
    """A program from PyPI, in a virtual environment of its own: what it needs may not be what Muster needs."""

    name: str
    pins: tuple[str, ...]
    """`NAME==VERSION`, what is its own."""
    shared: Path
    """A file of more such pins, one a line. Nothing is resolved: what a peer is does not change from day to day."""

    def path(self) -> Path:
        """Say where the environment's Python lies, or will lie, in the cache."""
        made_of = "\n".join((sys.version, *self.pins, self.shared.read_text()))
        return cache_dir() / f"{self.name}-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}" / "bin" / "python"

    def find(self) -> Path | None:
        """Give the Python that has it: what `TEST_BINARY_<NAME>` names, else the cache's; None without either."""
        given = os.environ.get(f"TEST_BINARY_{self.name.upper()}")
        if given:
            return Path(given)
        return self.path() if (self.path().parent.parent / "complete").is_file() else None

    def install(self) -> Path:
        """Give the Python that has it, installed if need be (half a minute, once). Raises NotAvailableError."""
        with _locked(self.name):
            found = self.find()
            if found:
                return found
            python, folder = self.path(), self.path().parent.parent
            shutil.rmtree(folder, ignore_errors=True)  # what an interrupted installation left
            wanted = ("--no-deps", "-r", str(self.shared), *self.pins)
            uv = shutil.which("uv")
            if uv:
                _run(uv, "venv", "--quiet", "--python", sys.executable, str(folder), seconds=60)
                _run(uv, "pip", "install", "--quiet", "--python", str(python), *wanted, seconds=300)
            else:
                # our pip serves; what is never imported need not be compiled
                _run(sys.executable, "-m", "venv", "--without-pip", str(folder), seconds=60)
                pip = (sys.executable, "-m", "pip", "--python", str(python))
                _run(*pip, "install", "--quiet", "--no-compile", *wanted, seconds=300)
            (folder / "complete").touch()
            return python


Program = GoProgram | DebianProgram | PythonProgram

TELEGRAF = GoProgram(
    name="telegraf",
    package="github.com/influxdata/telegraf/cmd/telegraf",
    version="1.37.2",
    tags=(
        "custom",
        *(
            f"inputs.{name}"
            for name in ("cpu", "disk", "diskio", "kernel", "mem", "net", "processes", "swap", "system")
        ),
        *(f"inputs.{name}" for name in ("kafka_consumer", "syslog")),
        *(f"outputs.{name}" for name in ("discard", "file", "health", "influxdb_v2")),
        "parsers.influx",
        "serializers.influx",
    ),
)
"""The peer in benchmarks: only the plugins that are measured, as somebody who minds memory would build it."""
PROMTOOL = DebianProgram("promtool", "prometheus")
"""Checks names and types of metrics."""
PROMETHEUS = DebianProgram("prometheus", "prometheus")
"""Scrapes."""
QEMU = DebianProgram("qemu-system-x86_64", "qemu-system-x86")
"""Machines that may lose their power."""
POSTGRES = DebianProgram("postgres", "postgresql", "/usr/lib/postgresql/*/bin")
"""The database of Placement."""
_SHARED = Path(__file__).with_name("placement_needs.txt")
PLACEMENT_12 = PythonProgram(
    "placement12",
    ("openstack-placement==12.0.0", "SQLAlchemy==2.0.58", "oslo.db==16.0.0", "oslo.policy==4.4.0"),
    _SHARED,
)
"""The peer of claims and placement: the newest of its line that never gave a thing twice (2024.2)."""
PLACEMENT_16 = PythonProgram(
    "placement16",
    ("openstack-placement==16.0.0", "SQLAlchemy==2.1.9", "oslo.db==18.1.1", "oslo.policy==6.0.1"),
    _SHARED,
)
"""The same peer, two years on: it alone can be tuned for hosts of many devices."""

NOVA = PythonProgram("nova", ("nova==34.0.0",), Path(__file__).with_name("nova_needs.txt"))
"""Its PCI configuration's own parser."""

PROGRAMS: tuple[Program, ...] = (TELEGRAF, PROMTOOL, PROMETHEUS, QEMU, POSTGRES, PLACEMENT_12, PLACEMENT_16, NOVA)


def provide(program: Program, *, may_install: bool) -> Path:
    """Give a program, installing it only where that is asked for. Raises NotAvailableError."""
    look: Callable[[], Path | None] = program.install if may_install else program.find
    found = look()
    if found is None:
        raise NotAvailableError(f"{program.name} is not here; `python -m tests.services install` gets it")
    return found
