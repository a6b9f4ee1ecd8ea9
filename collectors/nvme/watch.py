"""What the kernel tells of drives by itself: coming, going, resets, and what drives were told to tell.

Source: linux/drivers/nvme/host/core.c, nvme_class_uevent, nvme_aen_uevent and nvme_change_uevent. Linux asks drives for
notices of name spaces and firmware alone; those of their health come where an administrator set feature 0Bh.
"""

from typing import Final

import msgspec

from collectors._uevents import Uevent

_KINDS: Final = {0: "error", 1: "health", 2: "notice", 6: "io-command-set", 7: "vendor"}
_HEALTH: Final = {0: "reliability", 1: "temperature", 2: "spare"}
_NOTICE: Final = {
    0: "namespaces-changed",
    1: "firmware-activation",
    2: "telemetry-changed",
    3: "namespace-access-changed",
    4: "latency-events",
    5: "lba-status",
    6: "endurance-group",
}
_RESET: Final = "connected"
"""The kernel says so when a controller takes commands again after a reset."""


class Notice(msgspec.Struct, frozen=True):
    """What the kernel told of one controller."""

    name: str
    """`nvme0`; "" when it is not known which, and all are to be looked at."""
    reset: bool = False
    async_event: int | None = None
    """Dword 0 of the completion: type, information, log page."""


class AsyncEvent(msgspec.Struct, frozen=True):
    """An asynchronous event. Source: NVM Express Base Specification 2.0, 5.2.1."""

    kind: str
    information: str
    log_page: int


def notice_of(uevent: Uevent | None) -> Notice | None:
    """Give what an event of the kernel says of a drive; None when it is of something else."""
    if uevent is None:  # some were lost
        return Notice("")
    if uevent.subsystem == "nvme":
        name = uevent.path.rpartition("/")[2]
        text = uevent.values.get("NVME_AEN", "")
        return Notice(name, uevent.values.get("NVME_EVENT") == _RESET, _hexadecimal(text))
    if uevent.subsystem == "block" and uevent.path.rpartition("/")[2].startswith("nvme"):
        _, _, below = uevent.path.partition("/nvme/")  # what several controllers have is below none
        return Notice(below.partition("/")[0])
    return None


def parse_async(word: int) -> AsyncEvent:
    """Read dword 0 of the completion of an asynchronous event request."""
    kind, information, page = word & 7, word >> 8 & 0xFF, word >> 16 & 0xFF
    table = {1: _HEALTH, 2: _NOTICE}.get(kind, {})
    return AsyncEvent(_KINDS.get(kind, str(kind)), table.get(information, str(information)), page)


def _hexadecimal(text: str) -> int | None:
    digits = text.removeprefix("0x")
    if not digits or len(digits) > 8 or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
        return None
    return int(digits, 16)
