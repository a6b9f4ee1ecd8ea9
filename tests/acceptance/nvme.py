"""NVMe drives: what they answer is decoded as others decode it, and what changes is told.

A machine with the kernel's own driver whose agent reports its drives: `tests/vm/test_node.py`; drives that are claimed
and cleaned there: `evidence`. Requirements: R000-4, R000-6.
"""

import base64
import json
import sys
import zlib
from pathlib import Path
from typing import Final

from collectors.nvme import logs
from collectors.nvme.identify import parse_namespace
from collectors.nvme.readings import smart_fields
from tests.acceptance.stage import check, main
from tests.collectors.nvme import made
from tests.collectors.nvme.help import Machine as Collector
from tests.collectors.nvme.made import FakeDrive

CASE: Final = Path(__file__).parents[1] / "cases/nvme/qemu"
SEED_BYTES: Final = 3_840_755_982_336


def script(folder: Path) -> None:
    """Show drives from bytes to rows and events."""
    recorded()
    exact()
    changes(folder / "made")


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


if __name__ == "__main__":
    sys.exit(main(script))
