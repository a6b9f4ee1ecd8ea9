"""The collector `nvme` in the guest, of a drive that is divided: what it says, beside what nvme-cli says.

`python3.11 -m tests.vm.guest.nvme_division` prints lines of JSON: `look` at every step, with documents and rows by
device, and what `nvme primary-ctrl-caps` and `nvme list-secondary` say.
"""

import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from collectors.contract import Context
from collectors.nvme import NvmeCollector, NvmeConfig
from collectors.pci_sysfs import virtual_functions
from schemas.rows import Reading

SECONDS = 30.0
BUS = Path("/sys/bus/pci")
NVME = "/usr/sbin/nvme"
QUEUES, INTERRUPTS, ASSIGN, ONLINE = 0, 1, 8, 9
"""Resources and actions of Virtualization Management."""


def main() -> None:
    """Tell it step by step."""
    (total,) = BUS.glob("devices/*/sriov_totalvfs")
    folder = total.parent
    collector = NvmeCollector(
        NvmeConfig(health_every_seconds=0.01), Context(subject="guest", log=logging.getLogger("nvme"))
    )
    collector.start()
    look(collector, "whole")
    (folder / "sriov_drivers_autoprobe").write_text("0\n")
    (folder / "sriov_numvfs").write_text("2\n")
    look(collector, "made")
    second = next(one for one in theirs()["secondary"] if one["virtual-function-number"] == 2)
    identifier = second["secondary-controller-identifier"]
    for resource, count in ((QUEUES, 2), (INTERRUPTS, 1)):
        manage(identifier, ASSIGN, resource, count)
    manage(identifier, ONLINE)
    look(collector, "online")
    address = next(address for address, index in virtual_functions(Path("/"), folder.name).items() if index == 1)
    (folder / "sriov_drivers_autoprobe").write_text("1\n")  # else no driver takes a function, asked or not
    (BUS / "drivers/nvme/bind").write_text(address)
    until = time.monotonic() + SECONDS
    while not all(one.read_text() == "live\n" for one in states()) or len(states()) < 2:
        if time.monotonic() > until:
            raise TimeoutError("the function did not come")
        time.sleep(0.1)
    look(collector, "bound")
    collector.stop()


def states() -> list[Path]:
    """Give the files with the states of controllers."""
    return list(Path("/sys/class/nvme").glob("nvme*/state"))


def look(collector: NvmeCollector, step: str) -> None:
    """Say everything as of now."""
    documents = {one.device: msgspec.to_builtins(one) for one in collector.describe()}
    rows: dict[str, dict[str, Any]] = {}
    for one in collector.collect():
        if isinstance(one, Reading) and one.measurement == "nvme":
            rows.setdefault(one.device, {}).update(one.fields)
    say("look", {"step": step, "documents": documents, "rows": rows, "theirs": theirs()})


def theirs() -> dict[str, Any]:
    """Give what nvme-cli says."""
    return {
        "primary": json.loads(run(NVME, "primary-ctrl-caps", "/dev/nvme0", "-o", "json")),
        "secondary": json.loads(run(NVME, "list-secondary", "/dev/nvme0", "-o", "json"))["secondary-controllers"],
    }


def manage(controller: int, action: int, resource: int = 0, count: int = 0) -> None:
    """Manage a secondary controller."""
    run(NVME, "virt-mgmt", "/dev/nvme0", f"-c{controller}", f"-a{action}", f"-r{resource}", f"-n{count}")


def run(*command: str) -> str:
    """Run a command that may not fail, and give what it says."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout


def say(word: str, what: object) -> None:
    """Print one line."""
    sys.stdout.write(json.dumps({word: what}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
