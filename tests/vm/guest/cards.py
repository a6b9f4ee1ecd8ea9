"""devlink and RDMA in the guest: what the collector `sriov` reads of them, beside what `devlink` and `rdma` say.

The card is netdevsim's, the RDMA link rxe over an igb port, its traffic that of an NVMe drive that the kernel exports
to itself. `python3.11 -m tests.vm.guest.cards` prints lines of JSON: `card` and `link` at every step, ours beside
theirs; `answers`, what the kernel answered; `event` as each comes.
"""

import contextlib
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from collectors.contract import Context
from collectors.sriov import SriovCollector
from collectors.sriov.cards import card_words, function_words
from collectors.sriov.devlink import DEVICES, HEALTH, INFO, PARAMS, PORTS, SWITCH, read_cards, read_health
from collectors.sriov.ears import CardEar
from collectors.sriov.health import health_changes, health_rows
from collectors.sriov.kernel import OwnKernel
from schemas.rows import Reading
from tests.vm.guest.modules import insert, load

CARD = ("netdevsim", "netdevsim1")
BUS = Path("/sys/bus/netdevsim")
BREAK = Path("/sys/kernel/debug/netdevsim/netdevsim1/health/break_health")
SECONDS = 30.0
LINK, ADDRESS, SUBSYSTEM = "rxe0/1", "10.9.0.1", "nqn.2026-11.test:loop"


class Guest:
    """The simulated card, and who asks the kernel for it."""

    def __init__(self) -> None:
        self.kernel = OwnKernel()
        self.asked: dict[str, str] = {}

    def devlink(self, command: int, handle: tuple[str, str] | None) -> bytes:
        """Ask, and keep what is answered."""
        answer = self.kernel.devlink(command, handle)
        self.asked[str(command)] = answer.hex()
        return answer

    def link(self, index: int, mask: int) -> bytes:
        """Ask."""
        return self.kernel.link(index, mask)

    def driver(self, interface: str, question: bytes, room: int) -> bytes:
        """Ask."""
        return self.kernel.driver(interface, question, room)

    def close(self) -> None:
        """Close."""
        self.kernel.close()

    def look(self, step: str) -> None:
        """Say what the card is, by us and by `devlink`."""
        card = read_cards(self)[CARD]
        health = {handle[1]: reporters for handle, reporters in read_health(self).items()}
        rows = [[dict(one.attributes), dict(one.fields)] for one in health_rows(health, {CARD[1]: "nic:x"})]
        theirs = {
            "info": tool("devlink", "dev", "info")["info"],
            "switch": tool("devlink", "dev", "eswitch", "show", "/".join(CARD))["dev"],
            "ports": tool("devlink", "port", "show")["port"],
            "health": tool("devlink", "health", "show")["health"],
            "params": tool("devlink", "dev", "param", "show")["param"],
        }
        ours = {
            "card": msgspec.to_builtins(card),
            "words": card_words(card),
            "functions": [function_words(card.port_of(index, 0)) for index in range(3)],
            "rows": rows,
        }
        say("card", {"step": step, "ours": ours, "theirs": theirs})


def cards() -> None:
    """Tell of the simulated card, step by step."""
    subprocess.run(("/bin/busybox", "mount", "-t", "debugfs", "debug", "/sys/kernel/debug"), check=True)
    load("psample")
    insert(Path("/muster/netdevsim.ko"))
    (BUS / "new_device").write_text("1 2\n")
    guest, ear = Guest(), CardEar()
    ear.heard(frozenset())
    guest.look("made")
    (BUS / "devices" / CARD[1] / "sriov_numvfs").write_text("2\n")
    run("devlink", "dev", "eswitch", "set", "/".join(CARD), "mode", "switchdev")
    guest.look("switched")
    before = {CARD[1]: read_health(guest)[CARD]}
    ear.heard(frozenset())
    BREAK.write_text("a message")
    until = time.monotonic() + SECONDS
    while not (heard := ear.heard(frozenset())) and time.monotonic() < until:
        time.sleep(0.05)
    guest.look("broken")
    after = {CARD[1]: read_health(guest)[CARD]}
    events = health_changes(before, after, {CARD[1]: "nic:x"})
    say("broke", [heard, [[one.type, one.severity.value, dict(one.detail)] for one in events]])
    os.seteuid(65534)
    say("unprivileged", msgspec.to_builtins(read_cards(guest)[CARD]))
    os.seteuid(0)
    say("answers", {str(one): guest.asked.get(str(one)) for one in (DEVICES, PORTS, SWITCH, PARAMS, INFO, HEALTH)})
    ear.close()
    guest.close()


def rdma() -> None:
    """Tell of an RDMA link, before and after its traffic."""
    for name in ("crc32_generic", "rdma_rxe", "nvmet-rdma", "nvme-rdma"):
        load(name)
    (port,) = Path("/sys/bus/pci/devices").glob("*/sriov_totalvfs")
    (interface,) = (port.parent / "net").iterdir()
    run("ip", "link", "set", interface.name, "up")
    run("ip", "address", "add", f"{ADDRESS}/24", "dev", interface.name)
    until = time.monotonic() + SECONDS
    while (interface / "carrier").read_text().strip() != "1" and time.monotonic() < until:
        time.sleep(0.1)  # the link is active once its port has a carrier
    run("rdma", "link", "add", "rxe0", "type", "rxe", "netdev", interface.name)
    context = Context(subject="guest", log=logging.getLogger("sriov"))
    collector = SriovCollector(SriovCollector.Config(), context)
    collector.start()
    links("idle", collector)
    exported()
    run("/usr/sbin/nvme", "connect", "-t", "rdma", "-a", ADDRESS, "-s", "4420", "-n", SUBSYSTEM)
    until = time.monotonic() + SECONDS
    while not (disks := sorted(Path("/dev").glob("nvme*n*"))) and time.monotonic() < until:
        time.sleep(0.1)
    for _ in range(4):
        run("busybox", "dd", f"if={disks[0]}", "of=/dev/null", "bs=64k", "count=8", "iflag=direct")
    run("/usr/sbin/nvme", "disconnect", "-n", SUBSYSTEM)
    time.sleep(1.0)
    links("used", collector)
    run("ip", "link", "set", interface.name, "down")
    time.sleep(1.0)
    links("down", collector)
    collector.stop()


def links(step: str, collector: SriovCollector) -> None:
    """Say what the link counted, by us and by `rdma`."""
    before = tool("rdma", "statistic", "show", "link", LINK)
    rows = [one for one in collector.collect() if isinstance(one, Reading) and one.measurement == "rdma"]
    after = tool("rdma", "statistic", "show", "link", LINK)
    documents = [msgspec.to_builtins(one) for one in collector.describe()]
    ours = [[one.device, dict(one.attributes), dict(one.fields)] for one in rows]
    state = tool("rdma", "link", "show")
    say("link", {"step": step, "ours": ours, "before": before, "after": after, "state": state, "documents": documents})


def exported() -> None:
    """Have the kernel export a RAM disk over RDMA."""
    config = Path("/sys/kernel/config")
    with contextlib.suppress(subprocess.CalledProcessError):
        run("busybox", "mount", "-t", "configfs", "config", str(config))
    backing = Path("/tmp/backing")
    with backing.open("wb") as file:
        file.truncate(8 << 20)
    subsystem = config / "nvmet/subsystems" / SUBSYSTEM
    subsystem.mkdir()
    (subsystem / "attr_allow_any_host").write_text("1")
    space = subsystem / "namespaces/1"
    space.mkdir()
    (space / "device_path").write_text(str(backing))
    (space / "buffered_io").write_text("1")  # a file in memory
    (space / "enable").write_text("1")
    port = config / "nvmet/ports/1"
    port.mkdir()
    for name, word in (("trtype", "rdma"), ("adrfam", "ipv4"), ("traddr", ADDRESS), ("trsvcid", "4420")):
        (port / f"addr_{name}").write_text(word)
    (port / "subsystems" / SUBSYSTEM).symlink_to(subsystem)


def tool(*command: str) -> Any:
    """Give what a program of iproute2 prints as JSON."""
    return json.loads(run(command[0], "-j", *command[1:]))


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
    cards()
    rdma()
