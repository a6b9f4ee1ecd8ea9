"""NVMe drives: what they answer is decoded as others decode it, what changes is told, and a machine reports them.

The machine is a virtual one with the kernel's own driver; its agent publishes to a `muster up` here.
Requirements: R000-4, R000-6, R001-13, R004-1.
"""

import base64
import json
import shutil
import sys
import zlib
from pathlib import Path
from typing import Any, Final

from collectors.nvme import logs
from collectors.nvme.identify import parse_namespace
from collectors.nvme.readings import smart_fields
from tests.acceptance.stage import Muster, check, main, say, stage, until
from tests.collectors.nvme import made
from tests.collectors.nvme.help import Machine as Collector
from tests.collectors.nvme.made import FakeDrive
from tests.vm.machine import Machine

CASE: Final = Path(__file__).parents[1] / "cases/nvme/qemu"
SEED_BYTES: Final = 3_840_755_982_336
AGENT: Final = """
[agent]
node_id = "drives"
[publish]
aggregators = ["http://10.0.2.2:{port}"]
enrolment_token = "{token}"
insecure = "tokens and data travel unencrypted"
[collectors.nvme]
interval_seconds = 1
health_every_seconds = 1
"""


def script(folder: Path) -> None:
    """Show drives from bytes to the ledger."""
    recorded()
    exact()
    changes(folder / "made")
    machine(folder)


def recorded() -> None:
    """What a drive answered, beside what nvme-cli printed of it."""
    told = json.loads((CASE / "pages.json").read_text())
    pages = {name: zlib.decompress(base64.b85decode(text)) for name, text in told.items()}
    theirs = json.loads((CASE / "nvme_cli.json").read_text())
    space, smart = parse_namespace(pages["identify 0 1"]), logs.parse_smart(pages["log 02"])
    check(
        space is not None and (space.sectors, space.capacity_bytes) == (theirs["namespace"]["nsze"], SEED_BYTES),
        "the seed drive: 937,684,566 sectors of 4,096 bytes, as nvme-cli has it",
    )
    check(
        smart is not None and smart.temperature_celsius == theirs["smart"]["temperature"] - 273,
        "its temperature: kelvins become degrees as for nvme-cli",
    )


def exact() -> None:
    """Counters beyond 64 bits."""
    smart = logs.parse_smart(made.smart(reads=2**127 + 1))
    check(smart is not None and smart.read_commands == 2**127 + 1, "a counter of 128 bits is decoded exactly")
    fields = smart_fields(smart) if smart else {}
    check(
        fields["read_commands_total"] is None and str(2**127 + 1) in str(fields["beyond_64_bits"]),
        "what no column holds is absent there, and spelled out beside it",
    )


def changes(root: Path) -> None:
    """A drive that wears out, fails and is pulled says so by events, once each."""
    made.drive(root)
    drive = FakeDrive()
    collector = Collector(root, nvme0=drive).start()
    collector.rows()
    drive.pages[logs.SMART] = made.smart(warning=5, spare=8, media=12, kelvin=352)
    collector.rows()
    kinds = sorted(one.type for one in collector.events())
    expected = ["nvme.critical_warning", "nvme.media_errors", "nvme.spare", "nvme.temperature"]
    check(kinds == expected, f"warning, media errors, spare and heat are events: {', '.join(kinds)}")
    collector.rows()
    check(not collector.events(), "and are told once")
    drive.denied = True
    row = collector.rows()["nvme nvme:S64HNE0"]
    check(
        row == {"state": "live", "temperature_celsius": 40.0},
        "without rights the kernel's own reader tells state and temperature, and nothing else is made up",
    )


def machine(folder: Path) -> None:
    """A machine with two drives, whose agent runs as it would anywhere."""
    if not shutil.which("qemu-system-x86_64"):
        say("no QEMU here: the machine with drives is not shown")
        return
    with stage(folder / "up") as muster:
        muster.start("up", "--quiet")
        muster.ready()
        token = muster.ask("token", "enrol", "--subject", "drives")["secret"]
        config = AGENT.format(port=muster.port, token=token).replace("\n", "\\n").replace('"', '\\"')
        command = (
            "busybox ip addr add 10.0.2.15/24 dev eth0 && busybox ip link set eth0 up && "
            f'printf "{config}" > /tmp/agent.toml && '
            "exec env MUSTER_CONFIG=/tmp/agent.toml MUSTER_DATA_DIR=/tmp/data python3.11 -m collectors.main "
            "--only nvme --only pci"
        )
        with Machine(command, memory=768, extra=devices(folder)) as guest:
            reported(muster, guest)


def devices(folder: Path) -> list[str]:
    """Give QEMU's arguments: a way to this machine, and the seed drive, whose image takes no room."""
    disk = folder / "seed.img"
    with disk.open("wb") as file:
        file.truncate(SEED_BYTES)
    return [
        *("-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0"),
        *("-drive", f"file={disk},if=none,format=raw,id=d0", "-device", "nvme,serial=SEED,id=SEED"),
        *("-device", "nvme-ns,drive=d0,bus=SEED,logical_block_size=4096,physical_block_size=4096"),
    ]


def reported(muster: Muster, guest: Machine) -> None:
    """See what the machine reports, and warm its drive."""
    row = until("a row of the drive", lambda: _last(muster, "nvme", "critical_warning"))
    check(
        (row["device"], row["temperature_celsius"]) == ("nvme:SEED", 50.0),
        f"the machine's agent reports its drive: {row['device']}, {row['temperature_celsius']} degrees",
    )
    drive = until("the drive as one device", lambda: _device(muster, "nvme"))
    told = drive["capabilities"]
    check(
        told["pci_class"] == "010802" and told["nvme_version"] == "1.4",
        "what `pci` and `nvme` say of it is one device in the ledger",
    )
    space = until("its name space", lambda: _device(muster, "nvme-namespace"))["capabilities"]
    found = (space["sectors"], space["sector_bytes"], space["lba_format"], space["capacity_bytes"])
    check(found == (937_684_566, 4096, "4096+0", SEED_BYTES), f"its name space is the seed drive's: {found}")
    guest.qmp("qom-set", path="/machine/peripheral/SEED", property="smart_critical_warning", value=4)
    event = until("the warning", lambda: _warning(muster))
    check("unreliable" in event["message"], f"a warning set from outside is an event: {event['message']}")


def _last(muster: Muster, measurement: str, field: str) -> dict[str, Any] | None:
    rows = muster.rows(measurement)
    return next((row for row in reversed(rows) if row.get(field) is not None), None)


def _device(muster: Muster, kind: str) -> dict[str, Any] | None:
    found = [one for one in muster.ask("devices", "--all") if one["kind"] == kind]
    complete = [one for one in found if kind != "nvme" or {"pci_class", "nvme_version"} <= one["capabilities"].keys()]
    return complete[0] if complete else None


def _warning(muster: Muster) -> dict[str, Any] | None:
    return next((row for row in muster.rows("event") if row["type"] == "nvme.critical_warning"), None)


if __name__ == "__main__":
    sys.exit(main(script))
