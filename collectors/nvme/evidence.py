"""What a drive shows after its clean, for the evidence that the ledger checks: sanitized, or each name space formatted.

A sanitize is in the drive's own log, with whether anything was written since. A format is not: the kernel is watched
while the hook runs, so a format by somebody else, before or elsewhere, proves nothing here.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from collectors._procfs import names
from collectors.nvme import logs
from collectors.nvme.admin import AdminError, KernelAdmin, UnsupportedError
from collectors.nvme.formats import ALL, Format
from collectors.nvme.identify import CONTROLLER, Controller, parse_controller
from collectors.nvme.space import find_block
from collectors.nvme.units import Open, namespaces_of
from collectors.pci_sysfs import DEVICES
from schemas.evidence import UNSUPPORTED


class Shown(msgspec.Struct, frozen=True):
    """What a drive shows: the fields of `schemas.evidence.NvmeReadback` that are its own."""

    sanitize_status: str
    sanitize_method: str = ""
    data_written_since: bool | None = None
    formatted: list[int] = []
    namespaces: list[int] = []


def shown(root: Path, address: str, formats: Iterable[Format] = (), open_: Open = KernelAdmin) -> Shown | None:
    """Ask the drive at an address; None when it has no driver, or may not be asked. Nothing is open after.

    `formats`: those that the kernel saw since the clean began.
    """
    controllers = names(root / DEVICES / address / "nvme")
    if len(controllers) != 1:
        return None
    try:
        admin = open_(root / "dev" / controllers[0])
    except AdminError:
        return None
    try:
        controller = parse_controller(admin.identify(CONTROLLER))
        spaces = namespaces_of(admin)
        try:
            log = logs.parse_sanitize(admin.log_page(logs.SANITIZE, logs.SANITIZE_BYTES))
        except UnsupportedError:
            log = None
    except AdminError:
        return None
    finally:
        admin.close()
    running = {nsid for nsid, (space, _) in spaces.items() if space.format_percent_left is not None}
    own = [one.nsid for one in formats if one.controller == controllers[0]]
    formatted = sorted(_reached(own, set(spaces), controller) - running)
    if log is None:
        return Shown("", formatted=formatted, namespaces=sorted(spaces))
    return Shown(log.status, log.method, log.data_written_since, formatted, sorted(spaces))


def unread(root: Path, address: str) -> Shown:
    """Give what stands for a drive that cannot be asked: name spaces that the kernel has, and that no more is known."""
    folder = root / DEVICES / address / "nvme"
    found = set()
    for controller in names(folder):
        for one in names(folder / controller):
            try:
                found.add(int((folder / controller / one / "nsid").read_text()))
            except (OSError, ValueError):
                continue
    return Shown(UNSUPPORTED, namespaces=sorted(found))


def of_space(root: Path, address: str, part: str, found: Shown) -> Shown:
    """Give what a drive shows of one of its name spaces alone."""
    block = find_block(root, address, part)
    own = [] if block is None else [block.nsid]
    formatted = [nsid for nsid in found.formatted if nsid in own]
    return msgspec.structs.replace(found, formatted=formatted, namespaces=own)


def _reached(told: list[int], spaces: set[int], controller: Controller | None) -> set[int]:
    """Give the name spaces that formats erased: all, where one was for all, or the drive erases all with any."""
    if told and (ALL in told or (controller is not None and controller.erase_hits_all)):
        return set(spaces)
    return spaces & set(told)
