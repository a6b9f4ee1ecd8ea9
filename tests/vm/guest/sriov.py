"""The collector `sriov` in the guest: what it says of a real port of Intel's, beside what `ip` says of it.

`python3.11 -m tests.vm.guest.sriov` prints lines of JSON. `look` at every step: the documents and rows by PCI address,
what `ip -j -s -d link` says before and after them, and the kernel's answer for the port. `event` as each comes. The
port is pulled by who reads the line `pull`.
"""

import json
import logging
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from collectors.contract import Context
from collectors.sriov import SriovCollector
from collectors.sriov.evidence import shown
from collectors.sriov.kernel import OwnKernel
from collectors.sriov.netlink import WITH_VFS
from schemas.rows import Event, Reading

SECONDS = 60.0
DEVICES = Path("/sys/bus/pci/devices")
VFS = 3
SETTINGS = (
    ("0", "mac", "02:00:00:00:0a:00"),
    ("0", "vlan", "301", "qos", "3"),
    ("1", "vlan", "302"),
    ("1", "max_tx_rate", "100"),
    ("1", "spoofchk", "off"),
    ("2", "trust", "on"),
)


class Guest:
    """The collector, its watch, and the port that all is about."""

    def __init__(self) -> None:
        # nothing but the kernel's word makes it look
        config = SriovCollector.Config(rescan_every_seconds=3600)
        self.collector = SriovCollector(config, Context(subject="guest", log=logging.getLogger("sriov")))
        self.collector.start()
        self.heard: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.collector.watch, args=(self._emit, self.stopping))
        self.thread.start()
        (self.port,) = DEVICES.glob("*/sriov_totalvfs")
        self.folder = self.port.parent
        (interface,) = (self.folder / "net").iterdir()
        self.interface = interface.name

    def _emit(self, items: Iterable[Any]) -> None:
        for item in items:
            say("event", [item.type, item.device, dict(item.detail)])
            self.heard.put(item)

    def wait(self, kind: str, **detail: object) -> None:
        """Wait for an event with this detail."""
        while True:
            event = self.heard.get(timeout=SECONDS)
            if event.type == kind and detail.items() <= event.detail.items():
                return

    def look(self, step: str, *, port: bool = True) -> None:
        """Say everything as of now."""
        documents = {one.slot.address: msgspec.to_builtins(one) for one in self.collector.describe()}
        names = {one["device"]: address for address, one in documents.items()}
        before = links()
        read = [item for item in self.collector.collect() if isinstance(item, Reading)]
        rows = [[row.measurement, names[row.device], dict(row.fields)] for row in read]
        said: dict[str, Any] = {"step": step, "documents": documents, "rows": rows, "before": before, "after": links()}
        if port:
            index = int((self.folder / "net" / self.interface / "ifindex").read_text())
            kernel = OwnKernel()
            said["answer"] = kernel.link(index, WITH_VFS).hex()
            kernel.close()
            functions = [address for address, one in documents.items() if one["kind"] == "vf"]
            said["shown"] = {address: msgspec.to_builtins(shown(Path("/"), address)) for address in functions}
        say("look", said)


def main() -> None:
    """Tell it step by step."""
    guest = Guest()
    run("ip", "link", "set", guest.interface, "up")
    guest.look("alone")
    (guest.folder / "sriov_numvfs").write_text(f"{VFS}\n")
    guest.wait("sriov.functions", after=VFS)
    functions = [(guest.folder / f"virtfn{index}").resolve() for index in range(VFS)]
    settle(lambda: all(list(function.glob("net/*")) for function in functions))
    say("traffic", traffic(functions[1:]))
    guest.look("made")
    for index, *words in SETTINGS:
        run("ip", "link", "set", guest.interface, "vf", index, *words)
    guest.wait("sriov.changed", what="trust", after="true")
    guest.look("set")
    give_to_vfio(functions[2])
    guest.wait("sriov.changed", what="interface", after="")
    guest.look("given")
    (guest.folder / "sriov_numvfs").write_text("0\n")
    guest.wait("sriov.functions", after=0)
    guest.look("none")
    say("pull", time.monotonic())
    guest.wait("sriov.port.gone")
    say("pulled", time.monotonic())
    guest.look("gone", port=False)
    guest.stopping.set()
    guest.thread.join(5)
    guest.collector.stop()


def traffic(functions: list[Path]) -> list[str]:
    """Send through the interfaces of functions until their drivers have counted it; give those interfaces."""
    found = [next((function / "net").iterdir()) for function in functions]
    for number, one in enumerate(found):
        run("ip", "link", "set", one.name, "up")
        run("ip", "address", "add", f"10.9.{number}.1/24", "dev", one.name)
    settle(lambda: all((one / "carrier").read_text() == "1\n" for one in found))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number, one in enumerate(found):
            run("ip", "neighbour", "add", f"10.9.{number}.2", "lladdr", "02:00:00:00:ff:ff", "dev", one.name)
            for _ in range(20 * (number + 1)):
                sender.sendto(b"x" * 100, (f"10.9.{number}.2", 9))
    settle(lambda: all(int((one / "statistics/tx_packets").read_text()) >= 20 for one in found))
    time.sleep(3.0)  # the driver counts once in two seconds
    return [one.name for one in found]


def links() -> Any:
    """Give what `ip` says of all interfaces."""
    return json.loads(run("ip", "-j", "-s", "-d", "link", "show"))


def run(*command: str) -> str:
    """Run a command that may not fail, and give what it says."""
    return subprocess.run([f"/bin/{command[0]}", *command[1:]], check=True, capture_output=True, text=True).stdout


def settle(ready: Any) -> None:
    """Wait for drivers."""
    until = time.monotonic() + SECONDS
    while not ready():
        if time.monotonic() > until:
            raise TimeoutError("the drivers did not come")
        time.sleep(0.2)
    time.sleep(1.0)


def give_to_vfio(function: Path) -> None:
    """Take a function from its driver and bind it to vfio-pci."""
    (function / "driver_override").write_text("vfio-pci\n")
    (function / "driver/unbind").write_text(f"{function.name}\n")
    Path("/sys/bus/pci/drivers_probe").write_text(f"{function.name}\n")


def say(word: str, what: object) -> None:
    """Print one line."""
    sys.stdout.write(json.dumps({word: what}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
