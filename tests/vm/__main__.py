"""`python -m tests.vm`, or `make vm`: a node with real drives and virtual functions, to look at and to break.

Starts a `muster up` of its own in a temporary folder and, beside it, a node under QEMU whose agent reports there. It
ends at Ctrl-C, at `quit`, at the end of its input, or after `--minutes`, and leaves nothing.
"""

import argparse
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from tests.acceptance.stage import FailedError, Muster, stage, until
from tests.vm.machine import MachineError
from tests.vm.node import COLLECTORS, MAC, NAME, Node, node

_GROUP: Final = "/dev/vfio/$(basename $(readlink /sys/class/net/eth1/device/virtfn0/iommu_group))"
_TAKE: Final = f"""
cd /sys/class/net/eth1/device/virtfn0
[ "$(basename $(readlink driver))" = vfio-pci ] || {{
  echo vfio-pci > driver_override; basename $(readlink -f .) > driver/unbind
  basename $(readlink -f .) > /sys/bus/pci/drivers_probe
}}
sleep 3600 3<>{_GROUP} >/dev/null 2>&1 & echo $! > /run/taker
"""
_DISK: Final = "/dev/$(basename $(dirname $(busybox grep -l '^{} *$' /sys/class/nvme/nvme*/serial)))n1"


class Toys:
    """What one can do to the node, by the word that does it."""

    def __init__(self, machine: Node) -> None:
        self.node = machine
        self.words: dict[str, tuple[str, Callable[[], None]]] = {
            "vfs": ("make four virtual functions of the port (`vfs 0`: none)", self.functions),
            "pull": ("pull the drive SMALL out of its slot", lambda: machine.pull("SMALL")),
            "plug": ("put it into the empty slot", lambda: machine.plug_drive("SMALL", "rp3")),
            "warn": ("let the seed drive say that it is unreliable (`warn 0`: no more)", self.warn),
            "format": ("format the seed drive's name space to sectors of 512 bytes (`format 1`: of 4096)", self.format),
            "mount": ("mount a file system on KEPT: it is the host's now", self.mount),
            "unmount": ("unmount it: dirty", lambda: self.shell("busybox umount /tmp/mnt")),
            "take": ("a program opens the vfio group of the first function, past Muster: foreign", self.take),
            "leave": ("it ends: dirty", lambda: self.shell("kill $(cat /run/taker)")),
            "tag": ("give the first function VLAN 301 and a MAC address", self.tag),
            "cable": ("pull the port's network cable (`cable 1`: put it back)", self.cable),
            "aer": ("a corrected PCIe error of the slot that the port is in", self.aer),
            "mce": ("a machine check: memory corrected an error", machine.machine_check),
            "oom": ("a program takes more memory than it may, and is killed", machine.out_of_memory),
            "log": ("show what the node's agent logs", lambda: self.shell("tail -n 20 /tmp/agent.log")),
        }
        self._argument = ""

    def do(self, line: str) -> None:
        """Do what a line asks for. Raises MachineError when it cannot be done."""
        if line.startswith("!"):
            self.shell(line[1:])
            return
        word, _, self._argument = line.partition(" ")
        if word not in self.words:
            tell(f"there is no {word!r}; there is {', '.join(self.words)}, ! COMMAND, help, quit")
            return
        self.words[word][1]()
        tell(f"{word}: done")

    def shell(self, text: str) -> None:
        """Run a command in the node, and show what it wrote."""
        tell(self.node.run(text, check=False).rstrip())

    def functions(self) -> None:
        """Make functions; the kernel wants none before it makes others."""
        count = int(self._argument or 4)
        self.node.run("echo 0 > /sys/class/net/eth1/device/sriov_numvfs")
        self.node.run(f"echo {count} > /sys/class/net/eth1/device/sriov_numvfs")

    def warn(self) -> None:
        """Set the bits of the critical warning."""
        self.node.warn("SEED", int(self._argument or 4))

    def format(self) -> None:
        """Change the format in use: the seed drive has 0 with 512 bytes, and 4 with 4096."""
        lba = 4 if self._argument == "1" else 0
        self.node.run(f"nvme format {_DISK.format('SEED')} --lbaf={lba} --force")

    def mount(self) -> None:
        """Make a file system, and mount it."""
        disk = _DISK.format("KEPT")
        self.node.run(f"busybox mke2fs {disk} && mkdir -p /tmp/mnt && busybox mount -t ext4 {disk} /tmp/mnt")

    def take(self) -> None:
        """Open the group of the first function, which has to be at vfio-pci for it."""
        self.node.run(_TAKE)

    def tag(self) -> None:
        """Set what ports set of functions."""
        self.node.run("ip link set eth1 vf 0 mac 02:00:00:00:0a:00 vlan 301")

    def cable(self) -> None:
        """Set the link of the port."""
        self.node.run("ip link set eth1 up && sleep 5")
        self.node.link("port", up=self._argument == "1")

    def aer(self) -> None:
        """Bit 0: an error of the receiver."""
        self.node.pcie_error("rp1", 1, corrected=True)


def tell(text: str) -> None:
    """Say something."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def welcome(muster: Muster, toys: Toys, minutes: float) -> None:
    """Say what there is, and what to try."""
    program = Path(sys.executable).parent / "muster"
    tell(f"""
The node {NAME} runs and reports to {muster.address}: the seed drive SEED, the small drives SMALL (in a slot) and KEPT,
an igb port {MAC}, an empty slot. In another terminal:

  export MUSTER_SERVER=unix://{muster.data_dir / "muster.sock"}
  {program} devices --node {NAME}          # what there is, whose it is; --watch: as it changes
  {program} query event --since 10m        # what happened
  {program} query nvme --last              # what its drives say
  {program} top {NAME}
  {program} clean DEVICE                   # its hook formats the drive, or resets the function; evidence makes it free
  {program} claims create DEVICE --tenant blue --for vm-1, then: claims provision CLAIM, claims release CLAIM
  {program} devices DEVICE --history       # everything that was decided about it, with its evidence

Here:
""")
    for word, (text, _) in toys.words.items():
        tell(f"  {word:<9}{text}")
    tell(f"  ! COMMAND runs a command in the node; help, quit\n\nIt ends by itself in {minutes:g} minutes.")


def listen(muster: Muster, toys: Toys, minutes: float) -> None:
    """Do what lines of standard input ask for, until there are no more or the time is over."""
    until_ = time.monotonic() + 60 * minutes
    while True:
        if sys.stdin.isatty():
            sys.stdout.write("> ")
            sys.stdout.flush()
        ready, _, _ = select.select([sys.stdin], [], [], max(0.0, until_ - time.monotonic()))
        line = sys.stdin.readline() if ready else ""
        if not line or line.strip() == "quit":
            tell("" if line else "its time is over" if not ready else "")
            return
        if line.strip() == "help":
            welcome(muster, toys, (until_ - time.monotonic()) // 60)
        elif line.strip():
            try:
                toys.do(line.strip())
            except (MachineError, ValueError) as error:
                tell(str(error))


def show(minutes: float) -> None:
    """Boot, let people play, take everything away."""
    with tempfile.TemporaryDirectory(prefix="muster-vm-") as place:
        folder = Path(place)
        with stage(folder / "up") as muster:
            tell("starting Muster on this machine")
            muster.start("up", "--quiet")
            muster.ready()
            token = muster.ask("token", "enrol", "--subject", NAME)["secret"]
            tell("booting a node in software: about half a minute; the very first time its image is made before that")
            with node(folder / "node", muster.port, token, only=("host", *COLLECTORS)) as machine:
                toys = Toys(machine)
                until("the node's first word", lambda: NAME in str(muster.ask("nodes")))
                welcome(muster, toys, minutes)
                try:
                    listen(muster, toys, minutes)
                except KeyboardInterrupt:
                    tell("")
                tell("the node is powered off")


def main() -> int:
    """Read the command line; gives the exit status."""
    parser = argparse.ArgumentParser(prog="make vm", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="when it ends by itself")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        show(options.minutes)
    except KeyboardInterrupt:
        return 130
    except (FailedError, MachineError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
