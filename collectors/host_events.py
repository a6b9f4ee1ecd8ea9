"""The events of the collector `host`."""

from typing import Final

from schemas.events import EventSpec
from schemas.rows import Severity

_ERROR, _WARNING, _NOTICE = (Severity.ERROR,), (Severity.WARNING,), (Severity.NOTICE,)
_MOUNT: Final = ("mountpoint", "type", "source")
_LINK: Final = ("interface", "carrier_changes", "speed_bytes_per_second", "up")

EVENTS: Final = (
    EventSpec(
        "host.reboot",
        "The machine was started anew since its last row, with what is known of why.",
        (Severity.WARNING, Severity.NOTICE),
        ("boot_id", "boot_id_before", "cause"),
    ),
    EventSpec("host.file_system.read_only", "A file system turned read-only.", _ERROR, _MOUNT),
    EventSpec("host.file_system.writable", "A file system can be written again.", _NOTICE, _MOUNT),
    EventSpec("host.file_system.unavailable", "A file system does not answer in time.", _ERROR, ("mountpoint",)),
    EventSpec("host.file_system.available", "A file system answers again.", _NOTICE, ("mountpoint",)),
    EventSpec("host.link.up", "A network interface has its link.", _NOTICE, _LINK),
    EventSpec("host.link.down", "A network interface lost its link.", _WARNING, _LINK),
    EventSpec("host.link.flapped", "A link went down and came back between two looks.", _WARNING, _LINK),
    EventSpec("host.link.new", "A network interface appeared.", _NOTICE, _LINK),
    EventSpec("host.link.gone", "A network interface is gone.", _WARNING, _LINK),
)
"""What is told of the machine, its file systems and links."""
