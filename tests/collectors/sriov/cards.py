"""The recorded card of `tests/cases/sriov/netdevsim`."""

import json
from pathlib import Path
from typing import Final

from collectors.sriov.devlink import DEVICES, HEALTH, INFO, PARAMS, PORTS, SWITCH
from tests.collectors.sriov.made import Answers

CASE: Final = Path(__file__).parents[2] / "cases/sriov/netdevsim"
COMMANDS: Final = {
    "devices": DEVICES,
    "ports": PORTS,
    "params": PARAMS,
    "health": HEALTH,
    "info": INFO,
    "switch": SWITCH,
}
CARD: Final = ("netdevsim", "netdevsim1")


def recorded() -> Answers:
    """Give the kernel that answers so."""
    made = Answers()
    for name, text in json.loads((CASE / "devlink.json").read_text()).items():
        made.cards[COMMANDS[name], CARD if name in ("info", "switch") else None] = bytes.fromhex(text)
    return made


def recorded_bytes() -> tuple[bytes, ...]:
    """Give its answers alone."""
    return tuple(recorded().cards.values())
