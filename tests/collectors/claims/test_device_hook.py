"""The hook that operators start from: what it has the node's own tools do, and when it says that it failed.

With real devices: `tests/acceptance/evidence.py`. What their emulator cannot do (sanitize, several name spaces, names
by UUID) is here, with `nvme` and `ip` that write down what they are told.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.needs import REPOSITORY

HOOK: Final = REPOSITORY / "docs/hooks/device-hook"
DRIVE, PORT, FUNCTION = "0000:02:00.0", "0000:01:00.0", "0000:01:10.2"
NVME: Final = """#!/bin/sh
echo "nvme $*" >> "$TOLD"
case $1 in
list-ns) printf '[   0]:0x1\\n[   1]:0x2\\n' ;;
id-ctrl) echo "sanicap   : $SANICAP" ;;
sanitize-log) echo "Sanitize Status                        (SSTAT) :  $SSTAT" ;;
esac
"""
IP: Final = """#!/bin/sh
echo "ip $*" >> "$TOLD"
case "$*" in *trust* | *"${REFUSED:-trust}") exit 2 ;; esac
"""


class Node:
    """A made-up machine below a folder, and what its tools were told."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.told = folder / "told"
        self.programs = folder / "bin"
        self.programs.mkdir(parents=True)
        for name, text in (("nvme", NVME), ("ip", IP)):
            (self.programs / name).write_text(text)
            (self.programs / name).chmod(0o755)
        for address in (DRIVE, PORT, FUNCTION):
            self.at(address).mkdir(parents=True)
        (self.root / "sys/bus/pci/drivers_probe").touch()

    def at(self, address: str) -> Path:
        """Give a function's folder."""
        return self.root / "sys/bus/pci/devices" / address

    def driver(self, address: str, name: str) -> None:
        """Let a function have a driver, which takes part in no binding."""
        folder = self.root / "sys/bus/pci/drivers" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "unbind").touch()
        (self.at(address) / "driver").symlink_to(folder)

    def drive(self, state: str = "live") -> Path:
        """Let there be a drive with two name spaces; gives its controller's folder."""
        self.driver(DRIVE, "nvme")
        controller = self.at(DRIVE) / "nvme/nvme3"
        for nsid, uuid in ((1, "1b4e28ba-2fa1-11d2-883f-0016d3cca427"), (2, "6fa459ea-ee8a-3ca4-894e-db77e160355e")):
            space = controller / f"nvme3n{nsid}"
            space.mkdir(parents=True)
            (space / "nsid").write_text(f"{nsid}\n")
            (space / "uuid").write_text(f"{uuid}\n")
        (controller / "state").write_text(f"{state}\n")
        (controller / "serial").write_text("S64HNE0             \n")
        return controller

    def port(self) -> None:
        """Let there be a port with two functions, and its view of one of them."""
        for index, address in enumerate(("0000:01:10.0", FUNCTION)):
            (self.at(PORT) / f"virtfn{index}").symlink_to(f"../{address}")
        (self.at(FUNCTION) / "physfn").symlink_to(f"../{PORT}")
        for name, view in (("ens1", "p0"), ("ens1_1", "pf0vf1")):
            (self.at(PORT) / "net" / name).mkdir(parents=True)
            (self.at(PORT) / "net" / name / "phys_port_name").write_text(f"{view}\n")

    def run(self, step: str, kind: str, **environment: str) -> tuple[int, list[str], str]:
        """Run the hook; gives its exit status, what tools were told, and the last line that it wrote."""
        known = {
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "TOLD": str(self.told),
            "SANICAP": "0",
            "SSTAT": "0x101",
            "MUSTER_STEP": step,
            "MUSTER_KIND": kind,
            "MUSTER_MODE": "passthrough",
            "MUSTER_ADDRESS": FUNCTION if kind == "vf" else DRIVE,
            "MUSTER_MEMBERS": "",
            "MUSTER_PARENT": "",
            "MUSTER_PART": "",
            "MUSTER_MAC": "",
            "MUSTER_VLAN": "",
        }
        done = subprocess.run(
            ["/bin/sh", str(HOOK), str(self.root), "0"],
            env=known | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
            check=False,
        )
        told = self.told.read_text().replace(f"{self.root}", "").splitlines() if self.told.exists() else []
        return done.returncode, told, done.stdout.strip().rpartition("\n")[2]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A machine without drives and ports yet."""
    return Node(tmp_path)


def test_drive_that_cannot_sanitize_is_formatted_with_erase_name_space_by_name_space(node: Node) -> None:
    node.drive()
    status, told, _ = node.run("clean", "nvme")
    assert 0 == status
    assert [f"nvme format /dev/nvme3 --namespace-id={nsid} --ses=1 --force" for nsid in ("0x1", "0x2")] == [
        line for line in told if "format" in line
    ]


@pytest.mark.parametrize(("able", "action"), [("0x3", 4), ("0x2", 2), ("0xa0000003", 4)])
def test_drive_that_can_is_sanitized_by_its_keys_or_else_its_blocks(node: Node, able: str, action: int) -> None:
    node.drive()
    status, told, _ = node.run("clean", "nvme", SANICAP=able)
    assert 0 == status
    assert [f"nvme sanitize /dev/nvme3 --sanact={action}"] == [line for line in told if "sanitize /" in line]
    assert not any("format" in line for line in told)


def test_sanitize_that_the_drive_calls_failed_fails_the_step(node: Node) -> None:
    node.drive()
    status, _, last = node.run("clean", "nvme", SANICAP="0x2", SSTAT="0x3")
    assert (1, "nvme3: its sanitize failed") == (status, last)


@pytest.mark.parametrize(
    ("part", "nsid"),
    [
        ("uuid:6fa459ea-ee8a-3ca4-894e-db77e160355e", 2),
        ("serial:1b36:6FA459EAEE8A3CA4894EDB77E160355E", 2),
        ("serial:1b36:S64HNE0/1", 1),
    ],
)
def test_name_space_is_found_by_whatever_name_it_goes(node: Node, part: str, nsid: int) -> None:
    node.drive()
    told = node.run("clean", "nvme-namespace", MUSTER_ADDRESS="", MUSTER_PARENT=DRIVE, MUSTER_PART=part)[1]
    assert [f"nvme format /dev/nvme3 --namespace-id={nsid} --ses=1 --force"] == [one for one in told if "format" in one]


def test_name_space_of_another_drive_is_not_taken_for_it(node: Node) -> None:
    node.drive()
    status, told, last = node.run(
        "clean", "nvme-namespace", MUSTER_ADDRESS="", MUSTER_PARENT=DRIVE, MUSTER_PART="serial:1b36:OTHER/1"
    )
    assert (1, f"the drive at {DRIVE} has no name space serial:1b36:OTHER/1") == (status, last)
    assert not any("format" in line for line in told)


def test_drive_that_does_not_come_up_fails_and_is_not_touched(node: Node) -> None:
    node.drive(state="resetting")
    assert (1, [], f"the drive at {DRIVE} does not come up") == node.run("clean", "nvme")


def test_function_gets_what_it_should_have_by_its_port_and_index(node: Node) -> None:
    """Not by the port's view of the function; and a driver without trust is no failure."""
    node.port()
    node.driver(FUNCTION, "vfio-pci")
    status, told, _ = node.run("clean", "vf", MUSTER_MAC="02:00:00:00:0a:00", MUSTER_VLAN="301")
    assert 0 == status
    assert ["mac 02:00:00:00:0a:00", "vlan 301", "trust off", "max_tx_rate 0"] == [
        line.removeprefix("ip link set dev ens1 vf 1 ") for line in told
    ]


def test_function_without_an_address_of_its_own_keeps_no_tenants(node: Node) -> None:
    node.port()
    node.driver(FUNCTION, "vfio-pci")
    told = node.run("clean", "vf", MUSTER_VLAN="0")[1]
    assert ["vlan 0", "mac 00:00:00:00:00:00"] == [one.removeprefix("ip link set dev ens1 vf 1 ") for one in told[:2]]


def test_function_whose_driver_knows_no_address_of_zeros_gets_another_than_its_tenants(node: Node) -> None:
    node.port()
    node.driver(FUNCTION, "vfio-pci")
    for _ in range(2):
        assert 0 == node.run("clean", "vf", MUSTER_VLAN="0", REFUSED="00:00:00:00:00:00")[0]
    told = node.run("clean", "vf", MUSTER_VLAN="0", REFUSED="00:00:00:00:00:00")[1]
    given = [found[1] for one in told if (found := re.search(r" mac (02:(?:[0-9a-f]{2}:){4}[0-9a-f]{2})$", one))]
    assert 3 == len(set(given))


def test_passthrough_asks_for_vfio_for_the_whole_group_and_says_when_it_does_not_come(node: Node) -> None:
    node.driver(DRIVE, "nvme")
    status, _, last = node.run("prepare", "nvme", MUSTER_MEMBERS=DRIVE)
    assert ("vfio-pci\n", f"{DRIVE}\n") == (
        (node.at(DRIVE) / "driver_override").read_text(),
        (node.root / "sys/bus/pci/drivers_probe").read_text(),
    )
    assert f"{DRIVE}\n" == (node.root / "sys/bus/pci/drivers/nvme/unbind").read_text()
    assert 1 == status
    assert last.startswith(f"vfio-pci does not take {DRIVE}")


@pytest.mark.parametrize(("step", "kind"), [("prepare", "nvme"), ("undo", "vf"), ("prepare", "nvme-namespace")])
def test_what_is_done_already_is_left_alone(node: Node, step: str, kind: str) -> None:
    node.driver(DRIVE, "vfio-pci")
    assert (0, []) == node.run(step, kind, MUSTER_MEMBERS=DRIVE)[:2]
    assert not (node.at(DRIVE) / "driver_override").exists()


@pytest.mark.parametrize(("step", "kind"), [("clean", "gpu"), ("prepare", "gpu-partition"), ("boil", "nvme")])
def test_what_it_cannot_do_it_refuses(node: Node, step: str, kind: str) -> None:
    assert 1 == node.run(step, kind)[0]
