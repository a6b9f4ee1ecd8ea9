"""What benches measure processes with, and the table that they end in."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil

from tests.acceptance.stage import until
from tests.ports import free_port

ROOT = Path(__file__).parents[2]


class Line(msgspec.Struct, frozen=True):
    """One line of the table: a figure beside its bar and its peer."""

    what: str
    ours: float
    unit: str
    bar: float | None = None
    """None: reported only."""
    peer: float | None = None
    peer_name: str = ""
    least: bool = False
    """The bar is the least that will do, not the most."""
    note: str = ""

    @property
    def verdict(self) -> str:
        """`ok` or `MISSED`; "" without a bar."""
        if self.bar is None:
            return ""
        return "ok" if (self.ours >= self.bar if self.least else self.ours <= self.bar) else "MISSED"


def show(lines: Iterable[Line]) -> None:
    """Print the table."""
    rows = [("what", "ours", "bar", "peer", "ratio", "verdict", "")]
    for line in lines:
        bar = "" if line.bar is None else f"{'>=' if line.least else '<='} {line.bar:g}"
        peer = "" if line.peer is None else f"{line.peer:.4g} {line.peer_name}".rstrip()
        ratio = f"{line.ours / line.peer:.2f}" if line.peer else ""
        rows.append((line.what, f"{line.ours:.4g} {line.unit}", bar, peer, ratio, line.verdict, line.note))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    sys.stdout.flush()


class Member(msgspec.Struct):
    """One process as measured."""

    name: str
    pss: int
    """Proportional set size in bytes: shared pages are shared out."""
    private: int
    """Pages that nobody else has, bytes."""
    cpu: float
    """User and system seconds since its start."""
    threads: int


def family(pid: int) -> list[psutil.Process]:
    """Give a process and all below it."""
    top = psutil.Process(pid)
    return [top, *top.children(recursive=True)]


def members(pid: int) -> list[Member]:
    """Measure a process and all below it; one that ends meanwhile is left out."""
    found = []
    for process in family(pid):
        with contextlib.suppress(psutil.Error, OSError):
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
            sizes = {line.split(":")[0]: int(line.split()[1]) << 10 for line in rollup[1:]}
            times = process.cpu_times()
            found.append(
                Member(
                    process.name(),
                    sizes["Pss"],
                    sizes["Private_Clean"] + sizes["Private_Dirty"],
                    times.user + times.system,
                    process.num_threads(),
                )
            )
    return found


def cpu_seconds(pid: int) -> float:
    """Give the CPU seconds of a process and all below it, in nanosecond steps where the kernel tells them."""
    total = 0.0
    for process in family(pid):
        for task in Path(f"/proc/{process.pid}/task").glob("*"):
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0]) / 1e9
    return total


def pss(pid: int) -> float:
    """Give the PSS of a process and all below it in MB."""
    return sum(member.pss for member in members(pid)) / 1e6


def alone(pid: int) -> float:
    """Give the MB of a process and all below it as they would be with nothing else on the machine.

    PSS shares out the pages of a library with every other program that has it loaded, such as this one. Here memory of
    the processes' own counts once, however many of them share it, and of each file the pages of the one that uses most.
    """
    own, files = 0, dict[str, int]()
    for process in family(pid):
        with contextlib.suppress(psutil.Error, OSError):
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            own += int(rollup.partition("Pss_Anon:")[2].split()[0]) << 10
            mapped = dict[str, int]()
            for mapping in process.memory_maps(grouped=False):
                if mapping.path.startswith("/"):
                    mapped[mapping.path] = mapped.get(mapping.path, 0) + mapping.rss - mapping.anonymous
            for path, size in mapped.items():
                files[path] = max(files.get(path, 0), size)
    return (own + sum(files.values())) / 1e6


@contextmanager
def node_python() -> Iterator[str]:
    """Give an interpreter that has of Python packages what a node has: Muster's base install, and no more.

    What a developer has besides (`typing_extensions` alone) is imported by libraries that find it, and takes memory.
    """
    with tempfile.TemporaryDirectory(prefix="muster-node-") as folder:
        venv.create(folder, with_pip=True)
        python = f"{folder}/bin/python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", str(ROOT)], check=True)
        yield python


class Sink:
    """A sink in a process of its own."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

    def counts(self) -> dict[str, int]:
        """Give what came in."""
        with urllib.request.urlopen(self.address + "/counts", timeout=5) as answer:
            found: dict[str, int] = json.load(answer)
            return found


@contextmanager
def sink() -> Iterator[Sink]:
    """Run a sink that takes everything."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.sink", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)
    found = Sink(port)

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return "rows" in found.counts()
        return False

    try:
        until("the sink to answer", answers)
        yield found
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def fsync_ms(folder: Path, times: int = 50) -> float:
    """Give the median milliseconds that 4 KiB need to be on this disk."""
    spent = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(times):
            file.write(os.urandom(4096))
            began = time.perf_counter()
            os.fsync(file.fileno())
            spent.append((time.perf_counter() - began) * 1e3)
    return sorted(spent)[times // 2]
