"""A node with real devices that can be broken: NVMe drives, a network port with virtual functions, hot-plug slots.

A guest of QEMU whose agent reports, over the emulator's user network and with a token of its own, to a Muster on this
machine. `make vm` shows it; acceptance scripts and tests stand on it.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.vm.emulator import emulator
from tests.vm.machine import Machine, MachineError

NAME: Final = "vm-node"
COLLECTORS: Final = ("pci", "nvme", "sriov", "syslog")
SEED_BYTES: Final = 3_840_755_982_336
SMALL_BYTES: Final = 16 << 20
MAC: Final = "02:11:22:33:44:55"
HOOK: Final = "/muster/docs/hooks/device-hook"
ROOT_PORT: Final = "0000:00:02.0"
"""Where `rp1` is, which the port with virtual functions is behind."""
_SECONDS: Final = 60.0
_HOG: Final = """
cd /sys/fs/cgroup && [ -e hog ] || {
  busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup && cd /sys/fs/cgroup
  echo +memory > cgroup.subtree_control && mkdir hog && echo 32M > hog/memory.max
}
echo $$ > hog/cgroup.procs && exec python3.11 -c 'bytes([1]) * (1 << 28)'
"""

_AGENT: Final = """
[agent]
node_id = "{name}"
only = {only}
describe_every_seconds = {every}
[publish]
aggregators = ["http://10.0.2.2:{port}"]
enrolment_token = "{token}"
insecure = "tokens and data travel unencrypted"
[collectors.pci]
interval_seconds = {every}
timeout_seconds = 20
[collectors.nvme]
interval_seconds = {every}
timeout_seconds = 20
health_every_seconds = {every}
[collectors.sriov]
interval_seconds = {every}
timeout_seconds = 20
[claims.hooks.any]
prepare = {{run = ["{hook}"], timeout_seconds = 300}}
undo = {{run = ["{hook}"], timeout_seconds = 300}}
clean = {{run = ["{hook}"], timeout_seconds = 300}}
"""
_COMMAND: Final = """
busybox hostname {name}
ip address add 10.0.2.15/24 dev eth0 && ip link set eth0 up && ip route add default via 10.0.2.2
cat > /tmp/agent.toml <<'END'
{config}
END
exec python3.11 -m tests.vm.guest.node
"""


class Node:
    """A running node, and what one can do to it."""

    def __init__(self, machine: Machine) -> None:
        """Take over a machine that has booted."""
        self._machine = machine
        self._drives = 0
        self._next("agent")

    def run(self, text: str, *, check: bool = True) -> str:
        """Have its shell run a command, and give what it wrote.

        Raises MachineError when it fails and `check` is set.
        """
        self._machine.say(json.dumps({"run": text}))
        status, output = self._next("ran")
        if check and status:
            raise MachineError(f"{text}: exit status {status}\n{output}")
        return str(output)

    def pull(self, device: str) -> None:
        """Ask a device to leave, as somebody who presses the button of its slot. It is gone some seconds later."""
        self._machine.qmp("device_del", id=device)

    def plug_drive(self, serial: str, bus: str) -> None:
        """Put a drive that was pulled into a slot."""
        self._machine.qmp("device_add", driver="nvme", id=serial, serial=serial, drive=f"d{serial}", bus=bus)

    def plug_port(self, device: str, bus: str, mac: str) -> None:
        """Put a network card into a slot."""
        self._machine.qmp("device_add", driver="igb", id=device, mac=mac, bus=bus)

    def warn(self, device: str, bits: int) -> None:
        """Let a drive say a critical warning."""
        path = f"/machine/peripheral/{device}"
        self._machine.qmp("qom-set", path=path, property="smart_critical_warning", value=bits)

    def link(self, device: str, *, up: bool) -> None:
        """Plug a network cable in or out."""
        self._machine.qmp("set_link", name=device, up=up)

    def pcie_error(self, device: str, status: int, *, corrected: bool) -> None:
        """Have a root port (`rp1`) report an error by AER; `status` is the bit of its status register.

        Source: PCI Express Base 5.0, 7.8.4. The emulator's igb lets nobody turn its own reports on.
        """
        self.monitor(f"pcie_aer_inject_error {'-c ' if corrected else ''}{device} {status:#x}")

    def machine_check(self) -> None:
        """Have the processor report a corrected error of memory, which the kernel looks for every two seconds then."""
        self.run("echo 2 > /sys/devices/system/machinecheck/machinecheck0/check_interval")
        self.monitor("mce 0 9 0x9c00000000000090 0 0x12345000 0x8c")

    def out_of_memory(self) -> None:
        """Have a program take more memory than its control group may, which the kernel ends for it."""
        self.run(_HOG, check=False)

    def monitor(self, line: str) -> str:
        """Give what the emulator's monitor for people answers. Raises MachineError when it does not understand."""
        said = str(self._machine.qmp("human-monitor-command", **{"command-line": line}))
        if said.startswith(("Error", "unknown", "invalid")) or "not found" in said:
            raise MachineError(f"{line}: {said}")
        return said

    def stop(self) -> int | None:
        """End the agent in order, and power the machine off. Gives the agent's exit status."""
        self._machine.say(json.dumps({"stop": True}))
        for _ in self._machine.lines(_SECONDS):
            pass
        return self._machine.exit_status

    @property
    def console(self) -> str:
        """The last of what the kernel said."""
        return self._machine.console

    def _next(self, word: str) -> Any:
        for line in self._machine.lines(_SECONDS + 10):
            if line.startswith("{"):
                found = json.loads(line)
                if word in found:
                    return found[word]
        raise MachineError(f"the node ended\n{self.console}")


def devices(folder: Path) -> list[str]:
    """Give QEMU's arguments.

    A way to this machine; the seed drive of R000-4, whose image takes no room; small drives, SMALL in a slot and KEPT
    on the board; a port with up to seven functions; empty slots, `rp3` and `rp4`.
    """
    arguments = ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off", "-device", "intel-iommu,intremap=off"]
    arguments += ["-append", "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on intel_iommu=on"]
    for name, size in (("SEED", SEED_BYTES), ("SMALL", SMALL_BYTES), ("KEPT", SMALL_BYTES)):
        disk = folder / f"{name}.img"
        with disk.open("wb") as file:
            file.truncate(size)
        arguments += ["-blockdev", f"driver=file,node-name=f{name},filename={disk},discard=unmap"]
        arguments += ["-blockdev", f"driver=raw,node-name=d{name},file=f{name},discard=unmap"]
    arguments += ["-netdev", "user,id=n0", "-netdev", "user,id=n1,restrict=on"]
    for device in (
        "virtio-net-pci,netdev=n0",
        *(f"pcie-root-port,id=rp{number},chassis={number},slot={number}" for number in (1, 2, 3, 4)),
        "nvme,serial=SEED,id=SEED",
        "nvme-ns,drive=dSEED,bus=SEED,logical_block_size=4096,physical_block_size=4096",
        f"igb,id=port,netdev=n1,bus=rp1,mac={MAC}",
        "nvme,serial=SMALL,id=SMALL,drive=dSMALL,bus=rp2",
        "nvme,serial=KEPT,id=KEPT,drive=dKEPT",
    ):
        arguments += ["-device", device]
    return arguments


@contextmanager
def node(
    folder: Path, port: int, token: str, *, hook: str = HOOK, only: Sequence[str] = COLLECTORS, every: int = 5
) -> Iterator[Node]:
    """Boot a node whose agent reports to this port of this machine; entered once that runs. Cut off at the end.

    `folder` keeps the drives; `hook`, on the node, does the steps of claims; `only` these collectors run,
    `every` so many seconds: emulated, a reading takes a good part of one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = _AGENT.format(name=NAME, port=port, token=token, hook=hook, only=json.dumps(only), every=every)
    command = _COMMAND.format(name=NAME, config=config)
    with Machine(command, memory=1024, extra=devices(folder), emulator=emulator("igb")) as machine:
        yield Node(machine)
