"""The collector `nvme` in the guest: what it says of real controllers, beside what nvme-cli and smartctl say of them.

`python3.11 -m tests.vm.guest.nvme_drives` prints lines of JSON: `look`, a list of a moment's name, the collector's rows
and documents, and what the other readers say; `event` as each comes; `pages`, what the drives answered, compressed;
`clean`, what a step made of a hook that formats with erase, and of one that does nothing; and `ask` for what only
the machine's keeper can do: `warn` (a critical warning of the drive SEED), `pull` (the drive PULLED).
"""

import base64
import json
import logging
import os
import queue
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from collectors.claims.options import Hook
from collectors.claims.order import Order
from collectors.claims.runner import perform
from collectors.contract import Context
from collectors.nvme import NvmeCollector, NvmeConfig
from collectors.nvme.admin import ALL_NAMESPACES, KernelAdmin
from schemas.claims import ClaimDevice, Step
from schemas.errors import NoDataError, PartialCollectError
from schemas.rows import Event, Reading

SECONDS = 30.0
KEPT: dict[str, str] = {}
"""What drives answered, by command."""


class Recorder(KernelAdmin):
    """Asks a drive, and keeps what it answers."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        super().__init__(path)

    def identify(self, cns: int, nsid: int = 0) -> bytes:
        """Give an identify structure."""
        return self._kept(f"identify {cns} {nsid}", super().identify(cns, nsid))

    def log_page(self, page: int, size: int, nsid: int = ALL_NAMESPACES) -> bytes:
        """Give a log page."""
        return self._kept(f"log {page:02x}", super().log_page(page, size, nsid))

    def _kept(self, command: str, data: bytes) -> bytes:
        KEPT[f"{self._name} {command}"] = base64.b85encode(zlib.compress(data, 9)).decode()
        return data


class Told:
    """The collector, watched, and the events that it told."""

    def __init__(self) -> None:
        context = Context(subject="guest", log=logging.getLogger("nvme"))
        self.collector = NvmeCollector(NvmeConfig(health_every_seconds=0.01), context, open_=Recorder)
        self.collector.start()
        self._heard: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self.collector.watch, args=(self._emit, self._stopping))
        self._thread.start()

    def _emit(self, items: Iterable[Any]) -> None:
        for item in items:
            say("event", [item.type, item.device, dict(item.detail)])
            self._heard.put(item)

    def wait(self, kind: str) -> None:
        """Read on until there is an event of a kind."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            self.rows()
            try:
                while True:
                    if self._heard.get(timeout=0.6).type == kind:
                        return
            except queue.Empty:
                continue
        raise TimeoutError(kind)

    def rows(self) -> dict[str, Any]:
        """Collect, and give the rows of `nvme` by device."""
        found: dict[str, dict[str, Any]] = {}
        try:
            for item in self.collector.collect():
                if isinstance(item, Reading) and item.measurement != "nvme_sensor":
                    found.setdefault(item.device, {}).update(item.fields)
        except (PartialCollectError, NoDataError) as error:
            say("trouble", str(error))
        return found

    def look(self, moment: str, *asked: str) -> dict[str, Any]:
        """Say all that there is, and what others say of it (`asked`: names of `OTHERS`); give the documents."""
        documents = {}
        try:
            for one in self.collector.describe():
                documents[one.device] = msgspec.to_builtins(one)
        except PartialCollectError as error:
            say("trouble", str(error))
        say("look", [moment, self.rows(), documents, others(*asked)])
        return documents

    def stop(self) -> None:
        """End the watch and the collector."""
        self._stopping.set()
        self._thread.join(5)
        self.collector.stop()


OTHERS = {
    "smart": ("/usr/sbin/nvme", "smart-log", "-o", "json"),
    "controller": ("/usr/sbin/nvme", "id-ctrl", "-o", "json"),
    "namespace": ("/usr/sbin/nvme", "id-ns", "-n", "1", "-o", "json"),
    "firmware": ("/usr/sbin/nvme", "fw-log", "-o", "json"),
    "ocp": ("/usr/sbin/nvme", "ocp", "smart-add-log", "-o", "json"),
    "smartctl": ("/usr/sbin/smartctl", "-j", "-a"),
}
"""Other readers of a drive."""


def others(*asked: str) -> dict[str, Any]:
    """Give what nvme-cli and smartctl say, by the drive's serial number."""
    return {
        (folder / "serial").read_text().strip(): {name: run(*OTHERS[name], f"/dev/{folder.name}") for name in asked}
        for folder in (sorted(Path("/sys/class/nvme").iterdir()) if asked else ())
    }


def run(*command: str) -> Any:
    """Run a program, and give the JSON that it prints; None for none."""
    text = subprocess.run(command, capture_output=True, check=False).stdout
    return json.loads(text) if text.strip().startswith(b"{") else None


def partition(disk: str, megabytes: int) -> str:
    """Make one partition, and an ext2 file system in it; give the partition."""
    entry = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0x83, b"\xff\xff\xff", 2048, megabytes * 2048)
    with Path(disk).open("r+b", buffering=0) as file:
        file.write(bytes(446) + entry.ljust(64, b"\0") + b"\x55\xaa")
    subprocess.run(("busybox", "blockdev", "--rereadpt", disk), check=True)
    subprocess.run(("busybox", "mke2fs", f"{disk}p1"), check=True, stdout=subprocess.DEVNULL)
    return f"{disk}p1"


def main() -> None:
    """Tell it, and end the watch whatever happens."""
    told = Told()
    try:
        steps(told)
    finally:
        told.stop()


def steps(told: Told) -> None:
    """Tell it step by step."""
    documents = told.look("start", "smart", "controller", "namespace", "firmware")
    say("pages", KEPT)
    name = {one["part"].get("serial"): one["capabilities"]["controller"] for one in documents.values() if name_of(one)}
    seed, pulled = name["SEED"], name["PULLED"]
    Path("/tmp/data").write_bytes(b"x" * 4096 * 512)
    subprocess.run(("busybox", "dd", "if=/tmp/data", f"of=/dev/{seed}n1", "bs=1M", "conv=fsync"), check=True)
    mounted = partition(f"/dev/{pulled}n1", 8)
    Path("/tmp/mnt").mkdir()
    subprocess.run(("busybox", "mount", "-t", "ext4", mounted, "/tmp/mnt"), check=True)
    told.look("used", "smart", "smartctl", "ocp")
    subprocess.run(("busybox", "umount", "/tmp/mnt"), check=True)
    subprocess.run(("/usr/sbin/nvme", "set-feature", f"/dev/{seed}", "-f", "0x0b", "-v", "0x1ff"), check=True)
    say("ask", "warn")
    told.wait("nvme.critical_warning")
    told.look("warned")
    subprocess.run(("/usr/sbin/nvme", "format", f"/dev/{seed}n1", "--lbaf=0", "--force"), check=True)
    told.look("formatted", "namespace")
    subprocess.run(("/usr/sbin/nvme", "reset", f"/dev/{seed}"), check=True)
    told.wait("nvme.drive.reset")
    wipe = f"exec /usr/sbin/nvme format /dev/{seed}n1 --ses=1 --force"
    drive, space = documents["nvme:SEED"], documents["nvme-namespace:SEED/1"]
    for document, command in ((drive, wipe), (space, wipe), (drive, "exit 0")):
        say("clean", clean(document, drive["slot"]["address"], command))
    os.seteuid(65534)
    told.look("denied")
    os.seteuid(0)
    say("ask", "pull")
    told.wait("nvme.drive.gone")
    told.look("pulled")


def clean(document: Any, place: str, command: str) -> Any:
    """Do a claim's step on a drive, or a name space of it, and give its report."""
    part = f"serial:{document['part']['vendor']}:{document['part']['serial']}"
    address, parent = (place, "") if document["kind"] == "nvme" else ("", place)
    device = ClaimDevice("d-1", document["kind"], part, address, "", "driver", -1, (), part, parent, clean=12)
    hook = Hook(run=["/bin/busybox", "sh", "-c", command])
    order = Order(Step.CLEAN, "c-1", "t", "job", 1, 5, device, name="wipe", hook=hook)
    return msgspec.structs.asdict(perform(order))


def name_of(document: Any) -> bool:
    """Whether a document is of a drive."""
    return bool(document["kind"] == "nvme")


def say(word: str, what: object) -> None:
    """Print one line."""
    sys.stdout.write(json.dumps({word: what}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
