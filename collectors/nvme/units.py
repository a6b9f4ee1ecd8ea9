"""The drives that are here, each with what it said of itself and what it cannot say."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from collectors._dmi import usable
from collectors.nvme import logs
from collectors.nvme.admin import Admin, AdminError, DeniedError, DriveLostError, UnsupportedError
from collectors.nvme.identify import (
    ACTIVE_LIST,
    CONTROLLER,
    DESCRIPTORS,
    NAMESPACE,
    Controller,
    Namespace,
    parse_active_list,
    parse_controller,
    parse_namespace,
    parse_uuid,
)
from collectors.nvme.sysfs import Drive
from collectors.nvme.virtualization import Division
from collectors.pci_sysfs import asleep

Open = Callable[[Path], Admin]
_MOST_NAMESPACES: Final = 128
"""Name spaces of one drive that are asked for."""


class Unit(msgspec.Struct):
    """One drive, and what is known of it as long as its controller is there."""

    drive: Drive
    device: str
    """Its id."""
    serial: str
    """Its serial number when no other drive says the same; else ""."""
    controller: Controller | None = None
    """What it said of itself; None as long as it could not be asked."""
    firmware: logs.Firmware | None = None
    division: Division | None = None
    """Its secondary controllers; None when it has none, or could not be asked."""
    denied: str = ""
    """Why it may not be asked; "" when it may, or nobody tried."""
    problem: str = ""
    """Why it gave nothing the last time."""
    unsupported: set[int] = msgspec.field(default_factory=set)
    """Log pages that it lastingly does not have."""
    urgent: bool = False
    """Something happened: everything is read at the next turn."""

    @property
    def may_ask(self) -> bool:
        """Whether a command would be answered soon: not while it resets, and not when it would have to be woken."""
        return self.drive.live and not asleep(self.drive.function)

    @contextmanager
    def asked(self, root: Path, open_: Open, *, fresh: bool = False) -> Iterator[Admin | None]:
        """Have the drive open as long as the block runs; None when it cannot be. AdminErrors in the block end here.

        Nothing stays open: whoever wants to know whether anybody uses the drive must not find us. `fresh`: what it
        said of itself is asked for again.
        """
        self.problem = ""
        admin = None
        try:
            admin = open_(root / "dev" / self.drive.name)
            if self.controller is None or fresh:
                self.controller = parse_controller(admin.identify(CONTROLLER))
            self.denied = ""
        except AdminError as error:
            self._fail(error)
            if admin is not None:
                admin.close()
                admin = None
        try:
            yield admin
        except AdminError as error:
            self._fail(error)
        finally:
            if admin is not None:
                admin.close()

    def page(self, admin: Admin, page: int, size: int) -> bytes | None:
        """Give a log page; None when the drive does not have it, or not now. Raises DriveLostError, DeniedError."""
        if page in self.unsupported:
            return None
        try:
            return admin.log_page(page, size)
        except UnsupportedError:
            self.unsupported.add(page)
        except (DriveLostError, DeniedError):
            raise
        except AdminError as error:
            self.problem = str(error)
        return None

    def _fail(self, error: AdminError) -> None:
        if isinstance(error, DeniedError):
            self.denied = str(error)
        else:
            self.problem = str(error)


def make_units(drives: list[Drive], known: list[Unit]) -> list[Unit]:
    """Give a unit for each drive, keeping what is known of those whose controllers were there before."""
    before = {(unit.drive.name, unit.drive.inode): unit for unit in known}
    serials = Counter(_serial(drive) for drive in drives)
    controllers = Counter((_serial(drive), drive.controller_id) for drive in drives)
    found = []
    owner = {drive.address: _serial(drive) for drive in drives}
    for drive in drives:
        serial = _serial(drive)
        if serial and serials[serial] == 1:
            device = f"nvme:{serial}"
        elif serial and not drive.physical and controllers[serial, drive.controller_id] == 1:
            device = f"nvme:{serial}.{drive.controller_id}"
        else:
            device = f"nvme:{drive.address}"
        if drive.index is not None:
            whole = owner.get(drive.physical, "")
            whole = whole if serials[whole] == 1 else ""
            device = vf_device(f"nvme:{whole or drive.physical}", drive.index)
        unit = before.get((drive.name, drive.inode)) or Unit(drive, device, "")
        unit.drive, unit.device, unit.serial = drive, device, serial if serials[serial] == 1 else ""
        found.append(unit)
    return found


def vf_device(whole: str, index: int) -> str:
    """Give the id of a virtual function by its drive's, and its index, which outlive its making."""
    return f"vf:{whole.partition(':')[2]}/{index}"


def namespaces_of(admin: Admin) -> dict[int, tuple[Namespace, str]]:
    """Give the active name spaces by number, each with its UUID ("" for none). Raises AdminError."""
    found = {}
    for nsid in parse_active_list(admin.identify(ACTIVE_LIST))[:_MOST_NAMESPACES]:
        try:
            namespace = parse_namespace(admin.identify(NAMESPACE, nsid))
        except UnsupportedError:
            continue
        if namespace is not None:
            found[nsid] = namespace, _uuid(admin, nsid)
    return found


def _uuid(admin: Admin, nsid: int) -> str:
    try:
        return parse_uuid(admin.identify(DESCRIPTORS, nsid))
    except UnsupportedError:  # before version 1.3
        return ""


def _serial(drive: Drive) -> str:
    """Give what a drive says of itself alone; its virtual functions say their parent's number."""
    return "" if drive.physical else usable(drive.serial)
