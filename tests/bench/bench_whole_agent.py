"""What the whole agent costs on a full node. Run: `python -m tests.bench.bench_whole_agent`.

`host`, `pci` and `syslog` of this machine, `nvml` on 8 fake GPUs, and `nvme` and `sriov` on a machine that was made: 4
drives, 2 ports with 32 virtual functions each. About 2,500 values/s of them, and ten messages of syslog a second, go to
a sink that takes everything. Each collector runs as on a node: in its helper process, from the base install; only the
last step into library or kernel is another.

Memory is the PSS of the whole process tree, and beside it what it would be with no other program to share libraries
with. CPU is what the kernel charged to all its processes. The start is the time from exec to the first rows at the
sink. `--breakdown` shows each process.
"""

import argparse
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance.stage import stage
from tests.bench.bench_agent import Cost, show_members
from tests.bench.made_machine import make_distribution, make_machine
from tests.bench.measuring import Line, Sink, cpu_seconds, node_python, show, sink
from tests.fakes.nvml import FakeNvml
from tests.ports import free_port

WARM_UP_SECONDS = 15.0
MESSAGES_PER_SECOND = 10.0
STARTS = 5
COLLECTORS = "host pci nvml made_nvme made_sriov syslog"
AGENT = """
[agent]
only = [{only}]

[publish]
aggregators = ["{address}"]

[collectors.host]
interval_seconds = 1.0

[collectors.nvml]
interval_seconds = {interval}
library = "{library}"

[collectors.made_nvme]
root = "{root}"

[collectors.made_sriov]
interval_seconds = {interval}
root = "{root}"

[collectors.syslog]
interval_seconds = 1.0
tcp = "127.0.0.1:{port}"
"""
INTERVAL_SECONDS = 1 / 3
"""Of the GPUs and the virtual functions: about 2,500 values/s."""


class Node:
    """A node that is made, and where its agents are started."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder = folder
        self.python = python
        make_machine(folder / "root")
        make_distribution(folder / "made")
        self.fake = FakeNvml.build(folder)
        self._agents = 0

    @contextmanager
    def agent(self, where: Sink, collectors: str = COLLECTORS) -> Iterator[tuple[int, int]]:
        """Start an agent; give its process, and the port that it takes messages at."""
        self._agents += 1
        port = free_port()
        only = ", ".join(f'"{name}"' for name in collectors.split())
        config = AGENT.format(
            only=only, address=where.address, library=self.fake.library, root=self.folder / "root",
            interval=INTERVAL_SECONDS, port=port,
        )  # fmt: skip
        with stage(self.folder / f"agent{self._agents}", config, {"MUSTER_LOG_LEVEL": "WARNING"}) as muster:
            muster.python = self.python
            muster.env["PYTHONPATH"] = str(self.folder / "made")
            muster.env.pop("PYTHONDONTWRITEBYTECODE", None)  # as installed: with the bytecode that pip made
            yield muster.start("agent").pid, port
            if trouble := muster.log_path.read_text():
                print(trouble)


@contextmanager
def messages(port: int) -> Iterator[None]:
    """Send messages over TCP until the end."""
    over = threading.Event()

    def send() -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            number = 0
            while not over.wait(1 / MESSAGES_PER_SECOND):
                number += 1
                stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                text = f"<30>1 {stamp} node-a sshd 4711 - - Connection {number} closed by 192.0.2.7 port {number}"
                connection.sendall(f"{len(text)} {text}".encode())

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def start_seconds(node: Node) -> tuple[float, float]:
    """Give the seconds from exec to the first rows at the sink, and of CPU until then: medians of several starts."""
    taken, spent = [], []
    for _ in range(STARTS):
        with sink() as where:
            began = time.monotonic_ns()
            with node.agent(where) as (pid, _):
                while not (first := where.counts()["first_ns"]):
                    time.sleep(0.02)
                spent.append(cpu_seconds(pid))
            taken.append((first - began) / 1e9)
    return statistics.median(taken), statistics.median(spent)


def lines(seconds: float = 60.0, *, breakdown: bool = False) -> list[Line]:
    """Measure; about half a minute more than `seconds`."""
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as name, node_python() as python:
        node = Node(Path(name), python)
        with node.fake:
            start, start_cpu = start_seconds(node)
            with sink() as where, node.agent(where) as (pid, port):
                time.sleep(WARM_UP_SECONDS)
                cost = Cost(pid, where)
                with messages(port):
                    cost.begin()
                    time.sleep(seconds)
                    cost.end()
                if breakdown:
                    show_members(cost)
    note = "host, pci, syslog, 8 GPUs, 4 NVMe drives, 64 VFs"
    return [
        Line("whole agent, memory", cost.pss, "MB PSS", 40, note=note),
        Line("the same, alone on the machine", cost.alone, "MB"),
        Line("whole agent, growth", cost.pss - cost.first_pss, "MB", 1.0, note=f"over {seconds:.0f} s"),
        Line("whole agent, cost", cost.percent, "% of a core", 1.0, note=f"{cost.rate:.0f} values/s"),
        Line("whole agent, start to the first rows", start, "s", 1.0, note=f"median of {STARTS}"),
        Line("the same, CPU of all processes until then", start_cpu, "s"),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--breakdown", action="store_true", help="show each process")
    options = parser.parse_args()
    show(lines(options.seconds, breakdown=options.breakdown))


if __name__ == "__main__":
    main()
